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

from sqlalchemy import func, select, update
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
from piwheels_node.master.jobs import history, queue

AVOIDED_FOR = timedelta(days=30)
"""How long the builder gets none of these jobs again."""

_AT_ONCE = 100


@dataclass
class _Withdrawn:
    """What one piece of work withdrew; `newest_id` is the last of its builds, None where there was none."""

    wheels: list[str] = field(default_factory=list)
    jobs: int = 0
    newest_id: int | None = None


def purge(database: Database, builder_id: int, wanted: Purge, now: datetime) -> PurgeAnswer:
    """Withdraw what a builder published since a time; gives the names of the files. It blocks."""
    wheels: list[str] = []
    jobs = 0
    after: int | None = 0
    while after is not None:
        at = after
        done = database.write(lambda session: _some(session, builder_id, wanted, at, now))  # noqa: B023 - run at once
        wheels += done.wheels
        jobs += done.jobs
        after = done.newest_id
    database.write(lambda session: _remember(session, builder_id, wanted, len(wheels), jobs, now))
    return PurgeAnswer(wheels=wheels, jobs=jobs)


def _some(session: Session, builder_id: int, wanted: Purge, after: int, now: datetime) -> _Withdrawn:
    """Withdraw the next few wheels, of the builds with numbers beyond `after`."""
    found = session.scalars(
        select(Wheel)
        .join(Build, Wheel.build_id == Build.id)
        .where(Build.builder_id == builder_id, Build.id > after)
        .where(Wheel.published_at >= wanted.since, Wheel.withdrawn_at.is_(None))
        .order_by(Build.id)
        .limit(_AT_ONCE)
        .with_for_update(of=Wheel)
    ).all()
    done = _Withdrawn()
    for wheel in found:
        _withdraw(session, wheel, wanted.why, now)
        done.wheels.append(wheel.filename)
        done.jobs += _build_again(session, wheel.build, now)
        done.newest_id = wheel.build_id
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
    history.count_wheel(session, wheel.filename, wheel.size_bytes, -1)
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
