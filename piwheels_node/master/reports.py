# SPDX-License-Identifier: BSD-3-Clause
"""Why builds failed: the report over all of them, and the builds behind each number.

The numbers are those of `BuildCount`, which is kept with every build: by day, target and result. So a report
over a year reads some ten thousand small rows, whether there were a thousand builds or 8 million. What is
asked of one project is counted from its own builds, the newest `_MOST_OF_PROJECT`. This module knows no HTTP.
"""

from __future__ import annotations

from collections import Counter as Bag
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Select, case, func, select
from sqlalchemy.orm import Session, joinedload

from piwheels_node.core.errors import UsageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome
from piwheels_node.core.messages import FailedBuild, FailureReport, ReasonCount
from piwheels_node.master.database.models import Build, BuildCount, Job, Project, Release, TargetRow
from piwheels_node.master.database.newest import newest_with

MOST_DAYS = 400
"""The longest period that one report is about; with the one before it twice that is read."""

LOOK_BACK = 5_000
"""How many builds that failed for one reason are looked through for those of one target or project."""

_MOST = 500
_MOST_OF_PROJECT = 20_000
_BUILT = Outcome.BUILT.value
_REASONS = {reason.value: reason for reason in FailureReason}


@dataclass(frozen=True)
class Period:
    """Whole days, both ends included; raises UsageError where that is none, or too long."""

    since: date
    until: date

    def __post_init__(self) -> None:
        if not 0 < self.days <= MOST_DAYS:
            raise UsageError(
                f"a report is about 1 to {MOST_DAYS} days, not {self.days}",
                where=f"{self.since} to {self.until}",
            )

    @classmethod
    def asked(cls, since: date | None, until: date | None, now: datetime, days: int) -> Period:
        """As somebody asks: until today where that is not said, and so many days."""
        last = until or now.astimezone(UTC).date()
        return cls(since or last - min(timedelta(days=days - 1), last - date.min), last)

    @property
    def days(self) -> int:
        """How many."""
        return (self.until - self.since).days + 1

    @property
    def before(self) -> date:
        """The first day of the period of the same length just before."""
        try:
            return self.since - timedelta(days=self.days)
        except OverflowError as error:
            raise UsageError("there was nothing so long ago", where=str(self.since)) from error

    def has(self, at: datetime) -> bool:
        """True where a moment is in it."""
        return self.since <= at.astimezone(UTC).date() <= self.until


@dataclass(frozen=True)
class Scope:
    """What a report is about besides the time: one target, one project (normalised), or everything."""

    target: str | None = None
    project: str | None = None


@dataclass
class _Numbers:
    """By result: builds of the period, of the one before, and the newest of the period."""

    now: Bag[str] = field(default_factory=Bag)
    before: Bag[str] = field(default_factory=Bag)
    newest: dict[str, int] = field(default_factory=dict)
    is_whole: bool = True


def failures(session: Session, period: Period, scope: Scope) -> FailureReport:
    """Why builds failed in a period; a target or project that is not known has no builds."""
    numbers = _of_project(session, period, scope) if scope.project else _of_all(session, period, scope)
    failed = sum(numbers.now.values()) - numbers.now[_BUILT]
    ranked = sorted(
        ((result, builds) for result, builds in numbers.now.items() if result != _BUILT),
        key=lambda one: (-one[1], one[0]),
    )
    gone = sorted(result for result in numbers.before if result != _BUILT and result not in numbers.now)
    examples = _examples(session, period, scope, numbers, [result for result, _ in ranked])
    return FailureReport(
        since=period.since,
        until=period.until,
        target=scope.target,
        project=scope.project,
        built=numbers.now[_BUILT],
        failed=failed,
        built_before=numbers.before[_BUILT],
        failed_before=sum(numbers.before.values()) - numbers.before[_BUILT],
        reasons=[
            ReasonCount(
                reason=_REASONS[result],
                sentence=_REASONS[result].sentence,
                builds=builds,
                share=builds / failed if failed else 0.0,
                before=numbers.before[result],
                newest=examples.get(result),
            )
            for result, builds in (*ranked, *((result, 0) for result in gone))
        ],
        is_whole=numbers.is_whole,
    )


def failed_builds(
    session: Session, reason: FailureReason, scope: Scope, before: int | None, limit: int
) -> list[FailedBuild]:
    """Builds that failed for a reason, newest first; `before` is the number of the last one already known.

    Of one target or project those are found that are among the newest `LOOK_BACK` of the reason.
    """
    newest = newest_of_reason(session, select(Build.id), reason, before)
    if scope == Scope():
        return failed_builds_of(session, list(session.scalars(newest.limit(min(limit, _MOST)))))
    looked_at = newest.limit(LOOK_BACK).subquery()
    wanted = _in_scope(select(Build.id).join(Job, Build.job_id == Job.id), scope)
    wanted = wanted.where(Build.id.in_(select(looked_at.c.id))).order_by(Build.id.desc())
    return failed_builds_of(session, list(session.scalars(wanted.limit(min(limit, _MOST)))))


