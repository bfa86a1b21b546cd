# SPDX-License-Identifier: BSD-3-Clause
"""Lines made of numbers and names: bars with their labels, columns over time with an axis, names and values.

All give lines of cells of at most the width that they are given. This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from piwheels_node.dashboard.charts import axis, bar, resampled, stacked, trend
from piwheels_node.dashboard.look import Glyphs
from piwheels_node.dashboard.words import Cell, Line, Place, Role, clean, fit, number, share

_LABEL_MOST = 24
_BAR_LEAST = 6
_SCALE_WIDTH = 6
_NAME_GAP = 2
_EDGE = "│"


class Amount(NamedTuple):
    """A row of a bar list: what, how much of it, and what is said behind the bar."""

    label: str
    value: float
    note: str = ""
    role: Role = Role.BUSY
    leads_to: Place | None = None


class Series(NamedTuple):
    """One part of columns over time; its fill tells it without colours."""

    name: str
    values: Sequence[int]
    role: Role
    fill: str


def bars(amounts: Sequence[Amount], width: int, glyphs: Glyphs, *, most_rows: int = 50) -> list[Line]:
    """Each amount in a row: label, number, share of the whole, bar; the note where there is room."""
    whole = int(sum(one.value for one in amounts))
    most = max((one.value for one in amounts), default=0)
    longest = max((cell_len(clean(one.label)) for one in amounts), default=0)
    labels = min(_LABEL_MOST, longest, max(width // 3, width - _BAR_LEAST - len(" 12.4k 100% ")))
    notes = max((cell_len(clean(one.note)) for one in amounts), default=0)
    room = width - labels - len(" 12.4k 100% ")
    if room - notes - 1 < _BAR_LEAST * 2:
        notes = 0
    room = max(0, room - (notes + 1 if notes else 0))
    lines: list[Line] = []
    for one in amounts[:most_rows]:
        drawn = bar(one.value, most, room, glyphs.bar) if room >= _BAR_LEAST else ""
        lines.append(
            [
                Cell(fit(clean(one.label), labels, glyphs.ellipsis), Role.PLAIN, one.leads_to),
                Cell(f" {number(int(one.value)):>5}", Role.STRONG),
                Cell(f" {share(int(one.value), whole):>4} ", Role.FAINT),
                Cell(drawn, one.role),
                *([Cell(" " * (room - len(drawn) + 1) + clean(one.note), Role.FAINT)] if notes else []),
            ]
        )
    if len(amounts) > most_rows:
        lines[-1] = [Cell(f"and {len(amounts) - most_rows + 1} more", Role.FAINT)]
    return lines


def columns(series: Sequence[Series], labels: tuple[str, str], width: int, height: int) -> list[Line]:
    """Columns over time, the newest at the right edge, with a scale at the left and the ends of time below.

    Where there are more columns than cells, neighbours are added up, each series in the same groups.
    """
    room = max(1, width - _SCALE_WIDTH - 1)
    grouped = [resampled(one.values, room) for one in series]
    count = max((len(one) for one in grouped), default=0)
    table = [tuple(one[at] for one in grouped) for at in range(count)]
    top = axis(max((sum(column) for column in table), default=0))
    wide = max(1, min(3, room // count)) if count else 1
    rows = max(1, height - 1)
    drawn = stacked(table, rows, [one.fill for one in series], top)
    lines: list[Line] = []
    for at, row in enumerate(drawn):
        scale = number(int(top)) if at == 0 else ("0" if at == rows - 1 else "")
        line = [Cell(f"{scale:>{_SCALE_WIDTH - 1}} ", Role.FAINT), Cell(_EDGE, Role.FAINT)]
        for fill, which in row:
            line.append(Cell(fill * wide, series[which].role if which >= 0 else Role.PLAIN))
        lines.append(_merged(line))
    begin, end = labels
    gap = max(1, count * wide - len(begin) - len(end))
    lines.append([Cell(" " * (_SCALE_WIDTH + 1) + begin + " " * gap + end, Role.FAINT)])
    return lines


def legend(series: Sequence[Series]) -> Line:
    """What the parts of columns mean, and how much they are together."""
    line: list[Cell] = []
    for one in series:
        line += [Cell(one.fill, one.role), Cell(f" {one.name} ", Role.PLAIN)]
        line.append(Cell(f"{number(sum(one.values))}  ", Role.STRONG))
    return line


def trends(
    rows: Sequence[tuple[str, Sequence[int], str]], width: int, glyphs: Glyphs, role: Role = Role.BUSY
) -> list[Line]:
    """Each row a name, its trend on the scale that all share, and a note at the right."""
    labels = min(_LABEL_MOST, width // 3, max((cell_len(clean(name)) for name, _, _ in rows), default=0))
    notes = max((cell_len(clean(note)) for _, _, note in rows), default=0)
    room = max(1, width - labels - notes - 2)
    longest = max((len(values) for _, values, _ in rows), default=0)
    wide = max(1, min(3, room // max(longest, 1)))
    room = min(room // wide, max(longest, 1))
    most = max((max(resampled(values, room), default=0) for _, values, _ in rows), default=0)
    return [
        [
            Cell(fit(clean(name), labels, glyphs.ellipsis) + " ", Role.PLAIN),
            Cell(_wider(trend(values, room, glyphs.trend, most=most)[0], wide), role),
            Cell(" " + fit(clean(note), notes, glyphs.ellipsis, right=True), Role.STRONG),
        ]
        for name, values, note in rows
    ]


def _wider(drawn: str, wide: int) -> str:
    return "".join(one * wide for one in drawn)


def named(pairs: Sequence[tuple[str, Line]], width: int) -> list[Line]:
    """Names and values, one below the other, the values in one column; a value that is empty is left out."""
    shown = [(name, value) for name, value in pairs if any(cell.words for cell in value)]
    names = max((len(name) for name, _ in shown), default=0)
    return [
        [Cell(f" {name:<{names}}" + " " * _NAME_GAP, Role.FAINT), *value]
        for name, value in shown
        if width > names
    ]


def wrapped(words: str, width: int) -> list[str]:
    """A text in lines of at most so many cells, broken between words where there are any."""
    lines, line = [], ""
    for word in clean(words).split():
        while cell_len(word) > width:
            if line:
                lines.append(line)
                line = ""
            head = word[: max(1, width // 2)]
            lines.append(head)
            word = word[len(head) :]  # noqa: PLW2901 - the rest of it
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line else lines


def _merged(line: Sequence[Cell]) -> list[Cell]:
    """Neighbours of one role as one cell."""
    found: list[Cell] = []
    for cell in line:
        if found and found[-1].role is cell.role and cell.leads_to is None is found[-1].leads_to:
            found[-1] = Cell(found[-1].words + cell.words, cell.role)
        else:
            found.append(cell)
    return found
