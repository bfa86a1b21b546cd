# SPDX-License-Identifier: BSD-3-Clause
"""The table of builders: what each does and how it is, in columns; the master's order, those with
something wrong first, is kept where nobody wants another.

This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, overload

from piwheels_node.core.builders import HOT_C, Mode
from piwheels_node.core.messages import BuilderRow, JobInHand
from piwheels_node.core.standing import Standing, standing, trouble
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.words import Cell, Role, ago, elapsed, memory, number, share, short_target

MANY_FAIL = 0.5
FEW_BUILDS = 10
"""A share of failures tells of the machine only where it has built a little."""


SIGNS = {
    Standing.LOST: Cell("X", Role.BAD),
    Standing.WRONG: Cell("!", Role.WARN),
    Standing.WAITS_FOR_APPROVAL: Cell("?", Role.WARN),
    Standing.PAUSED: Cell("P", Role.WARN),
    Standing.BUSY: Cell("B", Role.BUSY),
    Standing.IDLE: Cell(".", Role.FAINT),
    Standing.GONE: Cell("-", Role.FAINT),
}

SENTENCES = {
    Standing.LOST: "it was not heard of for minutes",
    Standing.WRONG: "hot, short of power, memory or disk, or stands still by its own decision",
    Standing.WAITS_FOR_APPROVAL: "it has joined, and waits for your approval",
    Standing.PAUSED: "a person told it to pause or drain",
    Standing.BUSY: "it builds",
    Standing.IDLE: "it waits for a job",
    Standing.GONE: "it has left, or its key was taken back",
}


class Shown(NamedTuple):
    """A builder in the table, at the moment `at` by the master's clock."""

    row: BuilderRow
    at: datetime

    @property
    def standing(self) -> Standing:
        """How it stands."""
        return standing(self.row)

    @property
    def job(self) -> JobInHand | None:
        """What it builds; where it builds several, the first."""
        return self.row.jobs[0] if self.row.jobs else None


class ShownRows(Sequence[Shown]):
    """Builders as the master told them at `at`, in its order; made when asked for: of 300 a dozen is seen."""

    def __init__(self, rows: Sequence[BuilderRow], at: datetime) -> None:
        self._rows = rows
        self._at = at

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Shown: ...

    @overload
    def __getitem__(self, at: slice) -> ShownRows: ...

    def __getitem__(self, at: int | slice) -> Shown | ShownRows:
        if isinstance(at, slice):
            return ShownRows(self._rows[at], self._at)
        return Shown(self._rows[at], self._at)


def is_fault(one: Shown) -> bool:
    """True for what `faults only` shows."""
    return one.standing <= Standing.WAITS_FOR_APPROVAL or _fails_often(one.row)


def _fails_often(row: BuilderRow) -> bool:
    ended = row.built + row.failed
    return ended >= FEW_BUILDS and row.failed / ended >= MANY_FAIL


# --- cells ---------------------------------------------------------------------------------------------


def _task(one: Shown) -> Cell:
    row = one.row
    if one.standing is Standing.GONE:
        return Cell(row.state.value, Role.FAINT)
    if one.standing is Standing.WAITS_FOR_APPROVAL:
        return Cell("joined, waits for approval", Role.WARN)
    building = f"{one.job.project} {one.job.version}" if one.job else ""
    if len(row.jobs) > 1:
        building += f" +{len(row.jobs) - 1}"
    if one.standing is Standing.LOST:
        return Cell(f"lost with {building}" if building else "lost", Role.BAD)
    told = trouble(row)
    if not told and row.mode is not Mode.RUN:
        told = f"{row.mode.value}: {row.why}" if row.why else row.mode.value
    if told:
        return Cell(f"{building} ({told})" if building else told, Role.WARN)
    return Cell(building) if building else Cell("idle", Role.FAINT)


def _step(one: Shown) -> Cell:
    step = one.job.step if one.job else None
    return Cell(step.value if step else "", Role.BUSY)


