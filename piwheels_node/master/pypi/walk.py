# SPDX-License-Identifier: BSD-3-Clause
"""A walk through all projects, for a target that is new: newest first, while its queue has room.

    step     the next projects are looked at, and what is missing of them is queued

What is to be done is found out by reading; only the jobs that are missing are made in a piece of work, few at
a time, since every other write of the master waits for it. How far a walk has come is in the database, moved
by the transaction that makes the jobs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from piwheels_node.core.settings import PypiSettings
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Counter, PypiNote, PypiProject, Walk
from piwheels_node.master.jobs.plan import Build, Scope
from piwheels_node.master.jobs.planning import Farm, Outlook, Past, outlook, plan_project
from piwheels_node.master.pypi import notes, stored, update
from piwheels_node.master.pypi.listing import ProjectFiles

Found = tuple[PypiProject, ProjectFiles, Outlook]
"""A project, what PyPI has of it, and what is to be done."""

_AT_ONCE = 25
"""Projects that are looked at before it is asked again whether the queue has room."""

_MOST = 12
"""Jobs that one piece makes; a project counts as one at least. Each takes 3 ms, and claims wait meanwhile."""


def outlooks(
    session: Session, rows: Iterable[PypiProject], farm: Farm, is_planned: Callable[[str], bool]
) -> list[Found]:
    """What is to be done about the projects that are there and are planned."""
    chosen = [
        row for row in rows if row.status not in {"quarantined", update.DELETED} and is_planned(row.name)
    ]
    past = Past.of(session, [row.name for row in chosen])
    found = []
    for row in chosen:
        project = stored.read(row.name, row.listing)
        found.append((row, project, outlook(session, project, farm, past=past)))
    return found


class Walker:
    """Walks for the targets of a farm, that which has come least far first."""

    def __init__(
        self,
        database: Database,
        settings: PypiSettings,
        scope: Scope,
        now: Callable[[], datetime],
        is_planned: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._settings = settings
        self._scope = scope
        self._now = now
        self._is_planned = is_planned

    def step(self) -> bool:
        """Go on with a walk; False where there is none, or no room."""
        with self._database.read() as session:
            farm = Farm.of(session, self._scope, self._now())
            if not farm.targets or _is_first_reading(session):
                return False
            walk = self._next(session, farm)
            if walk is None:
                return False
            wanted = select(PypiProject).where(PypiProject.listing.is_not(None))
            if walk.newest_at is not None:
                here = tuple_(walk.newest_at, walk.project_id)
                wanted = wanted.where(tuple_(PypiProject.newest_at, PypiProject.id) < here)
            rows = session.scalars(
                wanted.order_by(PypiProject.newest_at.desc(), PypiProject.id.desc()).limit(_AT_ONCE)
            ).all()
            found = outlooks(session, rows, farm, self._is_planned)
        pieces = _pieces(rows, found) if rows else [([], [])]
        for some, of_those in pieces:
            move = functools.partial(_move, before=walk, rows=some, farm=farm, found=of_those)
            if not self._database.write(move):
                break  # another master has come here first
            walk = _moved(walk, some)
        return True

    def _next(self, session: Session, farm: Farm) -> Walk | None:
        known = {walk.target_id: walk for walk in session.scalars(select(Walk))}
        names = {f"jobs.ready.{target_id}": target_id for target_id in farm.targets.values()}
        ready = {
            names[row.name]: row.value
            for row in session.scalars(select(Counter).where(Counter.name.in_(names)))
        }
        open_ones = [
            known.get(target_id) or Walk(target_id=target_id, project_id=0, projects=0, jobs=0)
            for target_id in farm.targets.values()
            if ready.get(target_id, 0) < self._settings.queue_max
        ]
        return min(
            (walk for walk in open_ones if walk.done_at is None), key=lambda walk: walk.projects, default=None
        )


def _is_first_reading(session: Session) -> bool:
    """True until every project that was heard of has been asked about once: newest first needs all."""
    if notes.position(session)["list_at"] is None:
        return True
    if session.scalar(select(func.count()).select_from(Walk)):
        return False
    return session.scalar(select(PypiNote.name).where(PypiNote.tries == 0).limit(1)) is not None


def _pieces(
    rows: Sequence[PypiProject], found: Sequence[Found]
) -> list[tuple[list[PypiProject], list[Found]]]:
    """Projects in their order, parted so that each part makes few jobs."""
    by_id = {one[0].id: one for one in found}
    pieces: list[tuple[list[PypiProject], list[Found]]] = [([], [])]
    cost = 0
    for row in rows:
        here = by_id.get(row.id)
        more = max(1, _jobs(here[2])) if here else 0
        if cost and cost + more > _MOST:
            pieces.append(([], []))
            cost = 0
        cost += more
        some, of_those = pieces[-1]
        some.append(row)
        if here:
            of_those.append(here)
    return pieces


def _jobs(wanted: Outlook) -> int:
    return sum(isinstance(one, Build) for verdicts in wanted.values() for one in verdicts.values())


def _moved(walk: Walk, rows: Sequence[PypiProject]) -> Walk:
    """Where a walk stands after these projects: what the next piece must find."""
    last = rows[-1] if rows else None
    return Walk(
        target_id=walk.target_id,
        newest_at=last.newest_at if last else walk.newest_at,
        project_id=last.id if last else walk.project_id,
        projects=0,
        jobs=0,
    )


def _move(
    session: Session, before: Walk, rows: Sequence[PypiProject], farm: Farm, found: Sequence[Found]
) -> bool:
    """Make the jobs, and let the walk stand behind these projects; False where it stands elsewhere by now."""
    walk = session.get(Walk, before.target_id, with_for_update=True)
    if walk is None:
        walk = Walk(target_id=before.target_id, project_id=0, projects=0, jobs=0)
        session.add(walk)
    elif (walk.newest_at, walk.project_id) != (before.newest_at, before.project_id):
        return False
    walk.projects += len(rows)
    for row, project, wanted in found:
        walk.jobs += plan_project(session, row, project, farm, wanted)
    if rows:
        walk.newest_at, walk.project_id = rows[-1].newest_at, rows[-1].id
    else:
        walk.done_at = farm.now
    return True
