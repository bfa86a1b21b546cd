# SPDX-License-Identifier: BSD-3-Clause
"""Put the screens and the keys of the dashboard into docs/dashboard.md: python3 tools/dashboard_page.py.

Below `<!-- screen: NAME -->` stands the golden of that name, which tests make with the real dashboard.
Below `<!-- keys: PAGE -->` stand the keys that this page has and not every one, below `<!-- keys: all -->`
those that every page has, all from the list of actions. A test compares the page with what would be written.
"""

from __future__ import annotations

import re
from pathlib import Path

from piwheels_node.dashboard.actions import ACTIONS, MOVES, Action, shown
from piwheels_node.dashboard.screens import PAGES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "dashboard.md"
GOLDEN = ROOT / "tests" / "golden" / "dashboard"
_PLACE = re.compile(r"(<!-- (screen|keys): ([\w-]+) -->\n)\n.*?\n(?=<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with what is true now."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{_block(found[2], found[3])}\n", text)


def _block(kind: str, name: str) -> str:
    if kind == "screen":
        return f"```text\n{(GOLDEN / f'{name}.txt').read_text().rstrip()}\n```\n"
    rows = [(" ".join(f"`{shown(key)}`" for key in one.keys), _sentence(one)) for one in _actions(name)]
    if name == "all":
        rows += [(" ".join(f"`{shown(key)}`" for key in one.keys), one.sentence) for one in MOVES]
    if not rows:
        return "It has the keys of every page.\n"
    return "\n".join(["| key | |", "|---|---|", *(f"| {keys} | {sentence} |" for keys, sentence in rows), ""])


def _actions(page: str) -> list[Action]:
    if page == "all":
        return [one for one in ACTIONS if not one.pages]
    if page not in PAGES:
        raise SystemExit(f"there is no page '{page}'")
    return [one for one in ACTIONS if page in one.pages]


def _sentence(action: Action) -> str:
    notes = [
        note
        for note, holds in (("operators", action.for_operators), ("asks first", action.dangerous))
        if holds
    ]
    return f"{action.sentence} ({', '.join(notes)})" if notes else action.sentence


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