def _age(one: Shown) -> Cell:
    """Since when it builds; of those that are lost or gone, when they were last heard."""
    since = _since(one)
    if since is not None:
        return Cell(elapsed((one.at - since).total_seconds()))
    if one.standing in {Standing.LOST, Standing.GONE}:
        return Cell(ago(one.row.last_seen_at, one.at), Role.FAINT)
    return Cell("")


def _since(one: Shown) -> datetime | None:
    return one.job.leased_at if one.job and one.standing is not Standing.LOST else None


def _temperature(one: Shown) -> Cell:
    celsius = one.row.temperature_c
    if celsius is None:
        return Cell("")
    return Cell(f"{celsius:.0f}°", Role.WARN if celsius >= HOT_C else Role.PLAIN)


def _load(one: Shown) -> Cell:
    load = one.row.load_1m
    return Cell("" if load is None else f"{load:.1f}")


def _memory(one: Shown) -> Cell:
    return _amount(one.row.memory_available_bytes)


def _disk(one: Shown) -> Cell:
    return _amount(one.row.disk_free_bytes)


def _amount(size_bytes: int | None) -> Cell:
    return Cell("" if size_bytes is None else memory(size_bytes))


def _built(one: Shown) -> Cell:
    return Cell(number(one.row.built))


def _model(one: Shown) -> Cell:
    return Cell(one.row.model or "", Role.FAINT)


def _system(one: Shown) -> Cell:
    return Cell(one.row.os or "", Role.FAINT)


def _failing(one: Shown) -> Cell:
    row = one.row
    return Cell(share(row.failed, row.built + row.failed), Role.WARN if _fails_often(row) else Role.PLAIN)


def _failing_share(one: Shown) -> float | None:
    ended = one.row.built + one.row.failed
    return one.row.failed / ended if ended else None


def _target(one: Shown) -> Cell:
    """What it builds for now, or could."""
    names = [one.job.target] if one.job else one.row.targets
    return Cell(", ".join(map(short_target, names)), Role.FAINT)


def _text(one: Shown) -> str:
    """What the filter looks into."""
    row = one.row
    words = [row.name, one.standing.name, trouble(row), row.mode.value, row.model or "", row.os or ""]
    return " ".join([*words, *row.targets, *(f"{job.project} {job.version}" for job in row.jobs)])


COLUMNS: tuple[Column[Shown], ...] = (
    Column("state", "S", 1, lambda one: SIGNS[one.standing], lambda one: (one.standing, one.row.name)),
    Column("host", "host", 9, lambda one: Cell(one.row.name, Role.STRONG), lambda one: one.row.name, share=1),
    Column("target", "target", 19, _target, lambda one: _target(one).words, rank=7),
    Column("task", "task", 28, _task, lambda one: _task(one).words, share=4),
    Column("step", "step", 7, _step, lambda one: _step(one).words or None, rank=2),
    Column("age", "since", 6, _age, _since, right=True, rank=1),
    Column(
        "temp", "temp", 4, _temperature, lambda one: one.row.temperature_c, right=True, rank=3, falling=True
    ),
    Column("load", "load", 4, _load, lambda one: one.row.load_1m, right=True, rank=4, falling=True),
    Column("memory", "mem free", 8, _memory, lambda one: one.row.memory_available_bytes, right=True, rank=5),
    Column("fails", "fail", 4, _failing, _failing_share, right=True, rank=2, falling=True),
    Column("built", "built", 6, _built, lambda one: one.row.built, right=True, rank=6, falling=True),
    Column("disk", "disk free", 9, _disk, lambda one: one.row.disk_free_bytes, right=True, rank=8),
    Column("machine", "machine", 16, _model, lambda one: one.row.model, rank=9, share=2),
    Column("os", "system", 14, _system, lambda one: one.row.os, rank=10, share=2),
)

ARRANGEMENT: Arrangement[Shown] = Arrangement(
    COLUMNS, key=lambda one: one.row.name, text=_text, is_fault=is_fault
)
