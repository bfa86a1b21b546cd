# SPDX-License-Identifier: BSD-3-Clause
"""Jobs that are new, by the shortest way: project, release, files and job past SQLAlchemy's objects.

    find_project   what is here of a project, in one statement
    make           a job for each target that is to build a release, and what rows they lack

Nearly all jobs that are planned by themselves are such, thousands at a time where a target is new, and claims
wait meanwhile (`benchmarks/plan.py`). Jobs that were there go by `entry`. This module knows the tables, and
no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from packaging.version import Version
from sqlalchemy import ColumnElement, Insert, Select, Table, bindparam, exists, insert, select

from piwheels_node.core.jobs import EventKind, JobState
from piwheels_node.master.database.models import FixRule, Job, Project, PypiFile, Release, TargetRow
from piwheels_node.master.database.session import WorkSession
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs import lanes
from piwheels_node.master.jobs.equipment import packages_for
from piwheels_node.master.jobs.history import record, recount
from piwheels_node.master.jobs.requests import columns_of
from piwheels_node.master.pypi.listing import ListedFile, ProjectFiles


def _insert(model: Any, *names: str) -> Insert:
    table = cast("Table", model.__table__)
    return insert(table).values({name: bindparam(f"of_{name}", type_=table.c[name].type) for name in names})


_FILE = ["release_id", "filename", "url", "sha256", "size_bytes", "requires_python", "yanked", "uploaded_at"]
_ZERO = ["rounds", "waits", "attempts", "losses"]
_JOB = ["release_id", "target_id", "sdist_id", "state", "memory_class", "priority", "created_at"]
_JOB += ["not_before_at", "is_awaited", "packages", "needs_layers", *_ZERO]

_HAS_RULES: ColumnElement[Any] = exists().where(FixRule.project_id == Project.id)
_FIND = Statement(
    select(Project.id, Project.peak_memory_bytes, _HAS_RULES).where(Project.name == bindparam("name"))
)
_FIND_RELEASE = Statement(
    select(Release.id).where(
        Release.project_id == bindparam("project"), Release.version == bindparam("version")
    )
)
_FILE_NAMES = cast("Select[Any]", select(PypiFile.id, PypiFile.filename))
_FILES = Statement(_FILE_NAMES.where(PypiFile.release_id == bindparam("release")))
_TARGETS = Statement(select(Job.target_id).where(Job.release_id == bindparam("release")))
_ADD_PROJECT = Statement(cast("Insert", _insert(Project, "name", "serial").returning(Project.id)))
_ADD_RELEASE = Statement(cast("Insert", _insert(Release, "project_id", "version").returning(Release.id)))
_ADD_FILES = Statement(_insert(PypiFile, *_FILE))
_ADD_FILE = Statement(cast("Insert", _insert(PypiFile, *_FILE).returning(PypiFile.id)))
_ADD_JOB = Statement(cast("Insert", _insert(Job, *_JOB).returning(Job.id)))


@dataclass(frozen=True)
class Found:
    """The row of a project; `has_rules`: it may need Debian packages."""

    project_id: int
    peak_memory_bytes: int | None = None
    has_rules: bool = False


def find_project(session: WorkSession, name: str) -> Found | None:
    """What is here of a project; None: nothing, so it has no jobs either."""
    rows = session.fast(_FIND, {"name": name})
    return Found(*rows[0]) if rows else None


def add_project(session: WorkSession, name: str) -> Found:
    """A row for a project that has none."""
    return Found(session.fast(_ADD_PROJECT, {"of_name": name, "of_serial": 0})[0][0])


def make(  # noqa: PLR0917 - in the order in which they come to be
    session: WorkSession,
    found: Found,
    project: ProjectFiles,
    version: Version,
    builds: Mapping[int, tuple[ListedFile, int]],
    now: datetime,
) -> bool:
    """Make the jobs of a release for these targets: each from an sdist, with a priority.

    False, and nothing is done, where there is a job of one of them already, or no row of its sdist.
    """
    spelled = project.spelling(version)
    wanted = {sdist.filename for sdist, _ in builds.values()}
    if here := session.fast(_FIND_RELEASE, {"project": found.project_id, "version": spelled}):
        ((release_id,),) = here
        sdists = {name: file_id for file_id, name in session.fast(_FILES, {"release": release_id})}
        has_jobs = {target_id for (target_id,) in session.fast(_TARGETS, {"release": release_id})}
        if has_jobs & builds.keys() or wanted - sdists.keys():
            return False
    else:
        release = {"of_project_id": found.project_id, "of_version": spelled}
        release_id = session.fast(_ADD_RELEASE, release)[0][0]
        sdists = _add_files(session, release_id, project.releases[version], wanted)
    for target_id, (sdist, priority) in builds.items():
        packages: list[str] = []
        if found.has_rules:
            packages = packages_for(session, found.project_id, session.get_one(TargetRow, target_id), now)
        job = {
            "of_release_id": release_id,
            "of_target_id": target_id,
            "of_sdist_id": sdists[sdist.filename],
            "of_state": JobState.READY,
            "of_memory_class": lanes.lane(session, found.peak_memory_bytes, target_id, now),
            "of_priority": int(priority),
            "of_created_at": now,
            "of_not_before_at": now,
            "of_is_awaited": False,
            "of_packages": packages,
            "of_needs_layers": bool(packages),
            **{f"of_{name}": 0 for name in _ZERO},
        }
        job_id: int = session.fast(_ADD_JOB, job)[0][0]
        recount(session, target_id, None, JobState.READY)
        more = {"packages": " ".join(packages)} if packages else {}
        record(session, job_id, EventKind.QUEUED, now, priority=int(priority), **more)
    return True


def _add_files(
    session: WorkSession, release_id: int, files: tuple[ListedFile, ...], sdists: set[str]
) -> dict[str, int]:
    """Rows for all files of a release; gives those of the sdists."""
    ids: dict[str, int] = {}
    others: list[dict[str, Any]] = []
    for file in files:
        row = {f"of_{name}": value for name, value in columns_of(file).items()}
        row |= {"of_release_id": release_id, "of_filename": file.filename}
        if file.filename in sdists:
            ids[file.filename] = session.fast(_ADD_FILE, row)[0][0]
        else:
            others.append(row)
    session.fast_many(_ADD_FILES, others)
    return ids
