# SPDX-License-Identifier: BSD-3-Clause
"""What happens on PyPI happens to our index: yanks, deletions, quarantine, and their ends.

A wheel is shown as long as PyPI lists the sdist that it was made of. Where a file, a release or a project is
deleted, or a project is quarantined (PEP 792), its wheels leave the index and its jobs are cancelled; where
it comes back, so do the wheels, and planning does the rest. What a person has withdrawn stays withdrawn.
Names are never used again.
This module knows the tables, and no HTTP.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from packaging.version import InvalidVersion, Version
from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.jobs import JobState
from piwheels_node.master.database.models import Build, Job, Project, PypiFile, Release, Wheel
from piwheels_node.master.jobs import history, queue
from piwheels_node.master.jobs.planning import GONE
from piwheels_node.master.jobs.requests import store_release
from piwheels_node.master.pypi import notes
from piwheels_node.master.pypi.listing import ProjectFiles

_CHUNK = 500


def mirror(
    session: Session,
    project: ProjectFiles,
    versions: Collection[Version] | None,
    now: datetime,
    *,
    has_new_status: bool = False,
) -> None:
    """Carry over what is different on PyPI now; `versions` are those that changed, None: maybe all.

    Of a project that is quarantined nothing is listed.
    """
    row = session.scalar(select(Project).where(Project.name == project.name))
    if row is None:
        return
    releases = [
        release
        for release in session.scalars(select(Release).where(Release.project_id == row.id))
        if versions is None or _version(release) in versions
    ]
    hidden = project.status == "quarantined"
    for release in releases:
        version = _version(release)
        if not hidden and version is not None and version in project.releases:
            store_release(session, project, version)
    session.flush()
    listed = set() if hidden else {file.filename for file in project.files}
    ids = [release.id for release in releases]
    has_changed, has_cancelled = has_new_status, False
    for at in range(0, len(ids), _CHUNK):
        has_changed |= _wheels(session, ids[at : at + _CHUNK], listed, now)
        has_cancelled |= _jobs(session, ids[at : at + _CHUNK], listed, now)
    if has_changed and row.serial:
        row.serial += 1
    if has_cancelled:
        notes.think_again(session, [project.name], now)  # there may be another sdist


def _wheels(session: Session, release_ids: list[int], listed: Collection[str], now: datetime) -> bool:
    """Withdraw and restore; True where something did change."""
    rows = session.execute(
        select(Wheel, PypiFile.filename)
        .join(Build, Wheel.build_id == Build.id)
        .join(Job, Build.job_id == Job.id)
        .join(PypiFile, Job.sdist_id == PypiFile.id)
        .where(Wheel.release_id.in_(release_ids))
        .order_by(Wheel.id)
    ).all()
    has_changed = False
    for wheel, sdist in rows:
        if sdist not in listed and wheel.withdrawn_at is None:
            wheel.withdrawn_at, wheel.withdrawn_why, by = now, GONE, -1
            queue.count(session, "wheels.withdrawn", 1)
        elif sdist in listed and wheel.withdrawn_why == GONE:
            wheel.withdrawn_at, wheel.withdrawn_why, by = None, None, 1
        else:
            continue
        has_changed = True
        history.count_wheel(session, wheel.filename, wheel.size_bytes, by)
    return has_changed


def _jobs(session: Session, release_ids: list[int], listed: Collection[str], now: datetime) -> bool:
    """Cancel the jobs of what is gone; True where there was one. Planning queues again what comes back."""
    rows = session.execute(
        select(Job, PypiFile.filename)
        .join(PypiFile, Job.sdist_id == PypiFile.id)
        .where(
            Job.release_id.in_(release_ids),
            Job.state.in_([JobState.READY, JobState.DELAYED, JobState.BLOCKED, JobState.LEASED]),
        )
        .order_by(Job.id)
        .with_for_update(of=Job)
    ).all()
    gone = [job for job, sdist in rows if sdist not in listed]
    for job in gone:
        queue.cancel(session, job, now, why=GONE)
    return bool(gone)


def _version(release: Release) -> Version | None:
    try:
        return Version(release.version)
    except InvalidVersion:
        return None
