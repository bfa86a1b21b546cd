# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of numbers, made of characters: a trend in one row or in some, bars, and columns over time.

Each takes the alphabet that the look has: eighths (` ▁▂▃▄▅▆▇█`), blocks (` ▄█`), or a console's (` ░▒█`).
What is not zero is always seen. This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

N = TypeVar("N", int, float)
_ALMOST = 1e-9
_ROUND = (1, 2, 3, 4, 5, 6, 8)


def resampled(values: Sequence[N], width: int) -> list[N]:
    """At most `width` values with the same sum: neighbours are added up, the newest ones in whole groups."""
    if width <= 0:
        return []
    group = -(-len(values) // width)
    if group <= 1:
        return list(values)
    start = len(values) % group
    firsts = [sum(values[:start])] if start else []
    return firsts + [sum(values[at : at + group]) for at in range(start, len(values), group)]


def level(value: float, most: float, steps: int) -> int:
    """Which of so many steps shows a value; what is not zero is at least the first."""
    if value <= 0 or most <= 0:
        return 0
    return max(1, min(steps, round(value / most * steps)))


def trend(
    values: Sequence[N], width: int, alphabet: str, *, height: int = 1, most: float | None = None
) -> list[str]:
    """Rows from the top down, each `width` wide, with the newest value at the right edge."""
    shown = resampled(values, width)
    top = most if most is not None else max(shown, default=0.0)
    full = len(alphabet) - 1
    levels = [0] * (width - len(shown)) + [level(value, top, full * height) for value in shown]
    return [
        "".join(alphabet[max(0, min(full, one - full * row))] for one in levels)
        for row in range(height - 1, -1, -1)
    ]


def bar(value: float, most: float, width: int, full: str = "█") -> str:
    """A bar of full characters: at least one for what is not zero."""
    return full * level(value, most, width)


def stacked(
    columns: Sequence[Sequence[float]], height: int, fills: Sequence[str], most: float
) -> list[list[tuple[str, int]]]:
    """Columns of some parts on top of each other, as rows from the top down of (character, which part).

    -1 is nothing. Each part has a fill of its own, so that it is told without colours too; a part that is not
    zero has at least one character where the column has room.
    """
    heights = [_heights(column, height, most) for column in columns]
    found = []
    for row in range(height - 1, -1, -1):
        line = []
        for parts in heights:
            at, which = 0, -1
            for number, size in enumerate(parts):
                at += size
                if row < at:
                    which = number
                    break
            line.append((fills[which] if which >= 0 else " ", which))
        found.append(line)
    return found


def _heights(column: Sequence[float], height: int, most: float) -> list[int]:
    """How many characters each part of a column gets: together as many as their sum."""
    whole = level(sum(column), most, height)
    needed = sum(1 for one in column if one > 0)
    whole = max(whole, min(height, needed))
    sizes = [level(one, sum(column), whole) for one in column]
    while sum(sizes) > whole:
        largest = max(range(len(sizes)), key=lambda number: sizes[number])
        sizes[largest] -= 1
    while sizes and sum(sizes) < whole:
        largest = max(range(len(column)), key=lambda number: column[number])
        sizes[largest] += 1
    return sizes


def axis(most: float) -> float:
    """A round number not below the largest: 1, 2, 3, 4, 5, 6, 8, 10, 20, ..."""
    scale = 1.0
    while True:
        for step in _ROUND:
            if step * scale >= most - _ALMOST:
                return step * scale
        scale *= 10
