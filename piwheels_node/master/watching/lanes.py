# SPDX-License-Identifier: BSD-3-Clause
"""What waits in the queue, lane by lane, and what comes next.

How many jobs of a target are ready is a counter; how many of them go before the backlog is counted in
`ix_job_ready`, up to `COUNTED`, and the backlog is the rest. The first jobs of a target are the first of each
of its lanes, as a builder that may have them all would get them. This module knows no HTTP.
"""

from __future__ import annotations

from collections import Counter as Bag
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, literal_column, select, union_all
from sqlalchemy.orm import Session, aliased

from piwheels_node.core.builders import MEMORY_CLASSES_BYTES
from piwheels_node.core.jobs import JobState, Priority
from piwheels_node.core.messages import QueuedJob, QueueLane, QueueView
from piwheels_node.master.database.models import Build, Counter, Job, Project, Release, TargetRow
from piwheels_node.master.database.statements import Statement, ask
from piwheels_node.master.jobs import rows
from piwheels_node.master.jobs.rows import is_in

COUNTED = 5_000
"""So many jobs of one lane are counted; more are told to be more."""

MOST = 500
_COUNTED_STATES = (
    JobState.READY,
    JobState.LEASED,
    JobState.DELAYED,
    JobState.BLOCKED,
    JobState.QUARANTINED,
)
_CLASSES = range(len(MEMORY_CLASSES_BYTES) + 1)
_BANDS = sorted(Priority, reverse=True)


def queue(session: Session, limit: int) -> QueueView:
    """What waits; `limit` jobs of each kind."""
    limit = min(limit, MOST)
    targets = session.execute(select(TargetRow.id, TargetRow.name).order_by(TargetRow.name)).all()
    names = [f"jobs.ready.{target_id}" for target_id, _ in targets]
    names += [f"jobs.{state.value}" for state in _COUNTED_STATES]
    wanted = select(Counter.name, Counter.value).where(Counter.name.in_(names))
    counters = {row.name: row.value for row in session.execute(wanted)}
    ready = {
        name: (target_id, many)
        for target_id, name in targets
        if (many := counters.get(f"jobs.ready.{target_id}", 0)) > 0
    }
    lanes = [
        lane for name, (target_id, many) in ready.items() for lane in _lanes(session, name, target_id, many)
    ]
    next_ids = {name: _next(session, target_id, None, limit) for name, (target_id, _) in ready.items()}
    waiting_ids = {
        JobState.DELAYED: _first(session, JobState.DELAYED, limit, Job.not_before_at, Job.id),
        JobState.BLOCKED: _first(session, JobState.BLOCKED, limit, Job.blocked_on_id, Job.id),
        JobState.QUARANTINED: _first(session, JobState.QUARANTINED, limit, Job.id),
    }
    every = [*chain.from_iterable(next_ids.values()), *chain.from_iterable(waiting_ids.values())]
    jobs = {job.job_id: job for job in _queued(session, every)}

    def shown(job_ids: list[int]) -> list[QueuedJob]:
        return [jobs[one] for one in job_ids if one in jobs]

    return QueueView(
        counts={state.value: counters.get(f"jobs.{state.value}", 0) for state in _COUNTED_STATES},
        lanes=sorted(lanes, key=lambda lane: (-lane.priority, lane.target)),
        ready={name: shown(job_ids) for name, job_ids in next_ids.items()},
        delayed=shown(waiting_ids[JobState.DELAYED]),
        blocked=shown(waiting_ids[JobState.BLOCKED]),
        quarantined=shown(waiting_ids[JobState.QUARANTINED]),
    )


def ready_of(session: Session, target: str, priority: Priority | None, limit: int) -> list[QueuedJob]:
    """The next jobs of a target, of one priority or of all; none where the target is not known."""
    target_id = session.scalar(select(TargetRow.id).where(TargetRow.name == target))
    if target_id is None:
        return []
    return _queued(session, _next(session, target_id, priority, min(limit, MOST)))


