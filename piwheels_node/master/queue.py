# SPDX-License-Identifier: BSD-3-Clause
"""The queue: how a job gets from ready to a builder and to its end.

    enqueue -> READY --claim--> LEASED --finish--> BUILT, FAILED, QUARANTINED, CANCELLED
                ^ ^               |  |                          |
                | +- hand_back, refuse -------------------------+-- requeue
                wake                 |
                +----- DELAYED <-----+ retry_elsewhere, reap, forsake

A lease has an end and a fencing token: who comes with another token, or too late, is refused, so that
a builder that was thought dead can do no harm (design, rule 6). Every function takes a session, does its
part of one transaction (state, counter and event together) and leaves the commit to `Database.write`.
The time comes from the caller. This module knows the tables, and neither HTTP nor files.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, bindparam, exists, select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.dml import ReturningUpdate

from piwheels_node.core.builders import memory_classes_below
from piwheels_node.core.errors import LeaseLostError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import EventKind, JobState, Outcome, Priority, Step
from piwheels_node.core.settings import MasterSettings
from piwheels_node.master.database.models import (
    Build,
    Job,
    JobAvoidance,
    PypiFile,
    Release,
    TargetRow,
    UtcDateTime,
)
from piwheels_node.master.database.session import WorkSession, working

LONGEST_DELAY_S = 24 * 3600.0
"""The delay before another try doubles up to this."""

_AT_ONCE = 200
"""How many jobs one call of `reap` or `wake` moves: no piece of work may hold the others up for long."""

_AVOID_TIMES = 4
_REFUSED_TIMES = 60
_AS_IN_DATABASE = {"synchronize_session": False, "populate_existing": True}


@dataclass(frozen=True)
class Claimed:
    """A job that was leased just now; `attempt` counts from 1."""

    job_id: int
    token: str
    attempt: int


@dataclass(frozen=True)
class HeldJob:
    """A leased job as its row says, without relations."""

    id: int
    release_id: int
    target_id: int
    memory_class: int
    attempts: int
    losses: int
    step: Step | None
    lease_until_at: datetime
    leased_at: datetime
    builder_id: int
    state: JobState = JobState.LEASED


def record(session: Session, job_id: int, kind: EventKind, now: datetime, **detail: Any) -> None:
    """Add a line to the job's history. `detail` is what JSON can hold."""
    working(session).record(job_id, now, kind.value, detail)


def count(session: Session, name: str, by: int) -> None:
    """Change a counter, which is made where it is missing."""
    working(session).count(name, by)


def announce(session: Session, topic: str) -> None:
    """Tell all processes once this is committed (`Database.subscribe`)."""
    working(session).announce(topic)


def move(session: Session, job: Job, state: JobState) -> None:
    """Put a job in another state, and the counters with it; who waits for one that is ready is told."""
    _recount(session, job.target_id, job.state, state)
    job.state = state


def enqueue(
    session: Session,
    *,
    release: Release,
    target: TargetRow,
    sdist: PypiFile,
    priority: Priority,
    now: datetime,
    memory_class: int = 0,
) -> tuple[Job, bool]:
    """The job of a release and a target, and whether it was made just now.

    One that is there keeps its state; where it waits, its priority is raised, never lowered.
    """
    job = session.scalars(
        select(Job).where(Job.release_id == release.id, Job.target_id == target.id).with_for_update()
    ).one_or_none()
    if job is not None:
        _raise_priority(session, job, priority, now)
        return job, False
    job = Job(
        release=release,
        target=target,
        sdist=sdist,
        state=JobState.READY,
        priority=int(priority),
        created_at=now,
        not_before_at=now,
        memory_class=memory_class,
        attempts=0,
        losses=0,
    )
    session.add(job)
    session.flush()
    _recount(session, target.id, None, JobState.READY)
    record(session, job.id, EventKind.QUEUED, now, priority=int(priority))
    return job, True


