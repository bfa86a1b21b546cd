# SPDX-License-Identifier: BSD-3-Clause
"""All that can be done on the dashboard, in one list: `ACTIONS`.

Key bindings, the line of keys, the help page, the palette and docs/dashboard.md are made from it. An action
is one of two kinds:

- a step on the screen: the page, or else the app, has a method `act_NAME` (`-` becomes `_`);
- a deed (`Action.deed`, from `deeds.py`): it tells the master something, off the screen's thread, and its
  result is told. Deeds need an operator's key, and are not offered to others. A dangerous one asks first.

It is offered on the pages that it names (none: on all), and where it is a deed, if it fits the subject.
This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from piwheels_node.core.access import Access
from piwheels_node.dashboard import deeds
from piwheels_node.dashboard.deeds import Deed, Subject

TABLES = frozenset({"home", "queue", "failures", "packages", "builder"})
"""Pages with a table that can be ordered and filtered."""

_FAILURES = frozenset({"failures"})
_LOGS = frozenset({"build"})
_SEARCHED = _LOGS | {"packages"}
_RANGES = frozenset({"failures", "statistics"})
_FILTERED = TABLES - {"packages"}
_BUILDERS = frozenset({"home", "builder"})
_JOBS = frozenset({"builder", "build", "queue", "failures", "packages"})


@dataclass(frozen=True)
class Action:
    """One thing that can be done.

    `keys` are Textual's names of keys, the first one is shown; `label` is for the line of keys, `sentence`
    for help and docs. `hint` is its place in the line of keys; 0: it is only in the help.
    """

    name: str
    keys: tuple[str, ...]
    label: str
    sentence: str
    pages: frozenset[str] = frozenset()
    hint: int = 0
    deed: Deed | None = None

    @property
    def dangerous(self) -> bool:
        """True where it asks before it acts."""
        return self.deed is not None and self.deed.question is not None

    @property
    def for_operators(self) -> bool:
        """True where it needs an operator's key."""
        return self.deed is not None


