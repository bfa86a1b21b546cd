# SPDX-License-Identifier: BSD-3-Clause
"""From what PyPI has of a project to the jobs that should exist: `plan` with the tables around it.

    Farm.of(session)     what the farm is: its targets, its scope, when it is
    outlook              of each release and target, what is to be done (`plan.plan_release`)
    plan_project         the jobs that are missing are made, and those that are not needed cancelled

A job that ends leaves a note (`queue.finish`), by which its project is planned again for the other targets.
One change touches the jobs of one project, never the whole queue. This module knows the tables, and no HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version
from sqlalchemy import Select, bindparam, func, or_, select
from sqlalchemy.orm import Session

from piwheels_node.core.builders import BuilderState
from piwheels_node.core.jobs import EventKind, JobState, Outcome, Priority
from piwheels_node.core.targets import Target
from piwheels_node.master.database.models import Build as BuildRow
from piwheels_node.master.database.models import (
    Builder,
    BuilderTarget,
    Event,
    Job,
    Project,
    PypiFile,
    PypiProject,
    Release,
    SkipRule,
    TargetRow,
    Wheel,
)
from piwheels_node.master.database.session import working
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs import fresh, lanes, queue
from piwheels_node.master.jobs.plan import (
    Attempt,
    Build,
    Covered,
    Made,
    Refused,
    Scope,
    Unwanted,
    Verdict,
    Wanted,
    plan,
    plan_release,
)
from piwheels_node.master.jobs.requests import store_release
from piwheels_node.master.jobs.rows import is_in
from piwheels_node.master.jobs.urgency import faded, liking, urgency
from piwheels_node.master.pypi.listing import ListedFile, ProjectFiles

NOT_NEEDED = "it is not needed any more"
GONE = "PyPI no longer lists what it was made of"
"""Why a job was cancelled (or a wheel withdrawn), not by a person: that can change again."""

Outlook = dict[Version, dict[Target, Verdict]]
"""What is to be done about each release for each target."""


@dataclass(frozen=True)
class Farm:
    """What planning needs to know of the farm; `targets` are rows by target."""

    targets: Mapping[Target, int]
    scope: Scope
    now: datetime

    @classmethod
    def of(cls, session: Session, scope: Scope, now: datetime) -> Farm:
        """As it is now: what builders offer that were not revoked."""
        rows = session.execute(
            select(TargetRow.name, TargetRow.id)
            .join(BuilderTarget, BuilderTarget.target_id == TargetRow.id)
            .join(Builder, Builder.id == BuilderTarget.builder_id)
            .where(Builder.state == BuilderState.ACTIVE)
            .distinct()
        )
        return cls({Target.parse(name): target_id for name, target_id in rows}, scope, now)

    def only(self, target: Target) -> Farm:
        """The same for one target."""
        return Farm({target: self.targets[target]}, self.scope, self.now)


@dataclass(frozen=True)
class Past:
    """What the tables say of some projects by name: the rows of those that have any, and the rules."""

    ids: Mapping[str, int]
    rules: Mapping[str, Sequence[SkipRule]]

    @classmethod
    def of(cls, session: Session, names: Collection[str]) -> Past:
        """In two questions, however many names there are (a thousand at most)."""
        ids = session.execute(select(Project.name, Project.id).where(Project.name.in_(names)))
        rules: dict[str, list[SkipRule]] = {}
        for rule in session.scalars(
            select(SkipRule).where(SkipRule.project.in_(names)).order_by(SkipRule.id)
        ):
            rules.setdefault(rule.project, []).append(rule)
        return cls({row.name: row.id for row in ids}, rules)


def outlook(  # noqa: PLR0917 - in the order in which they come to be
    session: Session,
    project: ProjectFiles,
    farm: Farm,
    versions: Iterable[Version] | None = None,
    asked: frozenset[Target] = frozenset(),
    past: Past | None = None,
) -> Outlook:
    """What is to be done about these versions, or about all, for each target of the farm.

    `past` is looked up where it is not given.
    """
    releases = project.releases
    chosen = releases if versions is None else {one: releases[one] for one in versions if one in releases}
    if not chosen:
        return {}
    past = past or Past.of(session, [project.name])
    project_id = past.ids.get(project.name)
    attempts = {} if project_id is None else _attempts(session, project_id)
    rules = past.rules.get(project.name, ())
    return {
        version: plan_release(
            files,
            farm.targets,
            attempts.get(project.spelling(version)),
            Wanted(farm.scope, skipped_by(rules, version), asked),
        )
        for version, files in chosen.items()
    }


def plan_project(  # noqa: PLR0917 - in the order in which they come to be
    session: Session,
    row: PypiProject | None,
    project: ProjectFiles,
    farm: Farm,
    found: Outlook,
    priority: Priority | None = None,
) -> int:
    """Make the jobs that an outlook wants; gives how many. Without `priority` it is by age and popularity.

    Jobs that nobody has begun and that are needed no longer are cancelled.
    """
    here = fresh.find_project(working(session), project.name)
    newest = _newest(project)
    made = 0
    if here is not None:
        _look_at_waiting(session, row, here.project_id, project, farm, found)
    for version, verdicts in sorted(found.items(), reverse=True):
        builds = {
            farm.targets[target]: (
                one.sdist,
                _soon(row, version, one.sdist.uploaded_at, farm, newest) if priority is None else priority,
            )
            for target, one in verdicts.items()
            if isinstance(one, Build)
        }
        if builds:
            here = here or fresh.add_project(working(session), project.name)
            is_new = fresh.make(working(session), here, project, version, builds, farm.now)
            made += len(builds) if is_new else _queue(session, project, version, builds, farm.now)
    return made


def _queue(
    session: Session,
    project: ProjectFiles,
    version: Version,
    builds: Mapping[int, tuple[ListedFile, int]],
    now: datetime,
) -> int:
    """The jobs of a release that has a row already: made, or found; gives how many were made."""
    release = store_release(session, project, version)
    session.flush()
    files = {
        file.filename: file
        for file in session.scalars(select(PypiFile).where(PypiFile.release_id == release.id))
    }
    made = 0
    for target_id, (sdist, priority) in builds.items():
        job, is_new = queue.enqueue(
            session,
            release=release,
            target=session.get_one(TargetRow, target_id),
            sdist=files[sdist.filename],
            priority=priority,
            now=now,
            memory_class=lanes.lane(session, release.project.peak_memory_bytes, target_id, now),
        )
        if not is_new and job.state is JobState.CANCELLED:
            job.sdist_id = files[sdist.filename].id
            queue.requeue(session, job, now=now, why="it is needed again")
            job.priority = priority
        made += is_new
    return made


def _soon(
    row: PypiProject | None,
    version: Version,
    uploaded_at: datetime | None,
    farm: Farm,
    newest: Version | None,
) -> int:
    asks = faded(row.asks, row.asks_at, farm.now) if row else 0.0
    return urgency(
        uploaded_at,
        farm.now,
        liked=liking(row.popularity if row else None, asks),
        is_newest=version == newest,
        is_pre=version.is_prerelease,
    )


_WAITS = (JobState.READY, JobState.DELAYED, JobState.BLOCKED)
_JOBS = cast(
    "Select[Any]",
    select(Job.id, Job.priority, Release.version, TargetRow.name, PypiFile.filename, PypiFile.uploaded_at)
    .join(Release, Job.release_id == Release.id)
    .join(TargetRow, Job.target_id == TargetRow.id)
    .join(PypiFile, Job.sdist_id == PypiFile.id),
)
_WAITING = Statement(
    _JOBS.where(
        Release.project_id == bindparam("project"),
        or_(*(is_in(state) for state in _WAITS)),
        Job.priority < int(Priority.MISSED),
    ).order_by(Job.id)
)
"""Jobs of a project that nobody has begun and nobody has asked for."""


def _look_at_waiting(  # noqa: PLR0917 - as `plan_project`
    session: Session,
    row: PypiProject | None,
    project_id: int,
    project: ProjectFiles,
    farm: Farm,
    found: Outlook,
) -> None:
    """Cancel what waits though no job is needed; what is needed is built from the sdist that is best now."""
    waiting = working(session).fast(_WAITING, {"project": project_id})
    versions = {project.spelling(version): version for version in found} if waiting else {}
    newest = _newest(project) if waiting else None
    for job_id, priority, spelled, target_name, sdist, uploaded_at in waiting:
        version, target = versions.get(spelled), Target.parse(target_name)
        verdict = found[version].get(target) if version is not None else None
        if version is None or verdict is None:
            continue
        if isinstance(verdict, Covered | Refused | Made | Unwanted):
            if job := _still_waiting(session, job_id):
                queue.cancel(session, job, farm.now, why=NOT_NEEDED)
            continue
        soon = _soon(row, version, uploaded_at, farm, newest)
        if soon > priority and (job := _still_waiting(session, job_id)):
            queue.record(session, job.id, EventKind.RAISED, farm.now, priority=soon, before=job.priority)
            job.priority = soon
        best = plan(project.releases[version], target, force=farm.scope is Scope.EVERYTHING)
        if isinstance(best, Build) and best.sdist.filename != sdist:
            _build_from(session, _still_waiting(session, job_id), project, version, best.sdist)


def _still_waiting(session: Session, job_id: int) -> Job | None:
    """The job, locked; None where a builder has taken it meanwhile."""
    job = session.get(Job, job_id, with_for_update=True)
    return job if job is not None and job.state in _WAITS else None


def _build_from(
    session: Session, job: Job | None, project: ProjectFiles, version: Version, sdist: ListedFile
) -> None:
    if job is None:
        return
    release = store_release(session, project, version)
    session.flush()
    job.sdist = session.scalars(
        select(PypiFile).where(PypiFile.release_id == release.id, PypiFile.filename == sdist.filename)
    ).one()


def skipped_by(rules: Iterable[SkipRule], version: Version) -> str | None:
    """What the first rule says that is about this version; None where there is none."""
    for rule in rules:
        if not rule.versions or _covers(rule.versions, version):
            return f"skipped by {rule.who}: {rule.reason}"
    return None


def _covers(versions: str, version: Version) -> bool:
    try:
        return SpecifierSet(versions).contains(version, prereleases=True)
    except InvalidSpecifier:  # checked when the rule was made
        return False


def _newest(project: ProjectFiles) -> Version | None:
    versions = list(project.releases)
    final = [version for version in versions if not version.is_prerelease]
    return max(final or versions, default=None)


def _attempts(session: Session, project_id: int) -> dict[str, dict[Target, Attempt]]:
    """What became of all jobs of a project, by spelled version and target."""
    releases = select(Release.id).where(Release.project_id == project_id)
    jobs = session.execute(
        select(Job.id, Job.state, Job.priority, Release.version, TargetRow.name)
        .join(Release, Job.release_id == Release.id)
        .join(TargetRow, Job.target_id == TargetRow.id)
        .where(Release.project_id == project_id)
    ).all()
    wheels: dict[int, list[str]] = {}
    for job_id, filename in session.execute(
        select(BuildRow.job_id, Wheel.filename)
        .join(Wheel, Wheel.build_id == BuildRow.id)
        .where(Wheel.release_id.in_(releases), Wheel.withdrawn_at.is_(None))
    ):
        wheels.setdefault(job_id, []).append(filename)
    failed = [row.id for row in jobs if row.state is JobState.FAILED]
    newest = select(func.max(BuildRow.id)).where(BuildRow.job_id.in_(failed)).group_by(BuildRow.job_id)
    rows = session.execute(
        select(BuildRow.job_id, BuildRow.reason).where(
            BuildRow.id.in_(newest), BuildRow.outcome == Outcome.FAILED
        )
    )
    reasons = {row.job_id: row.reason for row in rows}
    spared = _spared(session, [row.id for row in jobs if row.state is JobState.CANCELLED])
    found: dict[str, dict[Target, Attempt]] = {}
    for row in jobs:
        if row.id in spared:
            continue
        attempt = Attempt(
            row.state,
            reasons.get(row.id),
            tuple(sorted(wheels.get(row.id, ()))),
            was_asked=row.priority >= Priority.MISSED,
        )
        found.setdefault(row.version, {})[Target.parse(row.name)] = attempt
    return found


def _spared(session: Session, job_ids: list[int]) -> set[int]:
    """Those of these jobs that were cancelled by a rule, not by a person."""
    newest = (
        select(func.max(Event.id))
        .where(Event.job_id.in_(job_ids), Event.kind == EventKind.CANCELLED.value)
        .group_by(Event.job_id)
    )
    rows = session.execute(select(Event.job_id, Event.detail).where(Event.id.in_(newest))) if job_ids else ()
    return {job_id for job_id, detail in rows if detail.get("why") in {NOT_NEEDED, GONE}}