def requeue(session: Session, job: Job, *, now: datetime, why: str, priority: Priority | None = None) -> None:
    """Make a job ready from the start, whatever it came to; one that a builder holds is left to it."""
    if job.state is JobState.LEASED:
        return
    if job.state is JobState.READY:
        _raise_priority(session, job, priority or Priority.BACKLOG, now)
    else:
        record(session, job.id, EventKind.REQUEUED, now, why=why, after=job.state.value)
        move(session, job, JobState.READY)
        job.priority = job.priority if priority is None else int(priority)
    job.attempts = job.losses = 0
    job.not_before_at = now
    job.blocked_on_id = None


def claim(
    session: Session,
    *,
    builder_id: int,
    builder_name: str,
    targets: Sequence[str],
    memory_bytes: int | None,
    now: datetime,
    lease_s: float,
) -> Claimed | None:
    """Lease the first ready job of the lanes that a builder can serve; None where there is none.

    A lane is a target and a memory class that fits `memory_bytes`; its first row in `ix_job_ready` is read,
    whatever the length of the queue. Jobs that this builder avoids for now are passed over.
    """
    job = session.scalars(
        _claim_statement(),
        {
            "at": now,
            "names": list(targets),
            "classes": memory_classes_below(memory_bytes),
            "token": secrets.token_hex(16),
            "until": now + timedelta(seconds=lease_s),
            "builder": builder_id,
        },
        execution_options=_AS_IN_DATABASE,
    ).one_or_none()
    if job is None or job.lease_token is None:
        return None
    _recount(session, job.target_id, JobState.READY, JobState.LEASED)
    record(session, job.id, EventKind.LEASED, now, builder=builder_name, attempt=job.attempts)
    return Claimed(job.id, job.lease_token, job.attempts)


def held(session: Session, job_id: int, token: str, now: datetime, builder_id: int | None = None) -> Job:
    """`held_job` as the row with its relations."""
    held_job(session, job_id, token, now, builder_id)
    return session.get_one(Job, job_id)


def held_job(
    session: Session, job_id: int, token: str, now: datetime, builder_id: int | None = None
) -> HeldJob:
    """The job, for who holds its lease; raises LeaseLostError for everybody else.

    With `builder_id` only that builder is believed to. Inside `Database.write` the row is locked until then.
    """
    locks = isinstance(session, WorkSession)
    job = session.get(Job, job_id, with_for_update=locks or None)
    if job is None or job.state is not JobState.LEASED or not job.lease_token or not job.lease_until_at:
        raise LeaseLostError("nobody holds this job", where=f"job {job_id}")
    if not hmac.compare_digest(job.lease_token.encode(), token.encode()) or (
        builder_id not in {None, job.builder_id}
    ):
        raise LeaseLostError("another builder holds this job", where=f"job {job_id}")
    if job.lease_until_at <= now:
        raise LeaseLostError("the lease of this job is over", where=f"job {job_id}")
    return HeldJob(
        job.id,
        job.release_id,
        job.target_id,
        job.memory_class,
        job.attempts,
        job.losses,
        job.step,
        job.lease_until_at,
        job.leased_at or now,
        job.builder_id or 0,
    )


def heartbeat(  # noqa: PLR0917 - in the order of `held`
    session: Session,
    job_id: int,
    token: str,
    builder_id: int | None,
    step: Step,
    now: datetime,
    lease_s: float,
) -> None:
    """Make the lease last `lease_s` from now, and note the step; raises LeaseLostError."""
    held_job(session, job_id, token, now, builder_id)
    job = session.get_one(Job, job_id)
    job.lease_until_at = now + timedelta(seconds=lease_s)
    if job.step is not step:
        job.step = step
        record(session, job_id, EventKind.STEP, now, step=step.value)


def add_build(session: Session, **columns: Any) -> int:
    """Insert a row of `Build`; gives its id. Columns that are not named are None."""
    build = Build(**columns)
    session.add(build)
    session.flush()
    return build.id


