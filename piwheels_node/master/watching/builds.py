# SPDX-License-Identifier: BSD-3-Clause
"""Builds that have ended, page by page, and everything about one.

A page begins with the most telling of its conditions, which an index answers, and looks through the newest
`LOOK_BACK` of those builds for the others; the next page goes on behind them. So a question that fits few
builds costs no more than one that fits many. This module knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Subquery, func, select
from sqlalchemy.orm import Session, joinedload

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import BuildEnvironment, BuildFacts, BuildPage, BuildRow, StepTime
from piwheels_node.master import reports
from piwheels_node.master.database.models import Build, Builder, Job, Project, Release, TargetRow, Wheel
from piwheels_node.master.database.newest import newest_with
from piwheels_node.master.views import wheel_view

LOOK_BACK = 2000
"""How many builds one page looks through."""

_MOST = 500


@dataclass(frozen=True)
class Wanted:
    """Which builds; a condition that is None fits all. `project` is normalised."""

    builder: str | None = None
    project: str | None = None
    target: str | None = None
    job_id: int | None = None
    outcome: Outcome | None = None
    reason: FailureReason | None = None


def page(session: Session, wanted: Wanted, before: int | None, limit: int) -> BuildPage:
    """Builds, newest first; with `before` only those with smaller numbers."""
    limit = min(limit, _MOST)
    first, rest = _first(session, wanted, before)
    if not rest:
        found = build_rows(session, list(session.scalars(first.limit(limit))))
        return BuildPage(builds=found, before=found[-1].build_id if len(found) == limit else None)
    looked_at = first.limit(LOOK_BACK).subquery()
    found = build_rows(session, list(session.scalars(_fitting(looked_at, wanted, rest).limit(limit))))
    if len(found) == limit:
        return BuildPage(builds=found, before=found[-1].build_id)
    many, oldest = session.execute(select(func.count(), func.min(looked_at.c.id))).one()
    return BuildPage(builds=found, before=oldest if many == LOOK_BACK else None)


_BY_NUMBER = Build.id + 0
"""To be sorted by, where the other conditions leave few rows: no database shall walk all builds instead."""


_LOOKED_AT: tuple[Any, ...] = (Build.id, Build.job_id, Build.builder_id, Build.outcome, Build.reason)


def _first(session: Session, wanted: Wanted, before: int | None) -> tuple[Select[Any], set[str]]:
    """The builds that an index finds, newest first, and which conditions are left to be looked at."""
    rest = {name for name, value in vars(wanted).items() if value is not None}
    what: Select[Any] = select(*_LOOKED_AT)
    older = what if before is None else what.where(Build.id < before)
    if "job_id" in rest:
        return older.where(Build.job_id == wanted.job_id).order_by(_BY_NUMBER.desc()), rest - {"job_id"}
    if "project" in rest:
        jobs = select(Job.id).join(Release, Job.release_id == Release.id)
        jobs = jobs.join(Project, Release.project_id == Project.id).where(Project.name == wanted.project)
        return older.where(Build.job_id.in_(jobs)).order_by(_BY_NUMBER.desc()), rest - {"project"}
    if "builder" in rest:
        builder_id = session.scalar(select(Builder.id).where(Builder.name == wanted.builder))
        known = -1 if builder_id is None else builder_id
        return newest_with(session, what, Build.builder_id, known, Build.id, before), rest - {"builder"}
    if wanted.reason is not None:
        return reports.newest_of_reason(session, what, wanted.reason, before), rest - {"reason"}
    newest = older.order_by(Build.id.desc())
    if wanted.outcome is Outcome.FAILED:
        return newest.where(Build.reason.is_not(None)), rest - {"outcome"}
    return newest, rest


def _fitting(looked_at: Subquery, wanted: Wanted, rest: set[str]) -> Select[Any]:
    """The numbers of those that fit, newest first; nothing but what was looked at is touched."""
    seen = looked_at.c
    query = select(seen.id).order_by(seen.id.desc())
    if rest & {"target", "project"}:
        query = query.join(Job, seen.job_id == Job.id)
    if "target" in rest:
        query = query.join(TargetRow, Job.target_id == TargetRow.id).where(TargetRow.name == wanted.target)
    if "project" in rest:
        query = query.join(Release, Job.release_id == Release.id)
        query = query.join(Project, Release.project_id == Project.id).where(Project.name == wanted.project)
    if "builder" in rest:
        query = query.join(Builder, seen.builder_id == Builder.id).where(Builder.name == wanted.builder)
    if "outcome" in rest:
        query = query.where(seen.outcome == wanted.outcome)
    if "reason" in rest:
        query = query.where(seen.reason == wanted.reason)
    return query


def build_rows(session: Session, build_ids: Sequence[int]) -> list[BuildRow]:
    """These builds, newest first."""
    rows = session.execute(
        select(*_COLUMNS)
        .join(Job, Build.job_id == Job.id)
        .join(Release, Job.release_id == Release.id)
        .join(Project, Release.project_id == Project.id)
        .join(TargetRow, Job.target_id == TargetRow.id)
        .join(Builder, Build.builder_id == Builder.id)
        .where(Build.id.in_(build_ids))
        .order_by(Build.id.desc())
    )
    return [BuildRow(**row._mapping) for row in rows]  # noqa: SLF001 - the only way to a row as a mapping


_COLUMNS: tuple[Any, ...] = (
    Build.id.label("build_id"),
    Build.job_id,
    Project.name.label("project"),
    Release.version,
    TargetRow.name.label("target"),
    Builder.name.label("builder"),
    Build.outcome,
    Build.reason,
    Build.captured,
    Build.debian_package,
    Build.started_at,
    Build.duration_s,
)


@dataclass(frozen=True)
class Found:
    """A build, and which log is its own: that of the job's lease that began then."""

    facts: BuildFacts
    job_id: int
    begun_at: datetime


def facts(session: Session, build_id: int) -> Found | None:
    """Everything about one build but how long its log is; None where there is none with this number."""
    row = session.scalar(
        select(Build)
        .where(Build.id == build_id)
        .options(
            joinedload(Build.job),
            joinedload(Build.wheel).joinedload(Wheel.release),
            joinedload(Build.wheel).selectinload(Wheel.libraries),
        )
    )
    if row is None:
        return None
    wheel = row.wheel
    found = BuildFacts(
        build=build_rows(session, [build_id])[0],
        attempt=row.attempt,
        job_state=row.job.state,
        evidence=row.evidence,
        evidence_line=row.evidence_line,
        steps=[StepTime.model_validate(step) for step in row.steps or ()],
        cpu_s=row.cpu_s,
        peak_memory_bytes=row.peak_memory_bytes,
        written_bytes=row.written_bytes,
        environment=BuildEnvironment.model_validate(row.environment) if row.environment else None,
        packages=row.packages or [],
        wheel=wheel_view(wheel) if wheel else None,
        wheel_withdrawn=wheel.withdrawn_why if wheel and wheel.withdrawn_at else None,
    )
    return Found(found, row.job_id, row.started_at)


def lease_of(session: Session, build_id: int) -> tuple[int, datetime] | None:
    """The job of a build, and when its lease began; None where there is no such build."""
    row = session.execute(select(Build.job_id, Build.started_at).where(Build.id == build_id)).one_or_none()
    return None if row is None else (row.job_id, row.started_at)


def held_since(session: Session, job_id: int) -> datetime | None:
    """When the lease began that a job is held by now; None where nobody holds it."""
    return session.scalar(select(Job.leased_at).where(Job.id == job_id, Job.state == JobState.LEASED))
