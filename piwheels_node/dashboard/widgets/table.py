# SPDX-License-Identifier: BSD-3-Clause
"""A table: rows with a cursor that stays with its row, ordered and filtered by an `Arrangement`.

Only the rows on the screen are made into cells, and of those only the changed ones are painted again: a
refresh costs what is seen, whether there are 3 rows or 300.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from piwheels_node.dashboard.actions import MOVES
from piwheels_node.dashboard.listing import GAP, Arrangement, Column, fitting
from piwheels_node.dashboard.widgets.painted import Painted, painted, runs
from piwheels_node.dashboard.words import Cell, Line, Role, clean, fit, length

T = TypeVar("T")
_BETWEEN = Cell(" " * GAP)
WHEEL = 3
"""Rows that one step of the mouse wheel moves."""


class _Content(NamedTuple):
    """A line of a table, and all else that decides how it looks."""

    line: Line
    style: Style
    width: int
    stale: bool


class Table(Painted, Generic[T]):
    """Rows of one kind; `show` tells them, `arrange` how they are arranged."""

    DEFAULT_CSS = """
    Table { height: 1fr; min-height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"move('{move.name}')", show=False) for move in MOVES for key in move.keys
    ]

    can_focus = True

    class Moved(Message):
        """Another row is under the cursor, or it has changed."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

    class Opened(Message):
        """A row was chosen."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

    class Arranged(Message):
        """It is arranged in another way."""

        def __init__(self, table: Table[Any]) -> None:
            super().__init__()
            self.table = table

    def __init__(self, arrangement: Arrangement[T], *, id: str | None = None, empty: str = "nothing") -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.arrangement = arrangement
        self._empty = empty
        self._rows: Sequence[T] = ()
        self._shown: Sequence[T] = ()
        self._cursor = 0
        self._top = 0
        self._fitted: tuple[Sequence[Column[T]], int, list[tuple[Column[T], int]]] | None = None
        self._thumb: range | None = None
        "The lines of the scroll bar's thumb, where there is more than fits."
        self._ready: dict[int, _Content] = {}
        self._painted: dict[int, _Content] = {}

    # --- what is shown ---------------------------------------------------------------------------------

    def show(self, rows: Sequence[T]) -> None:
        """Show these rows; the cursor stays with its row."""
        self._rows = rows
        self._again()

    def rearrange(self, arrangement: Arrangement[T]) -> None:
        """Order and filter in another way."""
        self.arrangement = arrangement
        self._again()
        self.post_message(self.Arranged(self))

    @property
    def selected(self) -> T | None:
        """The row under the cursor."""
        return self._shown[self._cursor] if self._cursor < len(self._shown) else None

    @property
    def key_selected(self) -> str | None:
        """The key of that row."""
        selected = self.selected
        return None if selected is None else self.arrangement.key(selected)

    @property
    def count(self) -> int:
        """How many rows are shown."""
        return len(self._shown)

    @property
    def needed(self) -> int | None:
        """How many rows, from the first on, decide what is seen; None: all, to order or to choose from."""
        return None if self.arrangement.is_special else self._top + self.size.height

    @property
    def columns_shown(self) -> list[str]:
        """The names of the columns that fit."""
        return [column.name for column, _ in self._columns(self.size.width)]

    def _columns(self, width: int) -> list[tuple[Column[T], int]]:
        """The columns that fit; the last cell of a line is for the scroll bar."""
        columns = self.arrangement.columns
        if self._fitted is None or self._fitted[0] is not columns or self._fitted[1] != width:
            self._fitted = (columns, width, fitting(columns, width - 1))
        return self._fitted[2]

    def _again(self) -> None:
        key = self.arrangement.key
        before = self.key_selected
        self._shown = self.arrangement.apply(self._rows)
        places = (at for at, row in enumerate(self._shown) if before is not None and key(row) == before)
        self._cursor = next(places, max(0, min(self._cursor, len(self._shown) - 1)))
        self.set_height(len(self._shown) + 1)
        self._keep_in_sight()
        self._paint_changes()
        if self.key_selected != before:
            self.post_message(self.Moved(self))

    def _paint_changes(self) -> None:
        """Have those lines painted that do not show what they should."""
        (width, height), stale = self.size, self.is_stale
        for y in range(height):
            self._ready[y] = self._content(y, width, stale=stale)
        for begin, end in runs(y for y in range(height) if self._painted.get(y) != self._ready[y]):
            self.paint_lines(begin, end)

    def _content(self, y: int, width: int, *, stale: bool) -> _Content:
        """All that decides how a line looks: compared with what was painted last."""
        return _Content(tuple(self.line_at(y, width)), self.style_at(y), width, stale)

    # --- painting --------------------------------------------------------------------------------------

    def line_at(self, y: int, width: int) -> Line:
        """The titles, which always stay, or a row."""
        at = self._top + y - 1
        if y == 0:
            line = self._titles(width)
        elif at < len(self._shown):
            line = self._row(self._shown[at], width)
        else:
            said = self._empty if not self._rows else "no row is like that; Escape shows all"
            return [Cell(f" {said}", Role.FAINT)] if at == 0 else ()
        track = self._track(y)
        return [*line, Cell(" " * (width - 1 - length(line))), track] if track else line

    def _row(self, row: T, width: int) -> list[Cell]:
        line, ellipsis = [], self.look.glyphs.ellipsis
        for column, size in self._columns(width):
            words, role, _ = column.cell(row)
            line.append(Cell(fit(clean(words), size, ellipsis, right=column.right), role))
            line.append(_BETWEEN)
        return line[:-1]

    def _titles(self, width: int) -> list[Cell]:
        line, glyphs = [], self.look.glyphs
        for column, size in self._columns(width):
            words = column.title
            if column.name == self.arrangement.ordered_by:
                rises = column.falling == self.arrangement.reverse
                words += glyphs.ascending if rises else glyphs.descending
            line.append(Cell(fit(words, size, glyphs.ellipsis, right=column.right), Role.FAINT))
            line.append(_BETWEEN)
        return line[:-1]

    def _track(self, y: int) -> Cell | None:
        """A piece of the scroll bar, where there is more than fits."""
        if y == 0 or self._thumb is None:
            return None
        glyphs = self.look.glyphs
        return Cell(glyphs.bar if y in self._thumb else glyphs.track, Role.FAINT)

    def style_at(self, y: int) -> Style:
        """The cursor."""
        at = self._top + y - 1
        if y == 0 or at != self._cursor or at >= len(self._shown):
            return Style.null()
        return self.look.cursor if self.has_focus else self.look.cursor_unfocused

    def render_line(self, y: int) -> Strip:
        """Paint a line, and remember what."""
        width, stale = self.size.width, self.is_stale
        content = self._ready.get(y)
        if content is None or (content.width, content.stale) != (width, stale):
            content = self._content(y, width, stale=stale)
        self._painted[y] = content
        return painted(content.line, width, self.look, stale=stale, over=content.style)

    # --- moving ----------------------------------------------------------------------------------------

    def action_move(self, name: str) -> None:
        """Move the cursor as a key says."""
        page = max(1, self.size.height - 2)
        last = len(self._shown) - 1
        to = {
            "up": self._cursor - 1,
            "down": self._cursor + 1,
            "page-up": self._cursor - page,
            "page-down": self._cursor + page,
            "first": 0,
            "last": last,
        }[name]
        self._move_to(to)

    def select(self, key: str) -> None:
        """Put the cursor on the row of this key, if it is shown."""
        for at, row in enumerate(self._shown):
            if self.arrangement.key(row) == key:
                self._move_to(at)

    def _move_to(self, at: int) -> None:
        at = max(0, min(at, len(self._shown) - 1))
        if at != self._cursor:
            self._cursor = at
            self._keep_in_sight()
            self._paint_changes()
            self.post_message(self.Moved(self))

    def _keep_in_sight(self) -> None:
        """Scroll so that the cursor is seen; the titles take one line."""
        height, count = max(1, self.size.height - 1), len(self._shown)
        top = min(max(self._top, self._cursor - height + 1), self._cursor)
        self._top = max(0, min(top, count - height))
        self._thumb = None
        if count > height:
            size = max(1, height * height // count)
            begin = 1 + (height - size) * self._top // (count - height)
            self._thumb = range(begin, begin + size)

    def open_chosen(self) -> None:
        """Choose the row under the cursor."""
        if self.selected is not None:
            self.post_message(self.Opened(self))

    def on_focus(self) -> None:
        """The cursor stands out."""
        self._paint_changes()

    def on_blur(self) -> None:
        """... less."""
        self._paint_changes()

    def on_resize(self) -> None:
        """Other columns may fit."""
        self._ready.clear()
        self._keep_in_sight()
        self.refresh()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel moves the cursor: what is selected is always seen."""
        event.stop()
        self._move_to(self._cursor + WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """... and back."""
        event.stop()
        self._move_to(self._cursor - WHEEL)

    def on_click(self, event: events.Click) -> None:
        """A title orders, a row is selected, a selected row is opened."""
        at = self._top + event.y - 1
        if event.y == 0:
            self._order_at(event.x)
        elif at == self._cursor:
            self.open_chosen()
        elif at < len(self._shown):
            self._move_to(at)

    def _order_at(self, x: int) -> None:
        begin = 0
        for column, size in self._columns(self.size.width):
            if begin <= x < begin + size:
                self.rearrange(self.arrangement.ordered(column.name))
            begin += size + GAP