ACTIONS: tuple[Action, ...] = (
    Action(
        "open",
        ("enter",),
        "open",
        "Open what is selected: a builder, a build, the list behind a number.",
        hint=1,
    ),
    Action("back", ("escape",), "back", "Go back to where you came from; in a filter, leave it.", hint=11),
    Action("filter", ("slash",), "filter", "Show only the rows that have these words.", _FILTERED, hint=3),
    Action(
        "faults",
        ("exclamation_mark",),
        "faults",
        "Show only the rows with something wrong; again: all.",
        TABLES,
        hint=4,
    ),
    Action("order", ("o",), "order", "Order by the next column.", TABLES, hint=10),
    Action("reverse", ("O",), "reverse", "Turn the order round.", TABLES),
    Action(
        "pause",
        ("p",),
        "pause",
        "Let a builder stand still: its build is frozen, and it takes no jobs.",
        _BUILDERS,
        6,
        deeds.PAUSE,
    ),
    Action(
        "resume", ("u",), "resume", "Let a builder go on after pause or drain.", _BUILDERS, 6, deeds.RESUME
    ),
    Action("approve", ("A",), "approve", "Let a machine that has joined build.", _BUILDERS, 6, deeds.APPROVE),
    Action(
        "drain",
        ("D",),
        "drain",
        "Let a builder finish what it builds, and take no more.",
        _BUILDERS,
        7,
        deeds.DRAIN,
    ),
    Action(
        "skip",
        ("S",),
        "skip",
        "Cancel what a builder builds now, or a job: nobody builds it. For a package that does no good.",
        _BUILDERS | _JOBS,
        8,
        deeds.SKIP,
    ),
    Action(
        "kill",
        ("K",),
        "kill",
        "End what a builder builds now, and queue it again. For a build that hangs.",
        _BUILDERS | _JOBS,
        9,
        deeds.KILL,
    ),
    Action("retry", ("R",), "retry", "Build a job that has ended once more.", _JOBS, 6, deeds.RETRY),
    Action(
        "retry-failed",
        ("A",),
        "retry all",
        "Build all jobs once more that failed for the selected reason, of the selected project.",
        _FAILURES,
        5,
        deeds.RETRY_FAILED,
    ),
    Action(
        "request",
        ("b",),
        "build",
        "Ask for the selected release to be built for its target, before all others.",
        frozenset({"packages"}),
        4,
        deeds.REQUEST,
    ),
    Action(
        "pause-farm",
        ("P",),
        "pause all",
        "Let the whole farm stand still.",
        frozenset({"home"}),
        0,
        deeds.PAUSE_FARM,
    ),
    Action(
        "resume-farm",
        ("U",),
        "resume all",
        "Let the farm go on; what was told to one builder stays.",
        frozenset({"home"}),
        0,
        deeds.RESUME_FARM,
    ),
    Action(
        "search",
        ("slash",),
        "search",
        "Look for words in the log, or for another project.",
        _SEARCHED,
        hint=3,
    ),
    Action("next", ("n",), "next", "The next line of the log that has the words.", _LOGS),
    Action("previous", ("N",), "previous", "The line before that has the words.", _LOGS),
    Action(
        "evidence",
        ("e",),
        "evidence",
        "The line of the log that shows why the build failed.",
        _LOGS,
        hint=4,
    ),
    Action(
        "view",
        ("v",),
        "view",
        "Other parts of the page: what is known, the log alone, builds, what happened.",
        _LOGS | {"builder"},
        hint=5,
    ),
    Action("follow", ("f",), "follow", "Follow the end of the log, or stay where you are.", _LOGS, hint=7),
    Action("wrap", ("w",), "wrap", "Break long lines of the log at the edge, or cut them.", _LOGS, hint=8),
    Action("save", ("s",), "save", "Save the whole log in a file of this directory.", _LOGS, hint=9),
    Action(
        "report",
        ("B",),
        "report",
        "Save what is known of the build and the end of its log, for whoever is to mend it.",
        _LOGS,
    ),
    Action("range", ("t",), "time", "The next longer range of time.", _RANGES, hint=3),
    Action("home", ("1",), "home", "The farm: builders, and why builds fail."),
    Action("queue", ("2",), "queue", "What is to be built, by target and priority."),
    Action("failures", ("3",), "failures", "Why builds failed, and which."),
    Action("packages", ("4",), "packages", "Any project: what PyPI has, what is here, and why or why not."),
    Action("statistics", ("5",), "statistics", "Builds over time, per builder, by reason and by tag."),
    Action("node", ("6",), "node", "This machine: what it is, what pip uses, what it builds."),
    Action("refresh", ("r", "f5"), "refresh", "Ask the master now."),
    Action(
        "commands", ("colon", "ctrl+p"), "commands", "Find an action, a page or a builder by name.", hint=97
    ),
    Action("help", ("question_mark", "f1"), "help", "All keys of this page.", hint=98),
    Action("quit", ("q", "ctrl+c", "ctrl+q"), "quit", "Leave the dashboard.", hint=99),
)


@dataclass(frozen=True)
class Move:
    """How the cursor of a table moves."""

    name: str
    keys: tuple[str, ...]
    sentence: str


MOVES: tuple[Move, ...] = (
    Move("up", ("up", "k"), "One row up."),
    Move("down", ("down", "j"), "One row down."),
    Move("page-up", ("pageup",), "One screen up."),
    Move("page-down", ("pagedown",), "One screen down."),
    Move("first", ("home", "g"), "To the first row."),
    Move("last", ("end", "G"), "To the last row."),
)

BY_NAME = {one.name: one for one in ACTIONS}

_SHOWN = {
    "slash": "/",
    "exclamation_mark": "!",
    "colon": ":",
    "question_mark": "?",
    "escape": "esc",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "full_stop": ".",
    "plus": "+",
    "minus": "-",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "asterisk": "*",
}


def shown(key: str) -> str:
    """A key as people know it: `/` for Textual's `slash`, `^p` for `ctrl+p`."""
    return _SHOWN.get(key, key.replace("ctrl+", "^"))


def on_page(page: str) -> list[Action]:
    """What a page has at all, in the order of the list."""
    return [one for one in ACTIONS if not one.pages or page in one.pages]


def is_offered(action: Action, page: str, subject: Subject, access: Access) -> bool:
    """True where the action can be taken now: it is of this page, this user may, and it fits the subject."""
    if action.pages and page not in action.pages:
        return False
    if action.deed is None:
        return True
    return access.may_act and action.deed.fits(subject)


def hints(actions: Iterable[Action]) -> list[Action]:
    """The actions for the line of keys, the most useful first; help and quit are the last."""
    return sorted((one for one in actions if one.hint), key=lambda one: one.hint)