def newest_of_reason(
    session: Session, query: Select[Any], reason: FailureReason, before: int | None = None
) -> Select[Any]:
    """A query of builds, of those only that failed for a reason, newest first."""
    failed = query.where(Build.reason.is_not(None))
    return newest_with(session, failed, Build.reason, reason, Build.id, before)


def _in_scope(query: Select[Any], scope: Scope) -> Select[Any]:
    """Builds, joined with their jobs, of a target and a project only."""
    if scope.target is not None:
        query = query.where(Job.target_id.in_(select(TargetRow.id).where(TargetRow.name == scope.target)))
    if scope.project is not None:
        query = query.join(Release, Job.release_id == Release.id)
        query = query.join(Project, Release.project_id == Project.id).where(Project.name == scope.project)
    return query


def _of_all(session: Session, period: Period, scope: Scope) -> _Numbers:
    numbers = _Numbers()
    for result, of_now, builds, newest in session.execute(_counts(period, scope)):
        if result not in {_BUILT, *_REASONS}:
            continue  # a newer master counts it
        (numbers.now if of_now else numbers.before)[result] = int(builds)
        if of_now and newest is not None:
            numbers.newest[result] = newest
    return numbers


def _counts(period: Period, scope: Scope) -> Select[Any]:
    is_now = case((BuildCount.day >= str(period.since), 1), else_=0)
    wanted = (
        select(BuildCount.result, is_now, func.sum(BuildCount.builds), func.max(BuildCount.newest_build_id))
        .where(BuildCount.day >= str(period.before), BuildCount.day <= str(period.until))
        .group_by(BuildCount.result, is_now)
    )
    if scope.target is not None:
        targets = select(TargetRow.id).where(TargetRow.name == scope.target)
        wanted = wanted.where(BuildCount.target_id.in_(targets))
    return wanted


def _of_project(session: Session, period: Period, scope: Scope) -> _Numbers:
    wanted = (
        select(Build.id, Build.reason, Build.started_at)
        .join(Job, Build.job_id == Job.id)
        .join(Release, Job.release_id == Release.id)
        .join(Project, Release.project_id == Project.id)
        .where(Project.name == scope.project, Build.started_at >= _begin(period.before))
        .order_by(Build.id.desc())
        .limit(_MOST_OF_PROJECT)
    )
    if scope.target is not None:
        wanted = wanted.where(Job.target_id.in_(select(TargetRow.id).where(TargetRow.name == scope.target)))
    numbers = _Numbers()
    rows = session.execute(wanted).all()
    for build_id, reason, started_at in rows:
        result = reason.value if reason else _BUILT
        if period.has(started_at):
            numbers.now[result] += 1
            numbers.newest.setdefault(result, build_id)
        elif started_at < _begin(period.since):
            numbers.before[result] += 1
    numbers.is_whole = len(rows) < _MOST_OF_PROJECT
    return numbers


def _examples(
    session: Session, period: Period, scope: Scope, numbers: _Numbers, results: Iterable[str]
) -> dict[str, FailedBuild]:
    """The newest build of each result; one that was not noted (a lost builder reports none) is looked for."""
    known = {result: numbers.newest.get(result) for result in results}
    for result, build_id in known.items():
        if build_id is None:
            found = failed_builds(session, _REASONS[result], scope, None, 1)
            known[result] = found[0].build_id if found and period.has(found[0].started_at) else None
    views = failed_builds_of(session, [build_id for build_id in known.values() if build_id is not None])
    return {view.reason.value: view for view in views}


def failed_builds_of(session: Session, build_ids: Sequence[int]) -> list[FailedBuild]:
    """These builds, newest first."""
    rows = session.scalars(
        select(Build)
        .where(Build.id.in_(build_ids))
        .order_by(Build.id.desc())
        .options(
            joinedload(Build.builder),
            joinedload(Build.job).joinedload(Job.release).joinedload(Release.project),
            joinedload(Build.job).joinedload(Job.target),
        )
    )
    return [
        FailedBuild(
            build_id=row.id,
            job_id=row.job_id,
            project=row.job.release.project.name,
            version=row.job.release.version,
            target=row.job.target.name,
            builder=row.builder.name,
            reason=row.reason or FailureReason.UNKNOWN,
            captured=row.captured,
            debian_package=row.debian_package,
            evidence=row.evidence,
            evidence_line=row.evidence_line,
            started_at=row.started_at,
            duration_s=row.duration_s,
        )
        for row in rows
    ]


def _begin(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
