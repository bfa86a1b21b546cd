# SPDX-License-Identifier: BSD-3-Clause
"""Lines of words: some lead to other pages; and the bar at the top, headings, and the line of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from piwheels_node.dashboard.actions import Action, shown
from piwheels_node.dashboard.widgets.painted import Painted, parts_at
from piwheels_node.dashboard.words import Cell, Line, Place, Role, clean, length

NOTICE_S = 10.0
"""How long a result is told, if no key is pressed."""


class Lines(Painted):
    """Lines that are told by `show`. Where words lead to a page, it can be focused, and they be chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", show=False),
        Binding("right", "choose(1)", show=False),
    ]

    class Followed(Message):
        """Words that lead somewhere were chosen."""

        def __init__(self, place: Place) -> None:
            super().__init__()
            self.place = place

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._lines: tuple[Line, ...] = ()
        self._chosen = 0

    def show(self, *lines: Line) -> None:
        """Show these; only lines that differ are painted again."""
        before, self._lines = self._lines, tuple(tuple(line) for line in lines)
        self.can_focus = bool(self._links())
        self.set_height(len(lines))
        for y, line in enumerate(self._lines):
            if y >= len(before) or before[y] != line:
                self.paint_line(y)

    def _links(self) -> list[tuple[int, Place, Cell]]:
        return [
            (y, cell.leads_to, cell) for y, line in enumerate(self._lines) for cell in line if cell.leads_to
        ]

    def line_at(self, y: int, width: int) -> Line:  # noqa: ARG002 - Painted's signature
        """The line; the chosen words stand out while this is focused."""
        if y >= len(self._lines):
            return ()
        line = self._lines[y]
        if not self.has_focus:
            return line
        chosen = self.chosen
        return [
            Cell(f"[{cell.words}]", Role.TITLE, cell.leads_to) if chosen and cell is chosen[2] else cell
            for cell in line
        ]

    @property
    def chosen(self) -> tuple[int, Place, Cell] | None:
        """The words that Enter would follow: their line, and where they lead."""
        links = self._links()
        return links[min(self._chosen, len(links) - 1)] if links else None

    def open_chosen(self) -> None:
        """Follow them."""
        if self.chosen:
            self.post_message(self.Followed(self.chosen[1]))

    def action_choose(self, by: int) -> None:
        """Choose the next words that lead somewhere, or those before."""
        links = self._links()
        if links:
            self._chosen = (min(self._chosen, len(links) - 1) + by) % len(links)
            self.refresh()

    def on_focus(self) -> None:
        """What is chosen stands out."""
        self.refresh()

    def on_blur(self) -> None:
        """... and no more."""
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Follow what was clicked at."""
        if not 0 <= event.y < len(self._lines):
            return
        for begin, end, cell in parts_at(self._lines[event.y]):
            if begin <= event.x < end and cell.leads_to:
                self.post_message(self.Followed(cell.leads_to))


class Tail(Lines):
    """The last of its lines, as many as there is room for."""

    def show(self, *lines: Line) -> None:
        """Show the end of these."""
        before = self._lines
        super().show(*lines)
        if before != self._lines:
            self.refresh()

    def line_at(self, y: int, width: int) -> Line:
        """Counted from the last one."""
        return super().line_at(max(0, len(self._lines) - self.size.height) + y, width)


class Bar(Painted):
    """One line over the whole width: words on the left, words on the right."""

    DEFAULT_CSS = """
    Bar { height: 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._left: Line = ()
        self._right: Line = ()

    def show(self, left: Line, right: Line = ()) -> None:
        """Show these."""
        told = (tuple(left), tuple(right))
        if told != (self._left, self._right):
            self._left, self._right = told
            self.refresh()

    def style_at(self, y: int) -> Style:  # noqa: ARG002 - Painted's signature
        """The bar's own background."""
        return self.look.bar

    def line_at(self, y: int, width: int) -> Line:  # noqa: ARG002 - Painted's signature
        """Both ends; what is in the middle gives way."""
        room = width - length(self._right)
        left = [*self._left, Cell(" " * max(1, room - length(self._left)))]
        while length(left) > room and len(left) > 1:
            left.pop()
        return [*left, Cell(" " * max(0, room - length(left))), *self._right]


class Heading(Bar):
    """What follows: a title in a rule, and notes at its right end."""

    def style_at(self, y: int) -> Style:  # noqa: ARG002 - Painted's signature
        """A rule lies on the page's background."""
        return Style.null()

    def line_at(self, y: int, width: int) -> Line:  # noqa: ARG002 - Painted's signature
        """A rule from end to end."""
        rule = self.look.glyphs.rule
        left, right = [Cell(rule + " ", Role.FAINT), *self._left, Cell(" ")], []
        if self._right:
            right = [Cell(" "), *self._right, Cell(" " + rule, Role.FAINT)]
        middle = max(0, width - length(left) - length(right))
        return [*left, Cell(rule * middle, Role.FAINT), *right]


class Keys(Painted):
    """The last line: what can be done now, by which key; or what came of the last deed."""

    DEFAULT_CSS = """
    Keys { height: 1; dock: bottom; }
    """

    class Pressed(Message):
        """A hint was clicked at."""

        def __init__(self, action: Action) -> None:
            super().__init__()
            self.action = action

    def __init__(self) -> None:
        super().__init__()
        self._hints: tuple[Action, ...] = ()
        self._notice: Cell | None = None

    def show(self, hints: Sequence[Action]) -> None:
        """Show what can be done."""
        if self._hints != tuple(hints):
            self._hints = tuple(hints)
            self.refresh()

    def say(self, words: str, role: Role) -> None:
        """Tell a result in place of the keys, for a while."""
        self._notice = Cell(" " + words, role)
        self.refresh()
        self.set_timer(NOTICE_S, self.forget)

    def forget(self) -> None:
        """Show the keys again."""
        if self._notice is not None:
            self._notice = None
            self.refresh()

    def style_at(self, y: int) -> Style:  # noqa: ARG002 - Painted's signature
        """The background of bars."""
        return self.look.bar

    def line_at(self, y: int, width: int) -> Line:  # noqa: ARG002 - Painted's signature
        """The hints that fit, or the notice."""
        if self._notice:
            return [self._notice]
        return [cell for _, _, _, cells in self._placed(width) for cell in cells]

    def _placed(self, width: int) -> list[tuple[int, int, Action, Line]]:
        """Each hint that fits: where it begins and ends. The last two go last."""
        made = [
            (action, (Cell(" "), Cell(shown(action.keys[0]), Role.KEY), Cell(" " + action.label + " ")))
            for action in self._hints
        ]
        while len(made) > 1 and sum(length(cells) for _, cells in made) > width:
            made.pop(max(0, len(made) - 3))
        placed: list[tuple[int, int, Action, Line]] = []
        at = 0
        for action, cells in made:
            placed.append((at, at + length(cells), action, cells))
            at += length(cells)
        return placed

    def on_click(self, event: events.Click) -> None:
        """Do what was clicked at."""
        if self._notice:
            self.forget()
            return
        for begin, end, action, _ in self._placed(self.size.width):
            if begin <= event.x < end:
                self.post_message(self.Pressed(action))


def title(words: str, count: int | None = None) -> Line:
    """The left end of a heading."""
    line = [Cell(clean(words), Role.TITLE)]
    return line if count is None else [*line, Cell(f" ({count})", Role.FAINT)]
