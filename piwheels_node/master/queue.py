# SPDX-License-Identifier: BSD-3-Clause
"""The queue: how a job gets from ready to a builder and to its end.

    enqueue -> READY --claim--> LEASED --finish--> BUILT, FAILED, QUARANTINED, CANCELLED
                 ^                 |                          |
                 +-- hand_back, retry_elsewhere, reap --------+-- requeue

A lease has an end and a fencing token: who comes with another token, or too late, is refused, so that
a builder that was thought dead can do no harm (design, rule 6). Every function takes a session, does its
part of one transaction (state, counter and event together) and leaves the commit to `Database.write`.
The time comes from the caller. This module knows the tables, and neither HTTP nor files.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, bindparam, select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.dml import ReturningUpdate

from piwheels_node.core.errors import LeaseLostError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import EventKind, JobState, Outcome, Priority, Step
from piwheels_node.core.settings import MasterSettings
from piwheels_node.master.database.models import (
    Build,
    Builder,
    Counter,
    Event,
    Job,
    PypiFile,
    Release,
    TargetRow,
    UtcDateTime,
)

LONGEST_DELAY_S = 24 * 3600.0
"""The delay before another try doubles up to this."""

_REAP_AT_ONCE = 200
_AS_IN_DATABASE = {"synchronize_session": False, "populate_existing": True}


def record(session: Session, job_id: int, kind: EventKind, now: datetime, **detail: Any) -> None:
    """Add a line to the job's history. `detail` is what JSON can hold."""
    session.add(Event(job_id=job_id, at=now, kind=kind.value, detail=detail))


def count(session: Session, name: str, by: int) -> None:
    """Change a counter, which is made where it is missing."""
    changed = session.scalars(
        _count_statement(), {"of": name, "by": by}, execution_options=_AS_IN_DATABASE
    ).all()
    if not changed:
        session.add(Counter(name=name, value=by))
        session.flush()


def move(session: Session, job: Job, state: JobState) -> None:
    """Put a job in another state, and the counters `jobs.<state>` with it."""
    _recount(session, job.state, state)
    job.state = state


def enqueue(
    session: Session,
    *,
    release: Release,
    target: TargetRow,
    sdist: PypiFile,
    priority: Priority,
    now: datetime,
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
        attempts=0,
        losses=0,
    )
    session.add(job)
    session.flush()
    count(session, f"jobs.{JobState.READY.value}", 1)
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
    session: Session, *, builder: Builder, targets: Sequence[str], now: datetime, lease_s: float
) -> Job | None:
    """Lease the first ready job of these targets to a builder; None where there is none.

    One statement finds the job and takes it, so two builders never get the same. For each target it reads
    the first row of the index `ix_job_ready`, whatever the length of the queue.
    """
    job = session.scalars(
        _claim_statement(),
        {
            "at": now,
            "names": list(targets),
            "token": secrets.token_hex(16),
            "until": now + timedelta(seconds=lease_s),
            "builder": builder.id,
        },
        execution_options=_AS_IN_DATABASE,
    ).one_or_none()
    if job is not None:
        _recount(session, JobState.READY, JobState.LEASED)
        record(session, job.id, EventKind.LEASED, now, builder=builder.name, attempt=job.attempts)
    return job


def held(session: Session, job_id: int, token: str, now: datetime) -> Job:
    """The job, for who holds its lease; raises LeaseLostError for everybody else."""
    job = session.get(Job, job_id, with_for_update=True)
    if job is None or job.state is not JobState.LEASED or not job.lease_token or not job.lease_until_at:
        raise LeaseLostError("nobody holds this job", where=f"job {job_id}")
    if not hmac.compare_digest(job.lease_token.encode(), token.encode()):
        raise LeaseLostError("another builder holds this job", where=f"job {job_id}")
    if job.lease_until_at <= now:
        raise LeaseLostError("the lease of this job is over", where=f"job {job_id}")
    return job


def heartbeat(  # noqa: PLR0917 - in the order of `held`
    session: Session, job_id: int, token: str, step: Step, now: datetime, lease_s: float
) -> Job:
    """Make the lease last `lease_s` from now, and note the step; raises LeaseLostError."""
    job = held(session, job_id, token, now)
    job.lease_until_at = now + timedelta(seconds=lease_s)
    if job.step is not step:
        job.step = step
        record(session, job_id, EventKind.STEP, now, step=step.value)
    return job


def finish(session: Session, job: Job, *, state: JobState, now: datetime, **detail: Any) -> None:
    """End a leased job for good; its token is worth nothing any more."""
    if not state.is_final:
        raise ValueError(f"{state.value} is no end")
    _end_lease(job)
    move(session, job, state)
    record(session, job.id, EventKind(state.value), now, **detail)


def retry_elsewhere(
    session: Session, job: Job, now: datetime, settings: MasterSettings, **detail: Any
) -> None:
    """Make a leased job ready again, after a delay that doubles with each attempt."""
    doublings = min(max(job.attempts - 1, 0), 32)
    delay_s = min(settings.retry_delay_s * 2**doublings, LONGEST_DELAY_S)
    _end_lease(job)
    move(session, job, JobState.READY)
    job.not_before_at = now + timedelta(seconds=delay_s)
    record(session, job.id, EventKind.RETRY, now, delay_s=delay_s, **detail)


def hand_back(session: Session, job: Job, now: datetime) -> None:
    """The builder gives its lease back unfinished: ready at once, and not counted as an attempt."""
    _end_lease(job)
    move(session, job, JobState.READY)
    job.attempts = max(job.attempts - 1, 0)
    record(session, job.id, EventKind.HANDED_BACK, now)


def reap(session: Session, now: datetime, settings: MasterSettings) -> list[int]:
    """Take the jobs whose lease is over from their builders; gives their ids, `_REAP_AT_ONCE` at most.

    Each goes to another builder, until `max_attempts` builders died of it: then only a person frees it.
    """
    jobs = session.scalars(
        select(Job)
        .where(_is(Job, JobState.LEASED), Job.lease_until_at <= now)
        .order_by(Job.lease_until_at)
        .limit(_REAP_AT_ONCE)
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
    if job.state in {JobState.READY, JobState.BLOCKED} and priority > job.priority:
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
        .where(ready.target_id == TargetRow.id, _is(ready, JobState.READY), ready.not_before_at <= at)
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


@cache
def _count_statement() -> ReturningUpdate[str]:
    return (
        update(Counter)
        .where(Counter.name == bindparam("of"))
        .values(value=Counter.value + bindparam("by"))
        .returning(Counter.name)
    )


def _is(job: type[Job], state: JobState) -> ColumnElement[bool]:
    """The state, spelled out in the statement, so that any planner sees that a partial index fits."""
    return job.state == bindparam(None, state, type_=Job.state.type, literal_execute=True)


def _recount(session: Session, before: JobState, after: JobState) -> None:
    count(session, f"jobs.{before.value}", -1)
    count(session, f"jobs.{after.value}", 1)
