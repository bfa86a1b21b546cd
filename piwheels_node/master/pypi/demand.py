# SPDX-License-Identifier: BSD-3-Clause
"""What our own index is asked for, kept with the projects, so that it is built first.

Counts come from the memory of a process (`index.asks`), once a minute, and are written some hundred projects
at a time. They fade (`urgency.faded`), so what was wanted last year is not wanted for ever. A project that is
wanted noticeably more than before is planned again, by which its jobs move forward. This module knows the
tables, and no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.orm import Session

from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import PypiProject
from piwheels_node.master.database.session import working
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs.urgency import faded, liking
from piwheels_node.master.pypi import notes

_CHUNK = 200
_STEP = 3.0
"""So much further forward, of 50, and jobs that wait are looked at again."""

_PROJECTS = cast("Table", PypiProject.__table__)
_STORE = Statement(
    update(_PROJECTS)
    .where(_PROJECTS.c.id == bindparam("project"))
    .values(
        asks=bindparam("many", type_=_PROJECTS.c.asks.type),
        asks_at=bindparam("at", type_=_PROJECTS.c.asks_at.type),
    )
)


def add(database: Database, counts: Mapping[str, int], now: datetime) -> None:
    """Add to what was counted before; names of no project are forgotten."""
    names = sorted(counts)
    for at in range(0, len(names), _CHUNK):
        some = {name: counts[name] for name in names[at : at + _CHUNK]}
        database.write(lambda session: _add(session, some, now))  # noqa: B023 - run at once


def _add(session: Session, counts: Mapping[str, int], now: datetime) -> None:
    rows = session.execute(
        select(
            PypiProject.id, PypiProject.name, PypiProject.popularity, PypiProject.asks, PypiProject.asks_at
        )
        .where(PypiProject.name.in_(counts))
        .order_by(PypiProject.name)
        .with_for_update()
    ).all()
    stored, moved = [], []
    for row in rows:
        before = faded(row.asks, row.asks_at, now)
        after = before + counts[row.name]
        stored.append({"project": row.id, "many": after, "at": now})
        if _crosses(liking(row.popularity, before), liking(row.popularity, after)):
            moved.append(row.name)
    working(session).fast_many(_STORE, stored)
    notes.think_again(session, moved, now)


def _crosses(before: float, after: float) -> bool:
    """A step is taken, however small the steps to it were."""
    return int(after / _STEP) > int(before / _STEP)
