# SPDX-License-Identifier: BSD-3-Clause
"""Lists of rows as every table shows them: which columns fit, in which order, which rows.

    Column         a column: its title, its cell for a row, what it is ordered by, how wide it is
    fitting()      the columns that fit a width, and how wide each is then
    Arrangement    order, filter and "faults only"; frozen, and a change makes a new one

This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from piwheels_node.dashboard.words import Cell

T = TypeVar("T")
GAP = 1
"""Cells of a terminal between two columns."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table.

    `rank` 0 is always shown; of the others those with the least rank come first while there is room. `share`
    is its part of what is left over. `order` is what rows are ordered by; None: nobody orders by it.
    `falling`: the largest comes first.
    """

    name: str
    title: str
    width: int
    cell: Callable[[T], Cell]
    order: Callable[[T], Any] | None = None
    right: bool = False
    rank: int = 0
    share: int = 0
    falling: bool = False


def fitting(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """The columns that fit into so many cells, in their own order, and the width of each."""
    chosen = {column.name for column in columns if column.rank == 0}
    used = sum(column.width + GAP for column in columns if column.rank == 0) - GAP
    for column in sorted((one for one in columns if one.rank), key=lambda one: one.rank):
        if used + GAP + column.width > width:
            break
        chosen.add(column.name)
        used += GAP + column.width
    shown = [column for column in columns if column.name in chosen]
    shares = sum(column.share for column in shown)
    left = max(0, width - used)
    widths, given = [], 0
    for column in shown:
        more = left * column.share // shares if shares else 0
        widths.append(column.width + more)
        given += more
    if shares and shown:  # what rounding left over goes to the first that takes any
        first = next(at for at, column in enumerate(shown) if column.share)
        widths[first] += left - given
    return list(zip(shown, widths, strict=True))


@dataclass(frozen=True)
class Arrangement(Generic[T]):
    """How rows are arranged. `ordered_by` is the name of a column; "": in the order in which they come.

    `text` is what the filter looks into, `is_fault` tells rows with something wrong.
    """

    columns: tuple[Column[T], ...]
    key: Callable[[T], str]
    text: Callable[[T], str]
    is_fault: Callable[[T], bool] | None = None
    ordered_by: str = ""
    reverse: bool = False
    words: str = ""
    faults_only: bool = False

    def apply(self, rows: Sequence[T]) -> Sequence[T]:
        """The rows that are shown, in order."""
        if not self.is_special:
            return rows
        wanted = self.words.lower().split()
        shown = [
            row
            for row in rows
            if (not wanted or self._has(row, wanted))
            and (not self.faults_only or self.is_fault is None or self.is_fault(row))
        ]
        column = self.column(self.ordered_by)
        if column is not None and column.order is not None:
            order = column.order
            known = [row for row in shown if order(row) is not None]
            known.sort(key=order, reverse=column.falling != self.reverse)
            return known + [row for row in shown if order(row) is None]  # what nobody knows is never first
        return shown[::-1] if self.reverse else shown

    def _has(self, row: T, wanted: Sequence[str]) -> bool:
        text = self.text(row).lower()
        return all(one in text for one in wanted)

    def column(self, name: str) -> Column[T] | None:
        """The column of a name."""
        return next((one for one in self.columns if one.name == name), None)

    def ordered_next(self, shown: Sequence[str]) -> Arrangement[T]:
        """Ordered by the next of the columns that are shown; after the last one, as they come."""
        names = ["", *(one.name for one in self.columns if one.order and one.name in shown)]
        at = names.index(self.ordered_by) if self.ordered_by in names else 0
        return replace(self, ordered_by=names[(at + 1) % len(names)], reverse=False)

    def ordered(self, name: str) -> Arrangement[T]:
        """Ordered by a column; where it is so already, the other way round."""
        column = self.column(name)
        if column is None or column.order is None:
            return self
        if self.ordered_by == name:
            return self.turned()
        return replace(self, ordered_by=name, reverse=False)

    def turned(self) -> Arrangement[T]:
        """The other way round."""
        return replace(self, reverse=not self.reverse)

    def filtered(self, words: str) -> Arrangement[T]:
        """Only rows that have these words."""
        return replace(self, words=words)

    def plain(self) -> Arrangement[T]:
        """All rows."""
        return replace(self, words="", faults_only=False)

    def with_faults_toggled(self) -> Arrangement[T]:
        """Only rows with something wrong, or all again."""
        return replace(self, faults_only=not self.faults_only)

    @property
    def is_special(self) -> bool:
        """False where all rows are shown as they come."""
        return bool(self.ordered_by or self.reverse or self.faults_only or self.words)

    @property
    def told(self) -> list[str]:
        """What is special about it: for the heading above the table."""
        said = [f"by {column.title}" if (column := self.column(self.ordered_by)) else ""]
        said += ["reversed" if self.reverse else "", "faults only" if self.faults_only else ""]
        said.append(f"filter: {self.words}" if self.words else "")
        return [one for one in said if one]
