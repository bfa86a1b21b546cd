# SPDX-License-Identifier: BSD-3-Clause
"""Logs of builds for the screen: bytes in parts of any size become clean lines, of which some are kept.

    LogSlice -> LineReader: whole lines, harmless to a terminal
             -> LogWindow: the lines around what is looked at
             -> rows(): what of a line stands in which row of the screen, cut at the edge or wrapped

A log is hostile input and may be large: no line keeps more than `LINE_BYTES` of itself, no window more than
`LINES_MOST` lines or `CHARACTERS_MOST` characters. Lines are counted as the master does, by line feeds.
This module must not import Textual.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rich.cells import cell_len, get_character_cell_size

from piwheels_node.core.messages import LogSlice
from piwheels_node.core.text import harmless
from piwheels_node.dashboard.words import visible

LINE_BYTES = 4096
LINES_MOST = 10_000
CHARACTERS_MOST = 4_000_000
SEEK_BYTES = 512 << 10
"""How much of a log is looked through at once, backward; a line longer than that is not found."""

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
"""What a terminal obeys: colours and movements, titles, and the rest."""

_TAB = 8


class LogLine(NamedTuple):
    """A line as it is shown, and how much of the log it takes, its line feed included."""

    text: str
    size_bytes: int


class LineReader:
    """Bytes as they come, to whole lines; `rest` is what stands after the last line feed so far."""

    def __init__(self) -> None:
        self._rest = b""
        self._rest_bytes = 0
        self._cut_bytes = 0
        self._returned = False

    def feed(self, data: bytes) -> list[LogLine]:
        """The lines that end in this part."""
        *whole, last = data.split(b"\n")
        lines = []
        for raw in whole:
            self._add(raw)
            lines.append(LogLine(self.rest, self._rest_bytes + 1))
            self._rest, self._rest_bytes, self._cut_bytes, self._returned = b"", 0, 0, False
        self._add(last)
        return lines

    @property
    def rest(self) -> str:
        """The line that is not whole yet, as it would be shown."""
        text = clean_line(self._rest)
        return f"{text}… {self._cut_bytes:,} more bytes" if self._cut_bytes else text

    @property
    def rest_bytes(self) -> int:
        """How much of the log the line takes that is not whole yet."""
        return self._rest_bytes

    def _add(self, piece: bytes) -> None:
        """A part of a line; what is printed after a carriage return overwrites what stands there."""
        self._rest_bytes += len(piece)
        core = piece.rstrip(b"\r")
        if core:
            start = core.rfind(b"\r") + 1
            if start or self._returned:
                self._rest, self._cut_bytes = b"", 0
            core = core[start:]
            room = LINE_BYTES - len(self._rest)
            self._rest += core[:room]
            self._cut_bytes += max(0, len(core) - room)
            self._returned = False
        if len(piece) > len(piece.rstrip(b"\r")):
            self._returned = True


def clean_line(raw: bytes) -> str:
    """A line as a person would have seen it: no escapes, tabs as blanks, controls told, bad UTF-8 marked."""
    text = raw.decode("utf-8", "replace")
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPE.sub("", text).expandtabs(_TAB)
    return visible(harmless(text))


@dataclass(frozen=True)
class Taken:
    """What a part of the log changed: how many lines are new, or were dropped in front; `anew`: all."""

    new: int = 0
    dropped: int = 0
    anew: bool = False


class LogWindow:
    """The lines of a log that are held, one after the other, from the byte `begin` to the byte `end`.

    `first_number` is the number of the first of them, where it is known (from 1).
    """

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.size_bytes = 0
        self._restart(0, "", first_number=1)

    def _restart(self, offset: int, name: str, *, first_number: int | None, inside: bool = False) -> None:
        self.lines.clear()
        self.first_number = first_number
        self.begin = self.end = offset
        self._characters = 0
        self._name = name
        self._reader = LineReader()
        self._inside = inside

    @property
    def rest(self) -> str:
        """The line at the end that is not whole yet."""
        return "" if self._inside else self._reader.rest

    @property
    def texts(self) -> list[str]:
        """All lines as they are shown, the one that is not whole yet too."""
        rest = self.rest
        return [one.text for one in self.lines] + ([rest] if rest else [])

    @property
    def has_more(self) -> bool:
        """True where the log has more than was taken so far."""
        return self.end < self.size_bytes

    def open(
        self,
        part: LogSlice,
        first_number: int | None = None,
        *,
        inside: bool = False,
        around: int | None = None,
    ) -> Taken:
        """Begin at a part; `inside`: it may begin in the midst of a line, which is left out.

        Where it has too many lines, those around the byte `around` are kept, or else the last.
        """
        at_start = part.offset == 0
        self._restart(
            part.offset,
            part.name,
            first_number=1 if at_start else first_number,
            inside=inside and not at_start,
        )
        if around is None:
            return self._go_on(part, anew=True)
        taken = self._go_on(part, anew=True, drop=False)
        self._keep_around(around)
        return taken

    def take(self, part: LogSlice) -> Taken:
        """Go on with a part; a log that was begun anew (another lease) or has a gap is begun anew here."""
        if part.name != self._name or part.offset != self.end or part.size_bytes < self.end:
            return self.open(part, inside=True)
        return self._go_on(part)

    def _go_on(self, part: LogSlice, *, anew: bool = False, drop: bool = True) -> Taken:
        data = part.data
        self.size_bytes = part.size_bytes
        self.end = part.end
        if self._inside:
            _, feed, data = data.partition(b"\n")
            self._inside = not feed
            self.begin = part.end - len(data)
        new = self._reader.feed(data)
        self.lines += new
        self._characters += sum(len(one.text) for one in new)
        return Taken(len(new), self._drop() if drop else 0, anew)

    def _keep_around(self, offset: int) -> None:
        first = max(0, self.lines_before(offset) - LINES_MOST // 2)
        kept = self.lines[: first + LINES_MOST]
        if len(kept) < len(self.lines):
            self.end = self.begin + sum(line.size_bytes for line in kept)
            self._reader = LineReader()
            self._characters = sum(len(line.text) for line in kept)
            self.lines = kept
        self._drop(first)

    def _drop(self, least: int = 0) -> int:
        count, characters = max(least, len(self.lines) - LINES_MOST), 0
        for number, line in enumerate(self.lines):
            if number >= count and self._characters - characters <= CHARACTERS_MOST:
                count = number
                break
            characters += len(line.text)
            self.begin += line.size_bytes
        self._characters -= characters
        del self.lines[:count]
        if self.first_number is not None:
            self.first_number += count
        return count

    def index_of(self, number: int) -> int | None:
        """Where the line with this number is; None where it is not held, or numbers are not known."""
        if self.first_number is None:
            return None
        index = number - self.first_number
        return index if 0 <= index < len(self.lines) + bool(self.rest) else None

    def byte_of(self, index: int) -> int:
        """At which byte of the log a line begins."""
        return self.begin + sum(line.size_bytes for line in self.lines[:index])

    def tell_number(self, offset: int, number: int) -> None:
        """The line that begins at this byte has this number."""
        self.first_number = number - self.lines_before(offset)

    def lines_before(self, offset: int) -> int:
        """How many of the lines begin before a byte of the log."""
        at, count = self.begin, 0
        for line in self.lines:
            if at >= offset:
                break
            at += line.size_bytes
            count += 1
        return count


def find(texts: Sequence[str], wanted: str, start: int, *, backward: bool = False) -> int | None:
    """The next line that has the words, from `start` on, then from the other end; None where none has.

    Small letters also mean large ones; where a large one is wanted, both count.
    """
    if not wanted or not texts:
        return None
    exact = wanted != wanted.lower()
    count, step = len(texts), -1 if backward else 1
    for number in range(count):
        index = (start + step * number) % count
        if wanted in (texts[index] if exact else texts[index].lower()):
            return index
    return None


def places(text: str, wanted: str) -> list[tuple[int, int]]:
    """Where in a line the words are, as `find` sees them: (from, to) in characters."""
    seen = text if wanted != wanted.lower() else text.lower()
    if not wanted or len(seen) != len(text):  # a letter whose small form has another length
        return []
    return [found.span() for found in re.finditer(re.escape(wanted), seen)]


class Row(NamedTuple):
    """A row of the screen: which line, and which of its characters."""

    line: int
    start: int
    stop: int


def rows(texts: Sequence[str], width: int, first: int = 0) -> list[Row]:
    """The rows of wrapped lines; `first` is the number of the first line."""
    found: list[Row] = []
    for number, text in enumerate(texts, first):
        edges = [0, *breaks(text, width), len(text)]
        found += [Row(number, start, stop) for start, stop in itertools.pairwise(edges)]
    return found


def breaks(text: str, width: int) -> list[int]:
    """Before which characters a line is broken that is to fit into so many cells."""
    width = max(2, width)  # a wide character needs two
    if len(text) * 2 <= width:
        return []
    if text.isascii():
        return list(range(width, len(text), width))
    if cell_len(text) <= width:
        return []
    found, used = [], 0
    for index, one in enumerate(text):
        size = get_character_cell_size(one)
        if used + size > width:
            found.append(index)
            used = 0
        used += size
    return found


class ReadLog(Protocol):
    """How parts of one log are had: `MasterClient.build_log` or `job_log` of one build or job."""

    def __call__(self, offset: int = 0, *, last: int | None = None, line: int | None = None) -> LogSlice: ...  # noqa: D102


@dataclass(frozen=True)
class Wish:
    """Which part of a log is wanted: from a byte on, from a line on, or so many bytes at its end.

    `anew`: it takes the place of what is held. `show` is the byte at which to look then, `number` that of the
    line that begins there, where it is known.
    """

    offset: int = 0
    line: int | None = None
    last: int | None = None
    anew: bool = False
    show: int | None = None
    number: int | None = None


def fetch(read: ReadLog, wish: Wish) -> LogSlice:
    """The part that is wanted; a line or an end that is not there gives what is."""
    if wish.line is not None:
        return read(line=wish.line)
    return read(last=wish.last) if wish.last is not None else read(wish.offset)


def seek(read: ReadLog, wanted: str, begin: int, end: int, *, backward: bool = False) -> int | None:
    """At which byte the next line begins that has the words, outside of what lies from `begin` to `end`.

    The log is read part by part, forward from `end` and then up to `begin`, or the other way round; None
    where no line has them.
    """
    size = read(end).size_bytes
    around = ((end, size), (0, begin)) if not backward else ((0, begin), (end, size))
    for start, stop in around:
        found = (_last_in if backward else _first_in)(read, wanted, start, stop)
        if found is not None:
            return found
    return None


def _first_in(read: ReadLog, wanted: str, start: int, stop: int) -> int | None:
    reader, at, offset = LineReader(), start, start
    while offset < stop and (data := read(offset).data[: stop - offset]):
        offset += len(data)
        for line in reader.feed(data):
            if places(line.text, wanted):
                return at
            at += line.size_bytes
    return at if places(reader.rest, wanted) else None


def _between(read: ReadLog, begin: int, stop: int) -> bytes:
    data = b""
    while begin + len(data) < stop and (more := read(begin + len(data)).data):
        data += more
    return data[: stop - begin]


def _last_in(read: ReadLog, wanted: str, start: int, stop: int) -> int | None:
    """Parts are taken from the end; each begins behind a line feed, but for the first."""
    while stop > start:
        begin = max(start, stop - SEEK_BYTES)
        data = _between(read, begin, stop)
        if begin > start and b"\n" in data[:-1]:
            begin += data.index(b"\n") + 1
            data = data[data.index(b"\n") + 1 :]
        reader, at, found = LineReader(), begin, None
        for line in reader.feed(data):
            found = at if places(line.text, wanted) else found
            at += line.size_bytes
        if places(reader.rest, wanted):
            return at
        if found is not None or begin >= stop:
            return found
        stop = begin
    return None
