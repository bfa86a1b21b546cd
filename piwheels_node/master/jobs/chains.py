# SPDX-License-Identifier: BSD-3-Clause
"""Jobs that wait for other jobs: what a build needs, and only its source is to be had, is built first.

    LEASED --block--> BLOCKED on another job
                         |  that job is built                  release, or sweep
                         +--------------------> READY
                         |  it ends in any other way
                         +--------------------> FAILED, requirement-failed, and so do those that wait for it

`queue.finish` calls `release` in the transaction that ends a job which others wait for; `sweep` finds what
was left over, because there were very many. Nobody waits for himself: chains are followed with their rows
locked, and have an end (`why_not`). This module knows the tables; `blocking` says what a job waits for.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.orm.attributes import set_committed_value

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import EventKind, JobState
from piwheels_node.master.database.models import Build, Job
from piwheels_node.master.database.session import working
from piwheels_node.master.jobs.history import record, recount
from piwheels_node.master.jobs.rows import is_in
from piwheels_node.master.text import storable

MOST_DEPTH = 6
"""Jobs in a chain, each of which waits for the next."""

MOST_WAITS = 10
"""How often one job may wait: packages name what they need, so a stranger could ask for all of PyPI."""

_AT_ONCE = 200
_LONGEST_EVIDENCE = 1000
_FINAL = [state for state in JobState if state.is_final]


def enough(session: Session, job: Job) -> str | None:
    """Why a job can wait for nothing more, so that nothing more is built for it; None where it can."""
    if job.waits >= MOST_WAITS:
        return f"it has waited for {job.waits} others already"
    return _too_long(2 + _height(session, job))


def why_not(session: Session, job: Job, on: Job) -> str | None:
    """Why a job cannot wait for another one; None where it can. The rows that decide it stay locked."""
    if on.id == job.id:
        return "it needs itself"
    chain = _chain(session, on)
    if job.id in chain:
        names = ", ".join(_name(session.get_one(Job, one)) for one in chain)
        return f"they need each other: {names}"
    return _too_long(len(chain) + 1 + _height(session, job))


def release(session: Session, job_id: int, now: datetime) -> int:
    """A job that others may wait for has ended, and its row says how: they go on; gives how many."""
    session.flush()
    ended = session.get_one(Job, job_id, populate_existing=True)
    waiting = session.scalars(
        select(Job)
        .where(is_in(JobState.BLOCKED), Job.blocked_on_id == job_id)
        .order_by(Job.id)
        .limit(_AT_ONCE)
        .with_for_update()
    ).all()
    for one in waiting:
        _go_on(session, one, ended, now)
    if len(waiting) < _AT_ONCE:
        session.execute(update(Job).where(Job.id == job_id).values(is_awaited=False))
        set_committed_value(ended, "is_awaited", value=False)
    return len(waiting)


def sweep(session: Session, now: datetime) -> int:
    """Let jobs go on that wait for one that has ended, `_AT_ONCE` at most; gives how many."""
    ended = aliased(Job)
    found = session.execute(
        select(Job, ended)
        .join(ended, Job.blocked_on_id == ended.id)
        .where(is_in(JobState.BLOCKED), ended.state.in_(_FINAL))
        .limit(_AT_ONCE)
        .with_for_update(of=Job, skip_locked=True)
    ).all()
    for waiting, of in found:
        _go_on(session, waiting, of, now)
    return len(found)


def _go_on(session: Session, job: Job, ended: Job, now: datetime) -> None:
    job.blocked_on_id = None
    if ended.state is JobState.BUILT:
        _move(session, job, JobState.READY)
        record(session, job.id, EventKind.UNBLOCKED, now, on=ended.id, project=ended.release.project.name)
        return
    newest = select(Build).where(Build.job_id == job.id).order_by(Build.id.desc()).limit(1)
    build = session.scalar(newest)
    what = why_failed(session, ended)
    captured = ended.release.project.name
    if build is not None:  # what it missed is known better now
        build.reason, build.captured = FailureReason.REQUIREMENT_FAILED, captured
        build.evidence, build.evidence_line = what, None
    _move(session, job, JobState.FAILED)
    reason = FailureReason.REQUIREMENT_FAILED.value
    record(session, job.id, EventKind.FAILED, now, reason=reason, captured=captured, on=ended.id)
    session.flush()
    if job.is_awaited:
        release(session, job.id, now)


def _too_long(length: int) -> str | None:
    return f"more than {MOST_DEPTH} would wait for one another" if length > MOST_DEPTH else None


def why_failed(session: Session, ended: Job) -> str:
    """What to say of a job that has no wheel, to those who need it."""
    newest = select(Build).where(Build.job_id == ended.id).order_by(Build.id.desc()).limit(1)
    build = session.scalar(newest)
    reason = build.reason if build and ended.state is JobState.FAILED else None
    words = [_name(ended), "ended as", ended.state.value]
    if reason is not None and build is not None:
        words[-1] += ":"
        words += [reason.value, build.captured or ""]
    return storable(" ".join(words).strip(), _LONGEST_EVIDENCE)


def _move(session: Session, job: Job, state: JobState) -> None:
    recount(working(session), job.target_id, job.state, state)
    job.state = state


def _chain(session: Session, first: Job) -> list[int]:
    """The jobs that the first one waits for, itself included; each is locked, so that no ring can close."""
    chain, next_id = [first.id], first.blocked_on_id
    while next_id is not None and next_id not in chain and len(chain) <= MOST_DEPTH:
        chain.append(next_id)
        next_id = session.scalar(
            select(Job.blocked_on_id).where(Job.id == next_id, is_in(JobState.BLOCKED)).with_for_update()
        )
    return chain


def _height(session: Session, job: Job) -> int:
    """How many jobs wait for one another down to this one."""
    level, height = [job.id] if job.is_awaited else [], 0
    while level and height <= MOST_DEPTH:
        above = select(Job.id).where(is_in(JobState.BLOCKED), Job.blocked_on_id.in_(level)).limit(_AT_ONCE)
        level = list(session.scalars(above))
        height += bool(level)
    return height


def _name(job: Job) -> str:
    return f"{job.release.project.name} {job.release.version} (job {job.id})"