def finish(session: Session, job: Job | HeldJob, *, state: JobState, now: datetime, **detail: Any) -> None:
    """End a leased job for good; its token is worth nothing any more."""
    if not state.is_final:
        raise ValueError(f"{state.value} is no end")
    job = _row(session, job)
    _end_lease(job)
    move(session, job, state)
    record(session, job.id, EventKind(state.value), now, **detail)


def retry_elsewhere(
    session: Session, job: Job | HeldJob, now: datetime, settings: MasterSettings, **detail: Any
) -> None:
    """Delay a leased job, twice as long with each attempt; its builder avoids it four times as long."""
    job = _row(session, job)
    doublings = min(max(job.attempts - 1, 0), 32)
    delay_s = min(settings.retry_delay_s * 2**doublings, LONGEST_DELAY_S)
    if job.builder_id is not None:
        _avoid(session, job.id, job.builder_id, now + timedelta(seconds=_AVOID_TIMES * delay_s))
    _end_lease(job)
    move(session, job, JobState.DELAYED)
    job.not_before_at = now + timedelta(seconds=delay_s)
    record(session, job.id, EventKind.RETRY, now, delay_s=delay_s, **detail)


def hand_back(session: Session, job: Job | HeldJob, now: datetime) -> None:
    """The builder gives its lease back unfinished: ready at once, and not counted as an attempt."""
    job = _row(session, job)
    _end_lease(job)
    move(session, job, JobState.READY)
    job.attempts = max(job.attempts - 1, 0)
    record(session, job.id, EventKind.HANDED_BACK, now)


def refuse(  # noqa: PLR0917 - in the order of the others
    session: Session,
    job: Job | HeldJob,
    builder_id: int,
    what: str,
    now: datetime,
    settings: MasterSettings,
) -> None:
    """The builder will not build what it leased: ready at once for others, and not counted as an attempt.

    It avoids the job for `_REFUSED_TIMES` times `retry_delay_s`.
    """
    job = _row(session, job)
    for_s = min(_REFUSED_TIMES * settings.retry_delay_s, LONGEST_DELAY_S)
    _avoid(session, job.id, builder_id, now + timedelta(seconds=for_s))
    _end_lease(job)
    move(session, job, JobState.READY)
    job.attempts = max(job.attempts - 1, 0)
    record(session, job.id, EventKind.REFUSED, now, builder=builder_id, what=what)


def cancel(session: Session, job: Job, now: datetime, **detail: Any) -> bool:
    """Nobody wants the job any more; who holds it has lost it. False where it has ended already."""
    if job.state.is_final:
        return False
    _end_lease(job)
    move(session, job, JobState.CANCELLED)
    record(session, job.id, EventKind.CANCELLED, now, **detail)
    return True


