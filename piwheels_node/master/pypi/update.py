# SPDX-License-Identifier: BSD-3-Clause
"""Projects, from their notes to the database: asked about, compared, stored, carried over, planned.

    known       what is stored of some projects that are due
    look        of one: network and arithmetic, no transaction: what PyPI says now, and what that changes
    forecast    of some: what is to be done about it; outside of the transaction, which others wait for
    store       one transaction: rows, our index (`mirror`), jobs (`jobs.planning`), and the notes are done

Storing the same thing twice changes nothing, so whoever is killed in between is simply followed by another.
This module knows the tables, and PyPI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from packaging.version import Version
from sqlalchemy import Table, bindparam, insert, select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NotOnPyPIError, PyPIError
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import PypiNote, PypiProject, Walk
from piwheels_node.master.database.session import working
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs.planning import Farm, Outlook, Past, outlook, plan_project
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
_FAR = datetime(9999, 1, 1, tzinfo=UTC)

_PROJECTS = cast("Table", PypiProject.__table__)
_ADD = Statement(
    insert(_PROJECTS).values(
        {
            name: bindparam(f"of_{name}", type_=_PROJECTS.c[name].type)
            for name in ("name", "serial", "status", "etag", "listing", "newest_at", "read_at")
        }
    )
)


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


def known(session: Session, notes_due: Iterable[PypiNote]) -> dict[str, PypiProject]:
    """What is stored of these projects, by name."""
    names = [note.name for note in notes_due]
    rows = session.scalars(select(PypiProject).where(PypiProject.name.in_(names)))
    return {row.name: row for row in rows}


def look(pypi: PyPI, note: PypiNote, row: PypiProject | None) -> Update:
    """Ask PyPI about a project that was noted, of which this is stored."""
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


def forecast(
    database: Database, updates: Iterable[Update], farm: Farm, is_planned: Callable[[str], bool]
) -> list[Outlook]:
    """What is to be done about what changed of each; a project that is not planned gets no jobs."""
    with database.read() as session:
        walked_to = _walked_to(session, farm)
        chosen = [
            _to_plan(one, farm, walked_to) if farm.targets and is_planned(one.note.name) else set()
            for one in updates
        ]
        names = {one.note.name for one, versions in zip(updates, chosen, strict=True) if versions}
        past = Past.of(session, names) if names else None
        return [
            outlook(session, one.project, farm, versions, past=past) if one.project and versions else {}
            for one, versions in zip(updates, chosen, strict=True)
        ]


def _walked_to(session: Session, farm: Farm) -> list[datetime]:
    """The oldest upload that each walk has come to: what is newer, it will not meet any more."""
    walks = session.scalars(select(Walk).where(Walk.target_id.in_(farm.targets.values())))
    return [_EPOCH if walk.done_at else walk.newest_at or _FAR for walk in walks]


def _to_plan(update: Update, farm: Farm, walked_to: list[datetime]) -> set[Version]:
    """The versions to plan now: what changed; all, where no walk will meet them that would have."""
    project = update.project
    if project is None or not project.files or project.status == "quarantined":
        return set()
    releases = project.releases
    newest_at = stored.newest_at(project)
    if update.changed is not None:
        return set(releases) if _passes_a_walk(update, newest_at, walked_to) else set(update.changed)
    if any(place <= newest_at for place in walked_to):
        return set(releases)
    since = farm.now - _FRESH
    return {
        version
        for version, files in releases.items()
        if any(file.uploaded_at and file.uploaded_at > since for file in files)
    }


def _passes_a_walk(update: Update, newest_at: datetime, walked_to: list[datetime]) -> bool:
    """True where a walk had not come to a project yet, and a new upload puts it where the walk has been."""
    behind = [place for place in walked_to if _EPOCH < place <= newest_at]
    if not behind or update.before is None:
        return False
    was_at = stored.newest_at(stored.read(update.note.name, update.before))
    return any(was_at <= place for place in behind)


def store(session: Session, updates: Sequence[Update], farm: Farm, found: Sequence[Outlook]) -> None:
    """Everything that follows from some updates of different projects."""
    rows = known(session, [one.note for one in updates if one.project is not None])
    here = set(Past.of(session, [one.note.name for one in updates]).ids)
    done: list[PypiNote] = []
    new: list[dict[str, Any]] = []
    for update, wanted in zip(updates, found, strict=True):
        note, project = update.note, update.project
        row = rows.get(note.name)
        if update.error is not None or (project is not None and row is not None and _is_late(update, row)):
            notes.later(session, note, farm.now)
            continue
        if project is not None:
            columns = _columns(update, project, row, farm.now)
            if row is None:
                new.append(columns)
            else:
                for name, value in columns.items():
                    setattr(row, name, value)
            if project.name in here:
                versions = None if update.has_new_status else update.changed
                mirror(session, project, versions, farm.now, has_new_status=update.has_new_status)
            if project.name in here or wanted:
                plan_project(session, row, project, farm, wanted)
        if update.is_stale:
            notes.later(session, note, farm.now)
        else:
            done.append(note)
    working(session).fast_many(_ADD, [{f"of_{name}": value for name, value in one.items()} for one in new])
    notes.done(session, done)


def _is_late(update: Update, row: PypiProject) -> bool:
    """Another master was here meanwhile, or a cache has given an old page."""
    assert update.project is not None  # noqa: S101 - the caller has looked
    return row.listing != update.before or (0 < update.project.serial < row.serial and update.note.serial > 0)


def _columns(update: Update, project: ProjectFiles, row: PypiProject | None, now: datetime) -> dict[str, Any]:
    """What is stored of a project."""
    return {
        "name": project.name,
        "serial": project.serial or update.note.serial or (row.serial if row else 0),
        "status": project.status,
        "etag": update.etag,
        "listing": update.body,
        "newest_at": stored.newest_at(project),
        "read_at": now,
    }
