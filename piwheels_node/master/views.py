# SPDX-License-Identifier: BSD-3-Clause
"""Rows of the database as the messages that people and programs read.

Every query here is bounded: no page or screen makes the database count or walk a large table. Functions
take a session and give `core.messages`; this module knows no HTTP.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from piwheels_node import __version__
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import (
    BuilderEventView,
    BuilderView,
    BuildView,
    EventView,
    Health,
    JobView,
    Machine,
    ProjectView,
    Status,
    StepTime,
    WheelView,
)
from piwheels_node.core.targets import Target
from piwheels_node.master.builders import control
from piwheels_node.master.database.models import (
    Build,
    Builder,
    BuilderEvent,
    BuilderTarget,
    Counter,
    Event,
    FixRule,
    Job,
    Project,
    Release,
    TargetRow,
    Wheel,
)
from piwheels_node.master.jobs.rows import is_in

ALIVE_S = 300.0
"""A builder that was not heard of for this long is not counted, and what it offers does not count."""

LOOK_BACK = 50_000
"""How many jobs are looked through for those in one state."""

_MOST = 500
_REFUSED = "refused."
_FEW = frozenset({JobState.LEASED, JobState.QUARANTINED})
"""States that an index finds, and that few jobs are in."""


def status(session: Session, now: datetime) -> Status:
    """The master in a few numbers, all of them kept as counters."""
    counters = _counters(session)
    alive = select(func.count()).select_from(Builder).where(Builder.last_seen_at > alive_since(now))
    targets = session.execute(select(TargetRow.id, TargetRow.name).order_by(TargetRow.id))
    waiting = {row.name: counters.get(f"jobs.ready.{row.id}", 0) for row in targets}
    farm = control.farm_mode(session)
    return Status(
        version=__version__,
        targets=offered_targets(session),
        jobs={state.value: counters.get(f"jobs.{state.value}", 0) for state in JobState},
        wheels=counters.get("wheels", 0),
        wheels_bytes=counters.get("wheels.bytes", 0),
        queue={name: ready for name, ready in waiting.items() if ready > 0},
        builders=session.scalar(alive) or 0,
        mode=farm.mode,
        why=farm.why,
        refused={
            name.removeprefix(_REFUSED): value
            for name, value in sorted(counters.items())
            if name.startswith(_REFUSED)
        },
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
        .where(BuilderTarget.target_id == target_id, Builder.last_seen_at > alive_since(now))
    )
    return set(found)


def builders(session: Session) -> list[BuilderView]:
    """All builders, by name."""
    return _builder_views(session, select(Builder).order_by(Builder.name))


def builder(session: Session, name: str) -> BuilderView | None:
    """One builder, or None where there is none of this name."""
    found = _builder_views(session, select(Builder).where(Builder.name == name))
    return found[0] if found else None


def builder_events(session: Session, name: str) -> list[BuilderEventView] | None:
    """What happened to a builder, oldest first; of very many, the newest. None where there is no such one."""
    builder_id = session.scalar(select(Builder.id).where(Builder.name == name))
    if builder_id is None:
        return None
    rows = session.scalars(
        select(BuilderEvent)
        .where(BuilderEvent.builder_id == builder_id)
        .order_by(BuilderEvent.id.desc())
        .limit(_MOST)
    ).all()
    return [
        BuilderEventView(event_id=row.id, at=row.at, kind=row.kind, detail=row.detail)
        for row in reversed(rows)
    ]


def jobs(session: Session, state: JobState | None, limit: int) -> list[JobView]:
    """The newest jobs, in one state or in any.

    Of states that most jobs come to, those are found that are among the newest `LOOK_BACK` jobs of all.
    """
    wanted = select(Job).order_by(Job.id.desc()).limit(min(limit, _MOST))
    if state in _FEW:
        wanted = wanted.where(is_in(state))
    elif state is not None:
        newest = session.scalar(select(func.max(Job.id))) or 0
        wanted = wanted.where(Job.state == state, Job.id > newest - LOOK_BACK)
    return _job_views(session, wanted)


def jobs_of(session: Session, job_ids: Sequence[int]) -> list[JobView]:
    """These jobs, in the order of their numbers; of very many, the first."""
    return _job_views(session, select(Job).where(Job.id.in_(job_ids[:_MOST])).order_by(Job.id))


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
        name=row.name, jobs=_job_views(session, wanted), wheels=[wheel_view(wheel) for wheel in wheels]
    )


def _builder_views(session: Session, wanted: Select[Any]) -> list[BuilderView]:
    rows = session.scalars(wanted).all()
    ids = [row.id for row in rows]
    if not ids:
        return []
    counters = _counters(session, "builder.")
    targets: dict[int, list[str]] = defaultdict(list)
    for builder_id, name in session.execute(
        select(BuilderTarget.builder_id, TargetRow.name)
        .join(TargetRow, BuilderTarget.target_id == TargetRow.id)
        .where(BuilderTarget.builder_id.in_(ids))
        .order_by(TargetRow.name)
    ):
        targets[builder_id].append(name)
    in_hand: dict[int, list[int]] = defaultdict(list)
    for job_id, holder_id in session.execute(
        select(Job.id, Job.builder_id).where(is_in(JobState.LEASED), Job.builder_id.in_(ids))
    ):
        in_hand[holder_id or 0].append(job_id)
    views = {
        view.job_id: view for view in jobs_of(session, [one for some in in_hand.values() for one in some])
    }
    return [
        _builder_view(row).model_copy(
            update={
                "targets": targets[row.id],
                "jobs": [views[one] for one in in_hand[row.id] if one in views],
                "built": counters.get(f"builder.{row.id}.built", 0),
                "failed": counters.get(f"builder.{row.id}.failed", 0),
            }
        )
        for row in rows
    ]


def _builder_view(row: Builder) -> BuilderView:
    health = Health.model_validate(row.health) if row.health else None
    skew_s = None
    if health is not None and health.at is not None and row.health_at is not None:
        skew_s = (health.at - row.health_at).total_seconds()
    return BuilderView(
        builder_id=row.id,
        name=row.name,
        state=row.state,
        mode=row.mode,
        why=row.why,
        paused_itself=row.paused_itself,
        slots=row.slots,
        version=row.version,
        machine=Machine.model_validate(row.machine) if row.machine else None,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        health=health,
        health_at=row.health_at,
        clock_skew_s=skew_s,
    )


def _counters(session: Session, prefix: str = "") -> dict[str, int]:
    wanted = select(Counter.name, Counter.value).where(Counter.name.startswith(prefix, autoescape=True))
    return {row.name: row.value for row in session.execute(wanted)}


def _job_views(session: Session, wanted: Select[Any]) -> list[JobView]:
    rows = session.scalars(
        wanted.options(
            joinedload(Job.release).joinedload(Release.project),
            joinedload(Job.target),
            joinedload(Job.builder),
        )
    ).all()
    newest = _newest_builds(session, [row.id for row in rows])
    proposed = _proposed(session, [row for row in rows if row.state is JobState.FAILED], newest)
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
            packages=row.packages or [],
            rounds=row.rounds,
            blocked_on=row.blocked_on_id,
            fix=proposed.get(row.id),
            builder=row.builder.name if row.builder else None,
            leased_at=row.leased_at,
        )
        for row in rows
    ]


def _proposed(session: Session, failed: Sequence[Job], newest: dict[int, Build]) -> dict[int, int]:
    """The rule that is proposed for what each of these jobs missed, where there is one."""
    missed = {job.id: build for job in failed if (build := newest.get(job.id)) and build.debian_package}
    if not missed:
        return {}
    projects = {job.release.project_id for job in failed if job.id in missed}
    rules = session.scalars(
        select(FixRule)
        .where(FixRule.project_id.in_(projects), FixRule.state == FixState.PROPOSED)
        .order_by(FixRule.id)
        .limit(_MOST)
    ).all()
    return {
        job.id: rule.id
        for job in failed
        for rule in rules
        if job.id in missed
        and rule.project_id == job.release.project_id
        and rule.release in {None, Target.parse(job.target.name).release}
        and (rule.reason, rule.captured) == (missed[job.id].reason, missed[job.id].captured)
    }


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
        written_bytes=row.written_bytes,
        steps=[StepTime.model_validate(step) for step in row.steps or ()],
        wheel=row.wheel.filename if row.wheel else None,
        size_bytes=row.wheel.size_bytes if row.wheel else None,
        packages=row.packages or [],
    )


def wheel_view(row: Wheel) -> WheelView:
    """A wheel as people see it."""
    return WheelView(
        filename=row.filename,
        version=row.release.version,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        requires_python=row.requires_python,
        published_at=row.published_at,
        libraries={library.soname: library.debian_package for library in row.libraries},
    )


def alive_since(now: datetime) -> datetime:
    """Since when a builder must have been heard of to count as one that is up."""
    return now - timedelta(seconds=ALIVE_S)
