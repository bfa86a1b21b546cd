# SPDX-License-Identifier: BSD-3-Clause
"""How jobs come into the queue: made, made ready again, given other priorities and Debian packages.

`queue` has all of this, too, besides what happens to jobs that are leased. This module knows the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.jobs import EventKind, JobState, Priority
from piwheels_node.master.database.models import Job, PypiFile, Release, TargetRow
from piwheels_node.master.database.session import working
from piwheels_node.master.jobs.equipment import packages_for
from piwheels_node.master.jobs.history import record, recount, tell_ready


def move(session: Session, job: Job, state: JobState) -> None:
    """Put a job in another state, and the counters with it; who waits for one that is ready is told."""
    recount(working(session), job.target_id, job.state, state)
    job.state = state


def enqueue(
    session: Session,
    *,
    release: Release,
    target: TargetRow,
    sdist: PypiFile,
    priority: int,
    now: datetime,
    memory_class: int = 0,
    packages: Sequence[str] | None = None,
) -> tuple[Job, bool]:
    """The job of a release and a target, and whether it was made just now.

    A new one has these Debian packages; None: those that the rules of its project say (`equipment`).
    One that is there keeps its state; where it waits, its priority is raised, never lowered.
    """
    job = session.scalars(
        select(Job).where(Job.release_id == release.id, Job.target_id == target.id).with_for_update()
    ).one_or_none()
    if job is not None:
        _raise_priority(session, job, priority, now)
        return job, False
    if packages is None:
        packages = packages_for(session, release.project_id, target, now)
    job = Job(
        release=release,
        target=target,
        sdist=sdist,
        state=JobState.READY,
        priority=int(priority),
        created_at=now,
        not_before_at=now,
        memory_class=memory_class,
        packages=list(packages),
        needs_layers=bool(packages),
        attempts=0,
        losses=0,
    )
    session.add(job)
    session.flush()
    recount(working(session), target.id, None, JobState.READY)
    with_packages = {"packages": " ".join(packages)} if packages else {}
    record(session, job.id, EventKind.QUEUED, now, priority=int(priority), **with_packages)
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
    equip(session, job, packages_for(session, job.release.project_id, job.target, now))
    job.attempts = job.losses = job.rounds = job.waits = 0
    job.not_before_at = now
    job.blocked_on_id = None


def equip(session: Session, job: Job, packages: Sequence[str]) -> bool:
    """Let the next build of a job have exactly these Debian packages; False where it would have them anyway.

    One that a builder holds is left alone. It may be in another lane now, so who waits for jobs is told.
    """
    if job.state is JobState.LEASED or list(packages) == (job.packages or []):
        return False
    job.packages, job.needs_layers = list(packages), bool(packages)
    if job.state is JobState.READY:
        tell_ready(working(session), job.target_id)
    return True


def _raise_priority(session: Session, job: Job, priority: int, now: datetime) -> None:
    waits = {JobState.READY, JobState.BLOCKED, JobState.DELAYED}
    if job.state in waits and priority > job.priority:
        record(session, job.id, EventKind.RAISED, now, priority=int(priority), before=job.priority)
        job.priority = int(priority)