def wake(session: Session, now: datetime) -> int:
    """Make jobs ready whose delay is over, `_AT_ONCE` at most; gives how many."""
    jobs = session.scalars(
        select(Job)
        .where(_is(Job, JobState.DELAYED), Job.not_before_at <= now)
        .order_by(Job.not_before_at)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        move(session, job, JobState.READY)
        record(session, job.id, EventKind.AWAKE, now)
    return len(jobs)


def reap(session: Session, now: datetime, settings: MasterSettings) -> list[int]:
    """Take the jobs whose lease is over from their builders; gives their ids, `_AT_ONCE` at most.

    Each goes to another builder, until `max_attempts` builders died of it: then only a person frees it.
    """
    jobs = session.scalars(
        select(Job)
        .where(_is(Job, JobState.LEASED), Job.lease_until_at <= now)
        .order_by(Job.lease_until_at)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        _lose(session, job, now, settings)
    return [job.id for job in jobs]


def forsake(session: Session, builder_id: int, now: datetime, settings: MasterSettings) -> list[int]:
    """Take all jobs from a builder that has just started, and so knows nothing of them; gives their ids.

    Whatever ended it may have been a job, so each counts as lost, as in `reap`.
    """
    jobs = session.scalars(
        select(Job).where(_is(Job, JobState.LEASED), Job.builder_id == builder_id).with_for_update()
    ).all()
    for job in jobs:
        _lose(session, job, now, settings)
    return [job.id for job in jobs]


def _lose(session: Session, job: Job, now: datetime, settings: MasterSettings) -> None:
    session.add(_lost_build(job, now))
    job.losses += 1
    record(session, job.id, EventKind.LOST, now, attempt=job.attempts, losses=job.losses)
    if job.losses >= settings.max_attempts:
        finish(session, job, state=JobState.QUARANTINED, now=now, losses=job.losses)
    else:
        retry_elsewhere(session, job, now, settings, reason=FailureReason.BUILDER_LOST.value)


def _lost_build(job: Job, now: datetime) -> Build:
    started_at = job.leased_at or now
    return Build(
        job_id=job.id,
        builder_id=job.builder_id,
        attempt=job.attempts,
        started_at=started_at,
        duration_s=(now - started_at).total_seconds(),
        outcome=Outcome.FAILED,
        reason=FailureReason.BUILDER_LOST,
    )


def _raise_priority(session: Session, job: Job, priority: Priority, now: datetime) -> None:
    if job.state in {JobState.READY, JobState.BLOCKED, JobState.DELAYED} and priority > job.priority:
        record(session, job.id, EventKind.RAISED, now, priority=int(priority), before=job.priority)
        job.priority = int(priority)


def _end_lease(job: Job) -> None:
    job.lease_token = job.lease_until_at = job.leased_at = job.builder_id = job.step = None


@cache
def _claim_statement() -> ReturningUpdate[Job]:
    """Built once: SQLAlchemy takes ten times longer to build it than SQLite to run it."""
    at = bindparam("at", type_=UtcDateTime())
    ready = aliased(Job)
    first_of_target = (
        select(ready.id)
        .where(
            ready.target_id == TargetRow.id,
            ready.memory_class.in_(bindparam("classes", expanding=True)),
            _is(ready, JobState.READY),
            ~exists().where(
                JobAvoidance.job_id == ready.id,
                JobAvoidance.builder_id == bindparam("builder"),
                JobAvoidance.until_at > at,
            ),
        )
        .order_by(ready.priority.desc(), ready.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .correlate(TargetRow)
        .scalar_subquery()
    )
    found = aliased(Job)
    first = (
        select(found.id)
        .join_from(TargetRow, found, found.id == first_of_target)
        .where(TargetRow.name.in_(bindparam("names", expanding=True)))
        .order_by(found.priority.desc(), found.id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        update(Job)
        .where(Job.id == first)
        .values(
            state=JobState.LEASED,
            lease_token=bindparam("token"),
            lease_until_at=bindparam("until"),
            leased_at=at,
            builder_id=bindparam("builder"),
            attempts=Job.attempts + 1,
            step=None,
        )
        .returning(Job)
    )


def _is(job: type[Job], state: JobState) -> ColumnElement[bool]:
    """The state, spelled out in the statement, so that any planner sees that a partial index fits."""
    return job.state == bindparam(None, state, type_=Job.state.type, literal_execute=True)


def _recount(session: Session, target_id: int, before: JobState | None, after: JobState) -> None:
    if before is not None:
        count(session, f"jobs.{before.value}", -1)
    count(session, f"jobs.{after.value}", 1)
    if before is JobState.READY:
        count(session, f"jobs.ready.{target_id}", -1)
    if after is JobState.READY:
        count(session, f"jobs.ready.{target_id}", 1)
        announce(session, f"ready:{session.get_one(TargetRow, target_id).name}")


def _avoid(session: Session, job_id: int, builder_id: int, until_at: datetime) -> None:
    session.merge(JobAvoidance(job_id=job_id, builder_id=builder_id, until_at=until_at))


def _row(session: Session, job: Job | HeldJob) -> Job:
    return job if isinstance(job, Job) else session.get_one(Job, job.id)