def _lanes(session: Session, target: str, target_id: int, many: int) -> Iterable[QueueLane]:
    """How many of a target's ready jobs have each priority; those with none are left out."""
    above_backlog = {"target": target_id, "least": Priority.BACKLOG + 1, "below": _TOP, "most": COUNTED}
    counts: Bag[Priority] = Bag()
    for priority, jobs in ask(session, _COUNT, above_backlog):
        counts[max(one for one in Priority if one <= priority)] += jobs
    counts[Priority.BACKLOG] = max(many - sum(counts.values()), 0)
    so_far = 0  # counting began with the highest priority: what it reached is exact
    for band in _BANDS:
        so_far += counts[band] if band is not Priority.BACKLOG else 0
        if counts[band]:
            yield QueueLane(target=target, priority=band, jobs=counts[band], is_whole=so_far < COUNTED)


def _next(session: Session, target_id: int, priority: Priority | None, limit: int) -> list[int]:
    """The next jobs of a target, in order; each lane is one probe of `ix_job_ready`."""
    least, below = -1, _TOP
    if priority is not None:
        least, below = int(priority), min((one for one in Priority if one > priority), default=_TOP)
    values = {"target": target_id, "least": least, "below": int(below), "most": limit}
    return [job_id for (job_id,) in ask(session, _NEXT, values)]


def _each_lane() -> Any:
    """The first jobs of each lane of a target, from one priority up to another."""
    firsts = [
        select(rows.JOBS.c.id, rows.JOBS.c.priority)
        .where(
            rows.JOBS.c.target_id == bindparam("target"),
            rows.JOBS.c.memory_class == literal_column(str(number)),
            rows.JOBS.c.needs_layers == literal_column(str(needs_layers).lower()),
            rows.is_in(JobState.READY),
            rows.JOBS.c.priority >= bindparam("least"),
            rows.JOBS.c.priority < bindparam("below"),
        )
        .order_by(rows.JOBS.c.priority.desc(), rows.JOBS.c.id)
        .limit(bindparam("most"))
        for number in _CLASSES
        for needs_layers in (False, True)
    ]
    return union_all(*(select(one.subquery()) for one in firsts)).subquery("lanes")


_TOP = 2**31 - 1
_LANES = _each_lane()
_NEXT = Statement(
    select(_LANES.c.id).order_by(_LANES.c.priority.desc(), _LANES.c.id).limit(bindparam("most"))
)
_COUNT = Statement(select(_LANES.c.priority, func.count()).group_by(_LANES.c.priority))


def _first(session: Session, state: JobState, limit: int, *order: Any) -> list[int]:
    return list(session.scalars(select(Job.id).where(is_in(state)).order_by(*order).limit(limit)))


_ON = aliased(Job)
_ON_RELEASE = aliased(Release)
_ON_PROJECT = aliased(Project)
_OF_JOB = aliased(Build)
_NEWEST = select(func.max(_OF_JOB.id)).where(_OF_JOB.job_id == Job.id).correlate(Job).scalar_subquery()
_WANTED: Select[Any] = (
    select(
        Job.id.label("job_id"),
        Project.name.label("project"),
        Release.version,
        TargetRow.name.label("target"),
        Job.state,
        Job.priority,
        Job.memory_class,
        Job.packages,
        Job.created_at,
        Job.attempts,
        Job.not_before_at,
        Job.blocked_on_id.label("blocked_on"),
        _ON_PROJECT.name.label("blocked_on_project"),
        Build.reason,
    )
    .join(Release, Job.release_id == Release.id)
    .join(Project, Release.project_id == Project.id)
    .join(TargetRow, Job.target_id == TargetRow.id)
    .outerjoin(Build, and_(Build.job_id == Job.id, Build.id == _NEWEST))
    .outerjoin(_ON, Job.blocked_on_id == _ON.id)
    .outerjoin(_ON_RELEASE, _ON.release_id == _ON_RELEASE.id)
    .outerjoin(_ON_PROJECT, _ON_RELEASE.project_id == _ON_PROJECT.id)
)


def _queued(session: Session, job_ids: Sequence[int]) -> list[QueuedJob]:
    """These jobs, in this order."""
    if not job_ids:
        return []
    found = {}
    for row in session.execute(_WANTED.where(Job.id.in_(job_ids))).mappings():
        words = dict(row) | {"packages": row["packages"] or []}
        if row["state"] is not JobState.DELAYED:
            words["not_before_at"] = None
        found[row["job_id"]] = QueuedJob(**words)
    return [found[one] for one in job_ids if one in found]
