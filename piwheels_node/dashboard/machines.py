# SPDX-License-Identifier: BSD-3-Clause
"""One builder: what is asked of it, and the words that tell it.

Its machine and what it does are asked each time; builds, history and days only where something has changed
or a minute has passed. The log of what it builds is asked for together with the rest, one part each time.
This module must not import Textual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from piwheels_node.client.port import Watched
from piwheels_node.core.builders import HOT_C, BuilderState, Mode
from piwheels_node.core.errors import MasterError
from piwheels_node.core.messages import (
    BuilderDays,
    BuilderEventView,
    BuilderView,
    BuildRow,
    Health,
    JobView,
    Machine,
)
from piwheels_node.dashboard.builds import LogPartAsked, log_of
from piwheels_node.dashboard.charts import trend
from piwheels_node.dashboard.drawing import named
from piwheels_node.dashboard.ended import Ended, arrangement
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.logs import Wish, fetch
from piwheels_node.dashboard.look import Glyphs
from piwheels_node.dashboard.words import Cell, Line, Place, Role, ago, elapsed, joined, memory, number, place

BUILDS = 100
DAYS = 30
ANYWAY = timedelta(seconds=60)
"""After so long, also what seems not to have changed is asked again."""


@dataclass(frozen=True)
class Wanted:
    """A part of the log of a job."""

    job_id: int
    wish: Wish


@dataclass(frozen=True)
class BuilderSight:
    """A builder as it was seen at a moment; `past_at` is when its past was asked."""

    view: BuilderView
    builds: tuple[BuildRow, ...]
    events: tuple[BuilderEventView, ...]
    days: BuilderDays | None
    past_at: datetime
    at: datetime
    log: LogPartAsked | None = None
    log_of: int | None = None
    "The job whose log that is."

    @property
    def job(self) -> JobView | None:
        """What it builds; where it builds several, the first."""
        return self.view.jobs[0] if self.view.jobs else None


def look_at(
    master: Watched, name: str, before: BuilderSight | None, wanted: Wanted | None, now: datetime
) -> BuilderSight:
    """Ask how it stands; what cannot have changed since `before` is not asked again."""
    view = master.builder(name)
    log = _log(master, view, wanted)
    if before and now - before.past_at < ANYWAY and _past_of(before.view) == _past_of(view):
        past = before.builds, before.events, before.days, before.past_at
    else:
        counted = master.builder_statistics(
            now.date() - timedelta(days=DAYS - 1), now.date(), builder=name
        ).builders
        past = (
            tuple(master.builds(builder=name, limit=BUILDS).builds),
            tuple(master.builder_events(name)),
            counted[0] if counted else None,
            now,
        )
    return BuilderSight(view, *past, now, log, wanted.job_id if log and wanted else None)


def _past_of(view: BuilderView) -> object:
    """What changes when something is added to its past."""
    return view.built, view.failed, view.state, view.mode, view.why, view.paused_itself, view.version


def _log(master: Watched, view: BuilderView, wanted: Wanted | None) -> LogPartAsked | None:
    """The part that is wanted; None where that job is not built here any more, or has no log."""
    job = next((one for one in view.jobs if wanted and one.job_id == wanted.job_id), None)
    if job is None or wanted is None:
        return None
    try:
        return LogPartAsked(wanted.wish, fetch(log_of(master, job, None), wanted.wish))
    except MasterError as error:
        if not error.refused:
            raise
        return None


# --- in words ------------------------------------------------------------------------------------------


def told(sight: BuilderSight, width: int, glyphs: Glyphs) -> list[Line]:
    """The machine, what it does, and how it is."""
    view = sight.view
    pairs = [
        ("does", _does(sight)),
        ("is", _machine(view.machine)),
        ("health", health(view.health)),
        ("builds for", joined([[Cell(one)] for one in view.targets])),
        ("runs", _software(sight)),
        ("30 days", _days(sight, glyphs)),
    ]
    return named(pairs, width)


def _does(sight: BuilderSight) -> Line:
    view, job = sight.view, sight.job
    if view.state is not BuilderState.ACTIVE:
        return [Cell(view.state.value, Role.WARN)]
    line: list[Cell] = []
    if job is not None:
        since = f"  for {elapsed((sight.at - job.leased_at).total_seconds())}" if job.leased_at else ""
        line += [
            Cell(f"{job.project} {job.version}", Role.STRONG, place(job.job_id)),
            Cell(f"  {job.step.value if job.step else ''}", Role.BUSY),
            Cell(f"{since}  "),
        ]
    for other in view.jobs[1:]:
        line += [Cell(f"{other.project} {other.version}", Role.STRONG, place(other.job_id)), Cell("  ")]
    if view.paused_itself:
        line.append(Cell(f"stands still: {view.paused_itself}  ", Role.WARN))
    if view.mode is not Mode.RUN:
        line.append(Cell(f"told to {view.mode.value}{f': {view.why}' if view.why else ''}", Role.WARN))
    return line or [Cell("waits for a job", Role.FAINT)]


def _machine(machine: Machine | None) -> Line:
    if machine is None:
        return []
    parts = [
        machine.model or "",
        f"{machine.cores} cores" if machine.cores else "",
        memory(machine.memory_bytes) if machine.memory_bytes else "",
        machine.os or "",
    ]
    return [Cell("  ".join(filter(None, parts)))]


def health(health: Health | None) -> Line:
    """How a machine is doing, in one line."""
    if health is None:
        return []
    parts: list[Line] = []
    if health.temperature_c is not None:
        hot = health.temperature_c >= HOT_C
        parts.append([Cell(f"{health.temperature_c:.0f}°", Role.WARN if hot else Role.PLAIN)])
    if health.throttled:
        parts.append([Cell("throttled by the firmware", Role.WARN)])
    if health.undervoltage:
        parts.append([Cell("the power supply is too weak", Role.WARN)])
    if health.load_1m is not None:
        parts.append([Cell("load ", Role.FAINT), Cell(f"{health.load_1m:.1f}")])
    for name, free in (("memory", health.memory_available_bytes), ("disk", health.disk_free_bytes)):
        if free is not None:
            parts.append([Cell(f"{name} free ", Role.FAINT), Cell(memory(free))])
    return joined(parts)


def _software(sight: BuilderSight) -> Line:
    view = sight.view
    kernel = view.machine.kernel if view.machine else None
    parts: list[Line] = [[Cell(f"piwheels-node {view.version}")]] if view.version else []
    parts += [[Cell(f"Linux {kernel}")]] if kernel else []
    parts += [[Cell(f"{view.slots} at once")]] if view.slots > 1 else []
    heard = ago(view.last_seen_at, sight.at)
    parts.append([Cell("heard " + (heard if heard in {"now", "never"} else f"{heard} ago"), Role.FAINT)])
    return joined(parts)


def _days(sight: BuilderSight, glyphs: Glyphs) -> Line:
    """Builds on each day, and how many they are together."""
    days = sight.days
    if days is None:
        return [Cell("nothing was built", Role.FAINT)]
    drawn = trend([a + b for a, b in zip(days.built, days.failed, strict=True)], DAYS, glyphs.trend)[0]
    failed = sum(days.failed)
    return [
        Cell(drawn, Role.BUSY),
        Cell(f"  {number(sum(days.built))} built", Role.GOOD, Place("statistics")),
        Cell(f"  {number(failed)} failed", Role.BAD if failed else Role.FAINT, Place("failures")),
    ]


# --- tables --------------------------------------------------------------------------------------------

OF_ONE_BUILDER: Arrangement[Ended] = arrangement("project", "outcome", "captured", "target", "took", "when")


def _detail(event: BuilderEventView) -> str:
    return "  ".join(f"{name} {value}" for name, value in event.detail.items() if value not in {None, ""})


HAPPENED: Arrangement[BuilderEventView] = Arrangement(
    (
        Column("at", "at", 16, lambda one: Cell(f"{one.at.astimezone():%Y-%m-%d %H:%M}", Role.FAINT)),
        Column("kind", "what", 16, lambda one: Cell(one.kind), lambda one: one.kind),
        Column("detail", "", 20, lambda one: Cell(_detail(one)), share=1),
    ),
    key=lambda one: str(one.event_id),
    text=lambda one: f"{one.kind} {_detail(one)}",
)
