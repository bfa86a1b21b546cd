# SPDX-License-Identifier: BSD-3-Clause
"""The base of our widgets: lines of cells, painted as they are; only lines that have changed are sent again.

Textual's own tables and labels read texts as markup, and paint all of themselves when one cell changes:
5.5 kB for a table of 80x24, where a line is 100 bytes. Here a text is never more than text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.dom import NoScreen
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from piwheels_node.dashboard.look import FULL, Look
from piwheels_node.dashboard.words import Cell, Line, Role, clean

_STYLES: dict[tuple[str, Role, Style, bool], Style] = {}


NEAR = 2
"""So many lines between two that have changed are painted with them: 100 bytes each, and quicker than it is
to paint two parts of a widget."""


class Painted(Widget):
    """A widget of lines; a subclass tells `line_at`, and calls `set_height` and `paint_line`."""

    DEFAULT_CSS = """
    Painted {
        height: auto;
        width: 1fr;
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._height = 1

    @functools.cached_property
    def look(self) -> Look:
        """Colours and glyphs, as the app has chosen."""
        look: Look = getattr(self.app, "look", FULL)
        return look

    @property
    def is_stale(self) -> bool:
        """True where data may not be true any more: they are painted faint."""
        try:
            return self.screen.has_class("-stale")
        except NoScreen:  # an answer came while the page was taken down
            return False

    def line_at(self, y: int, width: int) -> Line:
        """The cells of a line."""
        raise NotImplementedError

    def style_at(self, y: int) -> Style:  # noqa: ARG002 - for subclasses
        """What lies under a whole line."""
        return Style.null()

    def set_height(self, lines: int) -> None:
        """How many lines there are; a layout is only made where that has changed."""
        if self._height != lines:
            self._height = lines
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's signature
        """How high it is where the stylesheet does not say."""
        return self._height

    def paint_line(self, y: int) -> None:
        """Have one line painted again, and no other."""
        self.paint_lines(y, y + 1)

    def paint_lines(self, begin: int, end: int) -> None:
        """Have lines painted again up to `end`, and no other; at once they cost less than each by itself."""
        self.refresh(Region(0, begin, self.size.width, end - begin))

    def render_line(self, y: int) -> Strip:
        """Textual asks for a line."""
        width = self.size.width
        line = self.line_at(y, width)
        return painted(line, width, self.look, stale=self.is_stale, over=self.style_at(y))


def painted(line: Line, width: int, look: Look, *, stale: bool = False, over: Style | None = None) -> Strip:
    """A line as a strip of exactly `width` cells; what does not fit is cut off, and that is told."""
    over = over or Style.null()
    segments: list[Segment] = []
    used = 0
    for cell in line:
        words = clean(cell.words)
        if not words:
            continue
        size = cell_len(words)
        if (
            segments and words.isspace() and used + size <= width
        ):  # no colour is seen of it: fewer bytes to send
            segments[-1] = Segment(segments[-1].text + words, segments[-1].style)
            used += size
            continue
        style = _style(look, cell.role, over, stale=stale)
        if used + size > width:
            _cut(segments, Segment(words, style), width - used, look.glyphs.ellipsis)
            used = width
            break
        segments.append(Segment(words, style))
        used += size
    if used < width:
        segments.append(Segment(" " * (width - used), _style(look, Role.PLAIN, over, stale=stale)))
    return Strip(segments, width)


def _style(look: Look, role: Role, over: Style, *, stale: bool) -> Style:
    """Colours of a meaning on what lies below; there are few of these, and to add styles takes time."""
    key = (look.name, role, over, stale)
    found = _STYLES.get(key)
    if found is None:
        ground = Style(color=look.foreground, bgcolor=look.background)
        found = _STYLES[key] = ground + look.style(role, stale=stale) + over
    return found


def _cut(segments: list[Segment], more: Segment, room: int, ellipsis: str) -> None:
    """Add as much of the words as there is room for, and the sign that there is more."""
    if room > 0:
        segments.append(Segment(set_cell_size(more.text, room - 1) + ellipsis, more.style))
    elif segments:  # no cell is free: the last one of what stands there already tells it
        last = segments.pop()
        segments.append(Segment(set_cell_size(last.text, cell_len(last.text) - 1) + ellipsis, last.style))


def runs(lines: Iterable[int]) -> list[tuple[int, int]]:
    """Parts of a widget, as first line and line behind the last, that have all of these lines in them."""
    found: list[tuple[int, int]] = []
    for y in lines:
        if found and y - found[-1][1] <= NEAR:
            found[-1] = (found[-1][0], y + 1)
        else:
            found.append((y, y + 1))
    return found


def parts_at(line: Line) -> Sequence[tuple[int, int, Cell]]:
    """Where each cell of a line begins and ends, in cells of the terminal."""
    found, at = [], 0
    for cell in line:
        size = cell_len(clean(cell.words))
        found.append((at, at + size, cell))
        at += size
    return found
