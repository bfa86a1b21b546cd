# SPDX-License-Identifier: BSD-3-Clause
"""What becomes of somebody's wish for a wheel.

    BuildRequest -> PyPI -> version -> plan -> covered | refused | a job: made, found, or tried again
                                                               -> RequestAnswer

A release that failed is tried again where what its reason is about may have changed: the environment, by
its identity; the Debian packages, by the project's rules; another machine, the network or a requirement,
because somebody asks.
This module blocks (it asks PyPI), so the API calls `ask` in a thread; it knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from packaging.version import Version
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import UsageError
from piwheels_node.core.failure import FailureReason, Policy
from piwheels_node.core.jobs import JobState, Outcome, Priority
from piwheels_node.core.messages import BuildRequest, BuildView, JobView, RequestAnswer
from piwheels_node.core.targets import Target
from piwheels_node.master import views
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    Build,
    Job,
    JobAvoidance,
    Project,
    PypiFile,
    Release,
    TargetRow,
)
from piwheels_node.master.jobs import lanes, queue, rules
from piwheels_node.master.jobs.plan import Covered, Refused, choose_version, plan
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.listing import ListedFile, ProjectFiles
from piwheels_node.master.text import storable

_WORTH_ASKING = frozenset({Policy.RETRY_ELSEWHERE, Policy.WAIT_FOR_DEPENDENCY})
"""What may have come right unseen: a network, a disk, a wheel on PyPI."""

_LONGEST_TEXT = 500


@dataclass(frozen=True)
class Wish:
    """A request whose words are settled: this release, for this target, from this sdist."""

    project: ProjectFiles
    version: Version
    target: Target
    sdist: ListedFile
    force: bool = False


def ask(database: Database, pypi: PyPI, request: BuildRequest, now: datetime) -> RequestAnswer:
    """Answer a request, and queue a job where that is the answer; raises NotOnPyPIError and PyPIError."""
    target = _target(database, request.target)
    project = pypi.project(request.project)
    version = choose_version(project, request.version, target)
    answer = RequestAnswer(project=project.name, version=project.spelling(version), target=str(target))
    decision = plan(project.releases[version], target, force=request.force)
    match decision:
        case Covered(wheel):
            found = {"outcome": Outcome.COVERED, "wheel": wheel.filename, "size_bytes": wheel.size_bytes}
            return answer.model_copy(update=found)
        case Refused(reason, what):
            found = {"outcome": Outcome.FAILED, "reason": reason, "what": what}
            return answer.model_copy(update=found)
    wish = Wish(project, version, target, decision.sdist, request.force)
    return _answer_of_job(answer, database.write(lambda session: _view_of(session, wish, now)))


def _target(database: Database, name: str | None) -> Target:
    if name is not None:
        return Target.parse(name)
    with database.read() as session:
        offered = views.offered_targets(session)
    if not offered:
        raise UsageError(
            "no builder has joined yet, so there is nothing to build for",
            hint="start a builder, or name a target: cp313-linux_armv7l-debian13",
        )
    return Target.parse(offered[0])


def _answer_of_job(answer: RequestAnswer, job: JobView) -> RequestAnswer:
    build = job.build
    found: dict[str, object] = {"job": job}
    if build is not None and job.state is JobState.BUILT:
        found |= {"outcome": Outcome.BUILT, "wheel": build.wheel, "size_bytes": build.size_bytes}
    elif job.state.is_final:
        found |= {
            "outcome": Outcome.FAILED,
            "reason": build.reason if build else None,
            "what": _why(job, build),
        }
    return answer.model_copy(update=found)


def _why(job: JobView, build: BuildView | None) -> str:
    if job.state is JobState.QUARANTINED:
        return "Several builders died of it, so it is given to no more of them unless it is forced."
    if build is None or build.reason is None:
        return f"The job is {job.state.value}."
    return build.reason.sentence


def _view_of(session: Session, wish: Wish, now: datetime) -> JobView:
    job = find_or_queue(session, wish, Priority.REQUESTED, now)
    view = views.job(session, job.id)
    assert view is not None  # noqa: S101 - it was flushed just now
    return view


def find_or_queue(session: Session, wish: Wish, priority: Priority, now: datetime) -> Job:
    """The job of a wish: made, found, or ready again where trying again may help; flushed."""
    release = store_release(session, wish.project, wish.version)
    target = session.scalar(select(TargetRow).where(TargetRow.name == str(wish.target)))
    if target is None:
        target = TargetRow(name=str(wish.target), created_at=now)
        session.add(target)
    session.flush()
    sdist = session.scalars(
        select(PypiFile).where(PypiFile.release_id == release.id, PypiFile.filename == wish.sdist.filename)
    ).one()
    lane = lanes.lane(session, release.project.peak_memory_bytes, target.id, now)
    job, _ = queue.enqueue(
        session,
        release=release,
        target=target,
        sdist=sdist,
        priority=priority,
        now=now,
        memory_class=lane,
    )
    if job.state is not JobState.LEASED:
        job.memory_class = lane  # by what has been learned, and by the builders that there are now
    why = _why_again(session, job, now, force=wish.force)
    if why:
        session.execute(delete(JobAvoidance).where(JobAvoidance.job_id == job.id))
        queue.requeue(session, job, now=now, why=why, priority=priority)
    session.flush()
    return job


def _why_again(session: Session, job: Job, now: datetime, *, force: bool) -> str | None:
    """Why a job that has ended is worth another try; None where it is not, or has not ended."""
    if job.state is JobState.CANCELLED:
        return "asked for"
    if job.state is JobState.QUARANTINED:
        return "a person frees it" if force else None
    build = session.scalar(select(Build).where(Build.job_id == job.id).order_by(Build.id.desc()).limit(1))
    if build is None:
        return None
    if job.state is JobState.BUILT and (build.wheel is None or build.wheel.withdrawn_at is not None):
        return "its wheel was withdrawn"
    return _why_after(session, job, build, now) if job.state is JobState.FAILED else None


def _why_after(session: Session, job: Job, build: Build, now: datetime) -> str | None:
    """Why to try again after a failure: what its reason is about may be different now."""
    policy = (build.reason or FailureReason.UNKNOWN).policy
    if policy in _WORTH_ASKING:
        return "asked for again"
    if policy is not Policy.RETRY_WHEN_ENVIRONMENT_CHANGES:
        return None
    if rules.lacks(session, job, build, now):
        return "the project's rules give it other Debian packages"
    offered = views.offered_environments(session, job.target_id, now)
    return (
        "a builder offers another environment"
        if offered - {build.offered_id or build.environment_id}
        else None
    )


def store_release(session: Session, project: ProjectFiles, version: Version) -> Release:
    """Note a release and all its files as PyPI lists them now; pages that show them get a new serial."""
    row = session.scalar(select(Project).where(Project.name == project.name))
    if row is None:
        row = Project(name=project.name, serial=0)
        session.add(row)
        session.flush()
    spelled = project.spelling(version)
    release = session.scalar(select(Release).where(Release.project_id == row.id, Release.version == spelled))
    if release is None:
        release = Release(project=row, version=spelled)
        session.add(release)
        session.flush()
    known = {
        file.filename: file
        for file in session.scalars(select(PypiFile).where(PypiFile.release_id == release.id))
    }
    for listed in project.releases.get(version, ()):
        file = known.get(listed.filename)
        if file is None:
            file = PypiFile(release_id=release.id, filename=listed.filename)
            session.add(file)
        elif file.yanked != _fitting(listed.yanked) and row.serial:
            row.serial += 1
        _fill(file, listed)
    return release


def _fill(file: PypiFile, listed: ListedFile) -> None:
    for name, value in columns_of(listed, file.url or "", file.sha256).items():
        setattr(file, name, value)


def columns_of(listed: ListedFile, url: str = "", sha256: str | None = None) -> dict[str, Any]:
    """A file that PyPI lists as columns of `pypi_file`; what is not told again stays (`url`, `sha256`).

    Of wheels, `pypi.stored` keeps the name only.
    """
    return {
        "url": listed.url or url,
        "sha256": listed.sha256 or sha256,
        "size_bytes": listed.size_bytes,
        "requires_python": _fitting(listed.requires_python),
        "yanked": _fitting(listed.yanked),
        "uploaded_at": listed.uploaded_at,
    }


def _fitting(text: str | None) -> str | None:
    return None if text is None else storable(text, _LONGEST_TEXT)
