# SPDX-License-Identifier: BSD-3-Clause
"""A log on the screen: it shows what it is given, follows its end, and says which part it needs next.

Who has it asks for `wish()` off the screen's thread, and hands the answer to `take`. It follows the end until
somebody scrolls up; at the end it follows again. What is searched and what shows the failure is marked.
"""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from piwheels_node.core.messages import LogSlice
from piwheels_node.dashboard.actions import MOVES
from piwheels_node.dashboard.logs import LINES_MOST, LogWindow, Row, Wish, find, places, rows
from piwheels_node.dashboard.look import Look
from piwheels_node.dashboard.words import Role

FIRST_BYTES = 512 << 10
"""How much of the end of a log is read first."""

LINES_BEFORE = 200
"""How many lines before the one that shows the failure are read with it."""

_ROOM_LINES = 2_000
_WIDEST = 8 * 4096


class LogView(ScrollView, can_focus=True):
    """A window into one log."""

    class Moved(Message):
        """What is shown, or what is wanted next, is another: the line of state is to be told anew."""

    class Wanted(Message):
        """A part is wanted now, not only when the log is looked at next."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"move('{move.name}')", show=False) for move in MOVES for key in move.keys),
        Binding("left", "scroll_left", show=False),
        Binding("right", "scroll_right", show=False),
    ]

    DEFAULT_CSS = """
    LogView { scrollbar-size: 0 0; overflow-x: auto; overflow-y: auto; }
    """

    def __init__(self, look: Look, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._look = look
        self.window = LogWindow()
        self.follow = True
        self.wrap = False
        self.unseen = 0
        self.evidence: int | None = None
        self.searched = ""
        self.found: int | None = None
        self._wish: Wish | None = Wish(last=FIRST_BYTES, anew=True)
        self._texts: list[str] = []
        self._rows: list[Row] | None = None
        self._settling = False
        self._goal: float | None = None

    # --- what it is given ----------------------------------------------------------------------------

    def begin(self, *, evidence: int | None = None) -> None:
        """Show another log: at the line that shows the failure, or at its end."""
        self.window = LogWindow()
        self.evidence = evidence
        self.follow, self.unseen, self.found = evidence is None, 0, None
        if evidence is None:
            self._wish = Wish(last=FIRST_BYTES, anew=True)
        else:
            self._wish = Wish(line=max(1, evidence - LINES_BEFORE), anew=True)
        self._lay_out()

    def wish(self) -> Wish | None:
        """The part that is wanted next; None where all is held that is looked at."""
        if self._wish is not None:
            return self._wish
        is_full = len(self.window.lines) > LINES_MOST - _ROOM_LINES
        return None if is_full and not self.follow else Wish(offset=self.window.end)

    def take(self, wish: Wish, part: LogSlice) -> None:
        """A part that was wanted has come."""
        if wish.anew:
            if wish != self._wish:
                return  # something else is wanted by now
            self._open(wish, part)
        elif part.data or part.size_bytes != self.window.size_bytes:
            self._go_on(part)
        if self.window.has_more and self.wish() is not None:
            self.post_message(self.Wanted())
        self.post_message(self.Moved())

    def _open(self, wish: Wish, part: LogSlice) -> None:
        self._wish = None
        inside = wish.line is None and wish.show != part.offset
        around = part.offset if wish.line is not None else wish.show
        self.window.open(part, wish.line, inside=inside, around=around)
        if wish.show is not None and wish.number is not None:
            self.window.tell_number(wish.show, wish.number)
        self._lay_out()
        if wish.line is not None and self.evidence is not None:
            self.show_line(self.evidence)
        elif wish.show is not None:
            self._show_index(self.window.lines_before(wish.show), found=bool(self.searched))
        elif self.follow:
            self._to_end()

    def _go_on(self, part: LogSlice) -> None:
        taken = self.window.take(part)
        before = self.scroll_y
        if taken.anew:
            self.evidence = self.found = None
        elif self.found is not None:
            self.found = self.found - taken.dropped if self.found >= taken.dropped else None
        dropped = len(rows(self._texts[: taken.dropped], self._width)) if self.wrap else taken.dropped
        self._lay_out()
        if self.follow or taken.anew:
            self._to_end()
        else:
            self.unseen += taken.new
            self._scroll(before - dropped)

    # --- what is done with it ------------------------------------------------------------------------

    def action_move(self, name: str) -> None:
        """Move as a key says; the first and the last line are those of the log."""
        page = max(1, self.size.height - 1)
        match name:
            case "first":
                self.to_start()
            case "last":
                self.to_end()
            case _:
                by = {"up": -1, "down": 1, "page-up": -page, "page-down": page}[name]
                if by < 0 and self.scroll_y <= 0:
                    self.earlier()
                if by > 0 and self.scroll_y >= self.max_scroll_y:
                    self.later()
                self.scroll_to(y=self.scroll_y + by, animate=False, force=True)

    @property
    def top_number(self) -> int | None:
        """The number of the first line on the screen, where it is known."""
        first = self.window.first_number
        return None if first is None or not self._texts else first + self._top_line()

    def last_lines(self, count: int) -> list[str]:
        """The last lines that are held."""
        return self._texts[-count:]

    def show_line(self, number: int) -> None:
        """Look at the line with this number; it is read where it is not held."""
        index = self.window.index_of(number)
        self.follow = False
        if index is not None:
            self._show_index(index)
        elif number == self.evidence:
            self._ask(Wish(line=max(1, number - LINES_BEFORE), anew=True))

    def to_start(self) -> None:
        """Look at the first line of the log."""
        self.follow = False
        if self.window.begin > 0:
            self._ask(Wish(offset=0, anew=True, show=0))
        else:
            self._scroll(0)
        self.post_message(self.Moved())

    def to_end(self) -> None:
        """Look at the end, and follow it."""
        self.follow, self.unseen = True, 0
        if self.window.has_more and self.window.size_bytes - self.window.end > FIRST_BYTES:
            self._ask(Wish(last=FIRST_BYTES, anew=True))
        else:
            self._to_end()
            self.post_message(self.Wanted())
        self.post_message(self.Moved())

    def earlier(self) -> None:
        """Read what stands before the first line that is held, where there is more."""
        if self.window.begin > 0 and self._wish is None:
            at, number = self.window.begin, self.window.first_number
            self._ask(Wish(offset=max(0, at - FIRST_BYTES), anew=True, show=at, number=number))

    def later(self) -> None:
        """Read on behind the last line that is held, where there is more than is read by itself."""
        if self.window.has_more and self.wish() is None:
            at, number = self.window.byte_of(self._top_line()), self.top_number
            self._ask(Wish(offset=at, anew=True, show=at, number=number))

    def search(self, words: str) -> bool:
        """Mark the words, and look at the next line that has them; False where no line that is held has."""
        self.searched, self.found = words, None
        return self.search_on()

    def search_on(self, *, backward: bool = False) -> bool:
        """Look at the next line that has the words, or at the one before."""
        if not self.searched:
            return True
        at = self._top_line() if self.found is None else self.found + (-1 if backward else 1)
        index = find(self._texts, self.searched, at, backward=backward)
        if index is not None:
            self.follow = False
            self._show_index(index, found=True)
        self.refresh()
        return index is not None

    def show_byte(self, offset: int) -> None:
        """Look at the line that begins at this byte of the log; it is read."""
        self.follow = False
        self._ask(Wish(offset=offset, anew=True, show=offset))

    def toggle_wrap(self) -> None:
        """Break long lines at the edge, or cut them there."""
        top = self._top_line()
        self.wrap = not self.wrap
        self._lay_out()
        self._show_index(top, at_top=True) if not self.follow else self._to_end()
        self.post_message(self.Moved())

    def toggle_follow(self) -> None:
        """Follow the end, or stay."""
        if self.follow:
            self.follow = False
            self.post_message(self.Moved())
        else:
            self.to_end()

    # --- how it is drawn -----------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        """The cells that the text has: the last column is for the scroll bar."""
        return max(1, self.size.width - 1)

    def _ask(self, wish: Wish) -> None:
        self._wish = wish
        self.post_message(self.Wanted())

    def _lay_out(self) -> None:
        """The size of what can be scrolled, after a change of lines, width or wrapping."""
        self._texts = self.window.texts
        self._rows = rows(self._texts, self._width) if self.wrap else None
        height = len(self._texts) if self._rows is None else len(self._rows)
        widest = 0 if self.wrap else max(map(_cells, self._texts), default=0)
        width = min(_WIDEST, max(widest, self._width))
        self._settling = True
        try:
            self.virtual_size = Size(width, height)
        finally:
            self._settling = False
        self.refresh()

    def on_resize(self) -> None:
        """The edge is elsewhere."""
        top = self._top_line()
        self._lay_out()
        if self.follow:
            self._to_end()
        elif self.wrap:
            self._show_index(top, at_top=True)

    def _to_end(self) -> None:
        self._scroll(self.virtual_size.height)

    def _scroll(self, y: float) -> None:
        """Look at a row; sizes are known only after the lay-out, so then it is done once more."""
        self._goal = max(0, y)
        self._scroll_now()
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        if self.follow:
            self._goal = self.max_scroll_y
        if self._goal is not None:
            self._scroll_now()
            self._goal = None
            self.post_message(self.Moved())

    def _scroll_now(self) -> None:
        self._settling = True
        try:
            self.scroll_to(y=self._goal, animate=False, force=True)
        finally:
            self._settling = False

    def _top_line(self) -> int:
        top = int(self.scroll_y)
        if self._rows is None:
            return top
        return self._rows[top].line if top < len(self._rows) else 0

    def _show_index(self, index: int, *, found: bool = False, at_top: bool = False) -> None:
        if found:
            self.found = index
        row = index
        if self._rows is not None:
            row = next((at for at, one in enumerate(self._rows) if one.line == index), 0)
        room = 0 if at_top else self.size.height // 3
        self._scroll(row - room)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls up wants to stay; whoever comes to the end wants to follow."""
        super().watch_scroll_y(old_value, new_value)
        if self._settling or old_value == new_value:
            return
        self.follow = new_value >= self.max_scroll_y and not self.window.has_more
        if self.follow:
            self.unseen = 0
        elif new_value <= 0 and new_value < old_value:
            self.earlier()
        elif new_value >= self.max_scroll_y:
            self.later()
        self.post_message(self.Moved())

    @property
    def _ground(self) -> Style:
        """What lies below the text: faint where nobody knows how it goes on."""
        ground = Style(color=self._look.foreground, bgcolor=self._look.background)
        return ground + self._look.roles[Role.FAINT] if self.screen.has_class("-stale") else ground

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        scroll_x, scroll_y = int(self.scroll_offset.x), int(self.scroll_offset.y)
        width = self._width
        blank = self._ground
        at = y + scroll_y
        row = self._row(at)
        text = Strip(self._segments(row, blank) if row else []).crop_extend(scroll_x, scroll_x + width, blank)
        return Strip([*text, Segment(self._track(y), blank + self._look.roles[Role.FAINT])], width + 1)

    def _track(self, y: int) -> str:
        """A piece of the scroll bar, where there is more than fits."""
        height, count = self.size.height, self.virtual_size.height
        if count <= height:
            return " "
        thumb = max(1, height * height // count)
        begin = round((height - thumb) * self.scroll_y / max(1, self.max_scroll_y))
        return self._look.glyphs.bar if begin <= y < begin + thumb else self._look.glyphs.track

    def _row(self, at: int) -> Row | None:
        if self._rows is not None:
            return self._rows[at] if at < len(self._rows) else None
        return Row(at, 0, len(self._texts[at])) if at < len(self._texts) else None

    def _segments(self, row: Row, blank: Style) -> list[Segment]:
        """The text of a row, with marks for what is searched and for what shows the failure."""
        text = self._texts[row.line]
        number = None if self.window.first_number is None else self.window.first_number + row.line
        base = blank
        if number is not None and number == self.evidence:
            base += self._look.roles[Role.BAD] + Style(reverse=True)
        elif row.line == self.found:
            base += self._look.cursor
        mark = base + self._look.roles[Role.WARN] + Style(reverse=True)
        segments, at = [], row.start
        for start, stop in places(text, self.searched):
            start, stop = max(start, row.start), min(stop, row.stop)  # noqa: PLW2901 - the part in this row
            if start < stop:
                segments += [Segment(text[at:start], base), Segment(text[start:stop], mark)]
                at = stop
        segments.append(Segment(text[at : row.stop], base))
        return segments


def _cells(text: str) -> int:
    """How wide a line is; most lines need no looking at each character."""
    return len(text) if text.isascii() else cell_len(text)
