# SPDX-License-Identifier: BSD-3-Clause
"""Withdrawing what a builder has built since a time, because a person distrusts it.

Each wheel leaves the index, its bytes are blocked for ever, and its job is ready again, for other builders.
A builder may have built a hundred thousand: that is done in pieces of `_AT_ONCE`, so that nothing else waits
long; one that is interrupted is finished by asking again. Names are never used again (design, rule 2): what
is built anew gets a build tag. This module knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from piwheels_node.core.builders import BuilderEventKind
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import Purge, PurgeAnswer
from piwheels_node.master.builders import control
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    BlockedWheel,
    Build,
    Job,
    JobAvoidance,
    Project,
    Release,
    Wheel,
)
from piwheels_node.master.jobs import queue

AVOIDED_FOR = timedelta(days=30)
"""How long the builder gets none of these jobs again."""

_AT_ONCE = 100


@dataclass
class _Place:
    """How far a purge has come: the start and the number of the last build that was looked at."""

    started_at: datetime | None = None
    build_id: int = 0


@dataclass
class _Withdrawn:
    """What one piece of work withdrew; `projects` are the ids of those whose pages change."""

    wheels: list[str] = field(default_factory=list)
    jobs: int = 0
    place: _Place | None = None


def purge(database: Database, builder_id: int, wanted: Purge, now: datetime) -> PurgeAnswer:
    """Withdraw what a builder published since a time; gives the names of the files. It blocks."""
    wheels: list[str] = []
    jobs = 0
    place: _Place | None = _Place()
    while place is not None:
        at = place
        done = database.write(lambda session: _some(session, builder_id, wanted, at, now))  # noqa: B023 - run at once
        wheels += done.wheels
        jobs += done.jobs
        place = done.place
    database.write(lambda session: _remember(session, builder_id, wanted, len(wheels), jobs, now))
    return PurgeAnswer(wheels=wheels, jobs=jobs)


def _some(session: Session, builder_id: int, wanted: Purge, place: _Place, now: datetime) -> _Withdrawn:
    """Withdraw the next few wheels, in the order in which their builds began."""
    after = select(Wheel).join(Build, Wheel.build_id == Build.id).where(Build.builder_id == builder_id)
    if place.started_at is not None:
        after = after.where(
            Build.started_at >= place.started_at,
            or_(Build.started_at > place.started_at, Build.id > place.build_id),
        )
    found = session.scalars(
        after.where(Wheel.published_at >= wanted.since, Wheel.withdrawn_at.is_(None))
        .order_by(Build.started_at, Build.id)
        .limit(_AT_ONCE)
        .with_for_update(of=Wheel)
    ).all()
    done = _Withdrawn()
    for wheel in found:
        _withdraw(session, wheel, wanted.why, now)
        done.wheels.append(wheel.filename)
        done.jobs += _build_again(session, wheel.build, now)
        done.place = _Place(wheel.build.started_at, wheel.build_id)
    releases = select(Release.project_id).where(Release.id.in_({wheel.release_id for wheel in found}))
    for project_id in sorted(
        set(session.scalars(releases))
    ):  # in one order: masters must not lock each other out
        session.execute(update(Project).where(Project.id == project_id).values(serial=Project.serial + 1))
    return done


def _withdraw(session: Session, wheel: Wheel, why: str, now: datetime) -> None:
    wheel.withdrawn_at = now
    wheel.withdrawn_why = why
    if session.get(BlockedWheel, wheel.sha256) is None:
        session.add(BlockedWheel(sha256=wheel.sha256, blocked_at=now, why=why))
    queue.count(session, "wheels", -1)
    queue.count(session, "wheels.bytes", -wheel.size_bytes)
    queue.count(session, "wheels.withdrawn", 1)


def _build_again(session: Session, build: Build, now: datetime) -> int:
    """Queue the job of a build anew, unless there is something newer of it; gives how many: 0 or 1."""
    job = session.get_one(Job, build.job_id, with_for_update=True)
    newest = session.scalar(select(func.max(Build.id)).where(Build.job_id == job.id))
    session.merge(JobAvoidance(job_id=job.id, builder_id=build.builder_id, until_at=now + AVOIDED_FOR))
    if job.state is not JobState.BUILT or newest != build.id:
        return 0
    queue.requeue(session, job, now=now, why="its wheel was withdrawn")
    return 1


def _remember(  # noqa: PLR0917 - called once, above
    session: Session, builder_id: int, wanted: Purge, wheels: int, jobs: int, now: datetime
) -> None:
    control.record(
        session,
        builder_id,
        BuilderEventKind.PURGED,
        now,
        since=wanted.since.isoformat(),
        why=wanted.why,
        wheels=wheels,
        jobs=jobs,
    )
