# SPDX-License-Identifier: BSD-3-Clause
"""What waits to be built: how many jobs in each lane, which come next, and what others wait for.

    about ""                    all targets
    about "cp313-...-debian13"  the jobs of one target, in their order

This module must not import Textual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len

from piwheels_node.client.port import Watched
from piwheels_node.core.jobs import JobState, Priority
from piwheels_node.core.messages import QueuedJob, QueueLane, QueueView
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.words import Cell, Line, Place, Role, ago, elapsed, fit, number, short_target

_SHOWN = 50
_OF_ONE_TARGET = 200

WORDS = {
    Priority.REQUESTED: "asked for",
    Priority.MISSED: "missed by pip",
    Priority.RELEASED: "new release",
    Priority.BACKLOG: "backlog",
}
"""Why jobs are in the queue, by their lane."""

_TITLES = {
    Priority.REQUESTED: "asked for",
    Priority.MISSED: "missed",
    Priority.RELEASED: "new",
    Priority.BACKLOG: "backlog",
}
_LANE_WIDTH = max(map(len, _TITLES.values()))


@dataclass(frozen=True)
class QueueSight:
    """The queue as it was seen at a moment; `jobs` are those of one target, where it is about one."""

    view: QueueView
    at: datetime
    jobs: tuple[QueuedJob, ...] | None = None


@dataclass(frozen=True)
class Waiting:
    """A job that waits, as a row; `turn` is its place among those that are ready for its target, from 1."""

    job: QueuedJob
    at: datetime
    turn: int | None = None


def look_at(master: Watched, target: str, now: datetime | None = None) -> QueueSight:
    """Ask what waits."""
    view = master.queue(_SHOWN)
    jobs = tuple(master.queue_of(target, limit=_OF_ONE_TARGET)) if target else None
    return QueueSight(view, now or datetime.now(UTC), jobs)


def rows(sight: QueueSight) -> list[Waiting]:
    """What comes next, target by target in turn; then what waits for a time, for others, for a person."""
    ready = [sight.jobs] if sight.jobs is not None else list(sight.view.ready.values())
    turns = [
        Waiting(jobs[turn], sight.at, turn + 1)
        for turn in range(max(map(len, ready), default=0))
        for jobs in ready
        if turn < len(jobs)
    ]
    if sight.jobs is not None:
        return turns
    view = sight.view
    others = (*view.quarantined, *view.delayed, *view.blocked)
    return [*(Waiting(job, sight.at) for job in others if job.state is JobState.QUARANTINED), *turns] + [
        Waiting(job, sight.at) for job in others if job.state is not JobState.QUARANTINED
    ]


def waiting_for_others(sight: QueueSight) -> int:
    """How many of those that are shown wait for a time, for another job, or for a person."""
    return len(sight.view.delayed) + len(sight.view.blocked) + len(sight.view.quarantined)


def counts(sight: QueueSight) -> Line:
    """How many jobs are in each state."""
    line: list[Cell] = [Cell(" ")]
    for state, role in (
        (JobState.READY, Role.STRONG),
        (JobState.DELAYED, Role.WARN),
        (JobState.BLOCKED, Role.WARN),
        (JobState.QUARANTINED, Role.BAD),
    ):
        many = sight.view.counts.get(state.value, 0)
        line += [
            Cell(f"{state.value} ", Role.FAINT),
            Cell(number(many), role if many else Role.FAINT),
            Cell("   "),
        ]
    return line[:-1]


def lanes(sight: QueueSight, width: int) -> list[Line]:
    """Each target with how many jobs it has in each lane, the lane that is served first at the left."""
    order = sorted(Priority, reverse=True)
    targets: dict[str, dict[Priority, QueueLane]] = {}
    for lane in sight.view.lanes:
        targets.setdefault(lane.target, {})[lane.priority] = lane
    if not targets:
        return []
    longest = max(cell_len(short_target(one)) for one in targets)
    names = min(longest, max(12, width - (_LANE_WIDTH + 2) * len(order) - 1))
    titles = "".join(f"  {_TITLES[one]:>{_LANE_WIDTH}}" for one in order)
    lines: list[Line] = [[Cell(" " * (names + 1) + titles, Role.FAINT)]]
    for target, those in sorted(targets.items()):
        line = [Cell(" "), Cell(fit(short_target(target), names), Role.PLAIN, Place("queue", target))]
        for one in order:
            lane_here = those.get(one)
            many = number(lane_here.jobs) + ("" if lane_here.is_whole else "+") if lane_here else ""
            line.append(Cell(f"  {many:>{_LANE_WIDTH}}", Role.STRONG))
        lines.append(line)
    return lines


def lane_of(priority: int) -> Priority:
    """The lane of a job: the highest that it reaches."""
    return max((one for one in Priority if one <= priority), default=Priority.BACKLOG)


def waits_for(row: Waiting) -> Cell:
    """What has to happen before it is built."""
    job = row.job
    failed = f", after {job.reason}" if job.reason else ""
    if job.state is JobState.DELAYED and job.not_before_at:
        left = (job.not_before_at - row.at).total_seconds()
        return Cell(f"{elapsed(left)} more{failed}" if left > 0 else f"any moment{failed}", Role.WARN)
    if job.state is JobState.BLOCKED:
        what = f"{job.blocked_on_project}, " if job.blocked_on_project else ""
        return Cell(f"{what}job {job.blocked_on}" if job.blocked_on else "another job", Role.WARN)
    if job.state is JobState.QUARANTINED:
        return Cell("a person to set it free", Role.BAD)
    return Cell("a builder; it is next" if row.turn == 1 else f"a builder; turn {row.turn}", Role.PLAIN)


def _text(row: Waiting) -> str:
    job = row.job
    return " ".join(
        (
            job.project,
            job.version,
            job.target,
            job.state.value,
            WORDS[lane_of(job.priority)],
            job.blocked_on_project or "",
        )
    )


_ROLES = {JobState.DELAYED: Role.WARN, JobState.BLOCKED: Role.WARN, JobState.QUARANTINED: Role.BAD}

JOBS: Arrangement[Waiting] = Arrangement(
    (
        Column(
            "state",
            "state",
            11,
            lambda row: Cell(row.job.state.value, _ROLES.get(row.job.state, Role.GOOD)),
            lambda row: row.job.state.value,
        ),
        Column(
            "package",
            "package",
            16,
            lambda row: Cell(f"{row.job.project} {row.job.version}", Role.STRONG),
            lambda row: (row.job.project, row.job.version),
            share=2,
        ),
        Column(
            "lane",
            "because",
            13,
            lambda row: Cell(WORDS[lane_of(row.job.priority)]),
            lambda row: row.job.priority,
            falling=True,
            rank=2,
        ),
        Column("waits", "waits for", 22, waits_for, lambda row: row.job.not_before_at, share=2),
        Column(
            "target",
            "target",
            19,
            lambda row: Cell(short_target(row.job.target), Role.FAINT),
            lambda row: row.job.target,
            rank=3,
            share=1,
        ),
        Column(
            "attempts",
            "tries",
            5,
            lambda row: Cell(str(row.job.attempts) if row.job.attempts else ""),
            lambda row: row.job.attempts,
            right=True,
            rank=4,
            falling=True,
        ),
        Column("packages", "with", 14, lambda row: Cell(", ".join(row.job.packages)), rank=5, share=1),
        Column(
            "age",
            "since",
            5,
            lambda row: Cell(ago(row.job.created_at, row.at), Role.FAINT),
            lambda row: row.job.created_at,
            right=True,
            rank=1,
        ),
    ),
    key=lambda row: str(row.job.job_id),
    text=_text,
    is_fault=lambda row: row.job.state is not JobState.READY,
)
