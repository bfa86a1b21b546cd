# SPDX-License-Identifier: BSD-3-Clause
"""One project, from its note to the database: asked about, compared, stored, carried over, planned.

    look     network and arithmetic, no transaction: what PyPI says now, and what that changes
    store    one transaction: the row, our index (`mirror`), jobs (`jobs.planning`), and the note is done

Storing the same thing twice changes nothing, so whoever is killed in between is simply followed by another.
This module knows the tables, and PyPI.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from packaging.version import Version
from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NotOnPyPIError, PyPIError
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import PypiNote, PypiProject, Walk
from piwheels_node.master.jobs.planning import Farm, Outlook, outlook, plan_project
from piwheels_node.master.pypi import notes, stored
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.listing import ProjectFiles
from piwheels_node.master.pypi.mirror import mirror

DELETED = "deleted"
"""Status of a project that PyPI does not have any more, beside those of PEP 792."""

_FRESH = timedelta(days=14)
_STALE_TRIES = 6
"""A page that is older than what the feed told is asked for so often; then it is believed."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Update:
    """What PyPI says of a project; `project` is None where it is as stored.

    `error`: it could not say. `is_stale`: it says something older than what was heard of. `before` is what
    was stored when PyPI was asked, `changed` the versions that are different now, None where none were.
    """

    note: PypiNote
    project: ProjectFiles | None = None
    error: PyPIError | None = None
    is_stale: bool = False
    etag: str | None = None
    body: bytes | None = None
    before: bytes | None = None
    changed: frozenset[Version] | None = None
    has_new_status: bool = False


def look(database: Database, pypi: PyPI, note: PypiNote) -> Update:
    """Ask PyPI about a project that was noted."""
    with database.read() as session:
        row = session.scalar(select(PypiProject).where(PypiProject.name == note.name))
    before = row.listing if row else None
    etag = row.etag if row and before is not None else None
    try:
        found = pypi.look(note.name, etag)
    except NotOnPyPIError:
        return _compared(Update(note, ProjectFiles(note.name, (), status=DELETED), before=before), row)
    except PyPIError as error:
        return Update(note, error=error)
    if found is None:
        serial = row.serial if row else 0
        return Update(note, is_stale=_is_stale(serial, note))
    update = Update(note, found.project, etag=(found.etag or "")[:200] or None, before=before)
    return _compared(replace(update, is_stale=_is_stale(found.project.serial, note)), row)


def _is_stale(serial: int, note: PypiNote) -> bool:
    """Something newer was heard of than what the page knows."""
    return 0 < serial < note.serial and note.tries < _STALE_TRIES


def _compared(update: Update, row: PypiProject | None) -> Update:
    project = update.project
    if project is None:
        return update
    body = None if project.status == DELETED else stored.write(project)
    if row is None or (row.listing is None and row.status != DELETED):
        return replace(update, body=body)
    has_new_status = row.status != project.status
    changed = set(project.releases) if has_new_status else set()
    changed |= stored.changed(stored.read(project.name, row.listing), project)
    return replace(update, body=body, changed=frozenset(changed), has_new_status=has_new_status)


def forecast(database: Database, update: Update, farm: Farm) -> Outlook:
    """What is to be done about what changed; outside of the transaction, which others wait for."""
    if update.project is None or not update.project.files or update.project.status == "quarantined":
        return {}
    with database.read() as session:
        versions = _to_plan(session, update, farm)
        return outlook(session, update.project, farm, versions)


def _to_plan(session: Session, update: Update, farm: Farm) -> set[Version]:
    """The versions to plan now: what changed; of a project that is new here, what no walk will meet."""
    assert update.project is not None  # noqa: S101 - the caller has looked
    releases = update.project.releases
    if update.changed is not None:
        return set(update.changed)
    if _is_passed(session, stored.newest_at(update.project), farm):
        return set(releases)
    since = farm.now - _FRESH
    return {
        version
        for version, files in releases.items()
        if any(file.uploaded_at and file.uploaded_at > since for file in files)
    }


def _is_passed(session: Session, newest_at: datetime, farm: Farm) -> bool:
    """True where some walk has been where this project is."""
    walks = session.scalars(select(Walk).where(Walk.target_id.in_(farm.targets.values())))
    return any(walk.done_at or (walk.newest_at and walk.newest_at <= newest_at) for walk in walks)


def store(session: Session, update: Update, farm: Farm, found: Outlook) -> int:
    """Everything that follows from an update; gives how many jobs were made."""
    note, project = update.note, update.project
    if update.error is not None:
        notes.later(session, note, farm.now)
        return 0
    made = 0
    if project is not None:
        row = session.scalar(select(PypiProject).where(PypiProject.name == note.name))
        if row is None:
            row = PypiProject(name=note.name, newest_at=_EPOCH, read_at=farm.now, status="", serial=0)
            session.add(row)
        elif row.listing != update.before or (0 < project.serial < row.serial and note.serial > 0):
            notes.later(session, note, farm.now)  # another master was here, or a cache has an old page
            return 0
        row.serial = project.serial or note.serial or row.serial
        row.status, row.etag, row.listing = project.status, update.etag, update.body
        row.newest_at, row.read_at = stored.newest_at(project), farm.now
        versions = None if update.has_new_status else update.changed
        mirror(session, project, versions, farm.now, has_new_status=update.has_new_status)
        made = plan_project(session, row, project, farm, found)
    if update.is_stale:
        notes.later(session, note, farm.now)
    else:
        notes.done(session, note)
    return made
