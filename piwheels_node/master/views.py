# SPDX-License-Identifier: BSD-3-Clause
"""Rows of the database as the messages that people and programs read.

Every query here is bounded: no page or screen makes the database count or walk a large table. Functions
take a session and give `core.messages`; this module knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from piwheels_node import __version__
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import (
    BuildView,
    EventView,
    JobView,
    ProjectView,
    Status,
    StepTime,
    WheelView,
)
from piwheels_node.core.targets import Target
from piwheels_node.master.database.models import (
    Build,
    Builder,
    BuilderTarget,
    Counter,
    Event,
    Job,
    Project,
    Release,
    TargetRow,
    Wheel,
)

ALIVE_S = 300.0
"""A builder that was not heard of for this long is not counted, and what it offers does not count."""

_MOST = 500


def status(session: Session, now: datetime) -> Status:
    """The master in a few numbers, all of them kept as counters."""
    counters = {row.name: row.value for row in session.scalars(select(Counter))}
    alive = select(func.count()).select_from(Builder).where(Builder.last_seen_at > _alive_since(now))
    return Status(
        version=__version__,
        targets=offered_targets(session),
        jobs={state.value: counters.get(f"jobs.{state.value}", 0) for state in JobState},
        wheels=counters.get("wheels", 0),
        wheels_bytes=counters.get("wheels.bytes", 0),
        builders=session.scalar(alive) or 0,
    )


def offered_targets(session: Session) -> list[str]:
    """The targets that builders offer, those of the newest Python first."""
    names = session.scalars(select(TargetRow.name).where(TargetRow.id.in_(select(BuilderTarget.target_id))))
    return [str(target) for target in sorted((Target.parse(name) for name in names), reverse=True)]


def offered_environments(session: Session, target_id: int, now: datetime) -> set[str]:
    """The environments in which builders that are alive would build for a target now."""
    found = session.scalars(
        select(BuilderTarget.environment_id)
        .join(Builder, BuilderTarget.builder_id == Builder.id)
        .where(BuilderTarget.target_id == target_id, Builder.last_seen_at > _alive_since(now))
    )
    return set(found)


def jobs(session: Session, state: JobState | None, limit: int) -> list[JobView]:
    """The newest jobs, in one state or in any."""
    wanted = select(Job).order_by(Job.id.desc()).limit(min(limit, _MOST))
    return _job_views(session, wanted if state is None else wanted.where(Job.state == state))


def job(session: Session, job_id: int) -> JobView | None:
    """One job, or None where there is none with this number."""
    found = _job_views(session, select(Job).where(Job.id == job_id))
    return found[0] if found else None


def events(session: Session, job_id: int) -> list[EventView]:
    """What happened to a job, oldest first; of very many, the newest."""
    rows = session.scalars(
        select(Event).where(Event.job_id == job_id).order_by(Event.id.desc()).limit(_MOST)
    ).all()
    return [
        EventView(event_id=row.id, job_id=row.job_id, at=row.at, kind=row.kind, detail=row.detail)
        for row in reversed(rows)
    ]


def project(session: Session, name: str) -> ProjectView | None:
    """A project's newest jobs and wheels, or None where it is not known."""
    row = session.scalar(select(Project).where(Project.name == name))
    if row is None:
        return None
    releases = select(Release.id).where(Release.project_id == row.id)
    wanted = select(Job).where(Job.release_id.in_(releases)).order_by(Job.id.desc()).limit(_MOST)
    wheels = session.scalars(
        select(Wheel)
        .where(Wheel.release_id.in_(releases), Wheel.withdrawn_at.is_(None))
        .options(joinedload(Wheel.release), selectinload(Wheel.libraries))
        .order_by(Wheel.id.desc())
        .limit(_MOST)
    )
    return ProjectView(
        name=row.name, jobs=_job_views(session, wanted), wheels=[_wheel_view(wheel) for wheel in wheels]
    )


def _job_views(session: Session, wanted: Select[Any]) -> list[JobView]:
    rows = session.scalars(
        wanted.options(
            joinedload(Job.release).joinedload(Release.project),
            joinedload(Job.target),
        )
    ).all()
    newest = _newest_builds(session, [row.id for row in rows])
    return [
        JobView(
            job_id=row.id,
            project=row.release.project.name,
            version=row.release.version,
            target=row.target.name,
            state=row.state,
            step=row.step,
            attempts=row.attempts,
            created_at=row.created_at,
            build=_build_view(newest[row.id]) if row.id in newest else None,
        )
        for row in rows
    ]


def _newest_builds(session: Session, job_ids: Sequence[int]) -> dict[int, Build]:
    newest = select(func.max(Build.id)).where(Build.job_id.in_(job_ids)).group_by(Build.job_id)
    rows = session.scalars(
        select(Build).where(Build.id.in_(newest)).options(joinedload(Build.builder), joinedload(Build.wheel))
    )
    return {row.job_id: row for row in rows}


def _build_view(row: Build) -> BuildView:
    return BuildView(
        build_id=row.id,
        builder=row.builder.name,
        outcome=row.outcome,
        reason=row.reason,
        captured=row.captured,
        debian_package=row.debian_package,
        evidence=row.evidence,
        evidence_line=row.evidence_line,
        started_at=row.started_at,
        duration_s=row.duration_s,
        steps=[StepTime.model_validate(step) for step in row.steps or ()],
        wheel=row.wheel.filename if row.wheel else None,
        size_bytes=row.wheel.size_bytes if row.wheel else None,
    )


def _wheel_view(row: Wheel) -> WheelView:
    return WheelView(
        filename=row.filename,
        version=row.release.version,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        requires_python=row.requires_python,
        published_at=row.published_at,
        libraries={library.soname: library.debian_package for library in row.libraries},
    )


def _alive_since(now: datetime) -> datetime:
    return now - timedelta(seconds=ALIVE_S)
