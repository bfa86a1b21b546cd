# SPDX-License-Identifier: BSD-3-Clause
"""Questions over a page: is a dangerous deed meant; which action, page or builder is wanted; all keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input

from piwheels_node.dashboard.actions import MOVES, Action, on_page, shown
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.widgets.lines import Lines, title
from piwheels_node.dashboard.widgets.painted import Painted
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import Cell, Line, Role, clean, wrapped

QUESTION_WIDTH = 60
"""Of the words of a question, in the box that the stylesheet makes."""


HELP_WIDTH = 100
KEY_WIDTH, WORDS_WIDTH = 6, 14


class Choice(Painted):
    """A button of one line."""

    DEFAULT_CSS = """
    Choice { width: auto; height: 1; margin: 0 2 0 0; }
    """
    can_focus = True

    class Chosen(Message):
        """It was clicked at."""

        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

    def __init__(self, words: str, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._words = f" {words} "

    def get_content_width(self, *_: object) -> int:
        """As wide as its words."""
        return len(self._words)

    def line_at(self, y: int, width: int) -> Line:  # noqa: ARG002 - Painted's signature
        """Its words."""
        return [Cell(self._words, Role.STRONG)]

    def style_at(self, y: int) -> Style:  # noqa: ARG002 - Painted's signature
        """Like a cursor while it has the focus."""
        return self.look.cursor if self.has_focus else self.look.cursor_unfocused

    def on_focus(self) -> None:
        """It stands out."""
        self.refresh()

    def on_blur(self) -> None:
        """... and no more."""
        self.refresh()

    def on_click(self) -> None:
        """That one."""
        self.post_message(self.Chosen(self))


class Confirm(ModalScreen[bool]):
    """Whether a deed is meant; Enter at once means no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", show=False),
        Binding("n,escape", "answer(False)", show=False),
        Binding("left,right,up,down", "app.focus_next", show=False),
        Binding("enter,space", "choose", show=False),
    ]

    def __init__(self, action: Action, question: str) -> None:
        super().__init__()
        self._action = action
        self._question = question

    def compose(self) -> ComposeResult:
        """The question, and two answers."""
        with Vertical(id="box"):
            yield Lines(id="question")
            with Horizontal(id="answers"):
                yield Choice("Cancel", "cancel")
                yield Choice(f"{self._action.label.capitalize()} (y)", "yes")

    def on_mount(self) -> None:
        """Ask; the focus is on Cancel."""
        words = wrapped(clean(self._question), min(QUESTION_WIDTH, self.app.size.width - 6))
        self.query_one("#question", Lines).show(
            title(self._action.label.capitalize()), [], *([Cell(one)] for one in words), []
        )
        self.query_one("#cancel").focus()

    def action_answer(self, meant: str | bool) -> None:
        """That is the answer."""
        self.dismiss(bool(meant))

    def action_choose(self) -> None:
        """The answer that has the focus."""
        self.dismiss(self.focused is not None and self.focused.id == "yes")

    def on_choice_chosen(self, message: Choice.Chosen) -> None:
        """An answer was clicked at."""
        self.dismiss(message.choice.id == "yes")


@dataclass(frozen=True)
class Wanted:
    """What can be found by name: a line in the palette, and what it is."""

    words: str
    sentence: str
    key: str
    value: object = None


_WANTED: Arrangement[Wanted] = Arrangement(
    (
        Column("key", "", KEY_WIDTH, lambda one: Cell(one.key, Role.KEY)),
        Column("words", "", WORDS_WIDTH, lambda one: Cell(one.words, Role.STRONG)),
        Column("sentence", "", 20, lambda one: Cell(one.sentence, Role.FAINT), share=1),
    ),
    key=lambda one: one.words,
    text=lambda one: f"{one.words} {one.sentence}",
)


class Palette(ModalScreen[object]):
    """Find an action, a page or a builder by name; gives what was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", show=False),
        Binding("up", "move('up')", show=False),
        Binding("down", "move('down')", show=False),
        Binding("pageup", "move('page-up')", show=False),
        Binding("pagedown", "move('page-down')", show=False),
    ]

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        super().__init__()
        self._wanted = wanted
        self._table: Table[Wanted] = Table(_WANTED)
        self._table.can_focus = False

    def compose(self) -> ComposeResult:
        """Words, and what has them."""
        with Vertical(id="box"):
            words = Input(id="words", placeholder="what do you want?")
            words.cursor_blink = False
            yield words
            yield self._table

    def on_mount(self) -> None:
        """All at first."""
        self._table.show(self._wanted)
        self.query_one("#words").focus()

    def action_move(self, name: str) -> None:
        """The cursor moves while words are typed."""
        self._table.action_move(name)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Only what has the words."""
        self._table.rearrange(self._table.arrangement.filtered(event.value))

    def on_input_submitted(self) -> None:
        """That one."""
        selected = self._table.selected
        self.dismiss(selected.value if selected else None)

    def on_table_opened(self, event: Table.Opened) -> None:
        """A click on the selected one."""
        selected = event.table.selected
        self.dismiss(selected.value if selected else None)


class Help(ModalScreen[None]):
    """All keys of a page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "dismiss(None)", show=False)
    ]

    def __init__(self, page: str, *, operator: bool) -> None:
        super().__init__()
        self._table: Table[Wanted] = Table(_WANTED)
        self._told = [
            (" ".join(map(shown, one.keys[:2])), one.label, one.sentence)
            for one in on_page(page)
            if operator or not one.for_operators
        ] + [(" ".join(map(shown, one.keys[:2])), one.name, one.sentence) for one in MOVES]

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical(id="box"):
            yield Lines(id="question")
            yield self._table

    def on_mount(self) -> None:
        """Show it."""
        self.query_one("#question", Lines).show([*title("Keys"), Cell("  Escape closes", Role.FAINT)], [])
        width = min(HELP_WIDTH, self.app.size.width * 9 // 10) - KEY_WIDTH - WORDS_WIDTH - len("│   ─ ││")
        rows = []
        for key, words, sentence in self._told:
            first, *more = wrapped(sentence, max(10, width))
            rows += [Wanted(words, first, key), *(Wanted("", line, "") for line in more)]
        self._table.show(rows)
        self._table.focus()
