# SPDX-License-Identifier: BSD-3-Clause
"""Projects whose names fit what somebody types: that very name, then those that begin so, then the others.

Names that begin so are found by an index; those that only have it in them are looked for where there is room
left, and by three characters at least: then names are read one after the other, in an index that has nothing
else. This module knows no HTTP.
"""

from __future__ import annotations

from typing import Any

from packaging.utils import canonicalize_name
from sqlalchemy import Select, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from piwheels_node.core.messages import ProjectMatch
from piwheels_node.master.database.models import Project, PypiProject

MOST = 200
LEAST_PART = 3
"""A shorter part of a name would be in half of all names."""

_DELETED = "deleted"


def search(session: Session, name: str, limit: int) -> list[ProjectMatch]:
    """Projects of PyPI, as far as it is followed, and those that the master has had a job of."""
    wanted = canonicalize_name(name.strip())
    limit = min(limit, MOST)
    if not wanted:
        return []
    columns = PypiProject.name, Project.name
    found: set[str] = set()
    for column in columns:
        found |= set(session.scalars(_beginning(session, column, wanted).limit(limit)))
    found |= {one for one in session.scalars(_exactly(columns, wanted)) if one}
    if len(found) < limit and len(wanted) >= LEAST_PART:
        for column in columns:
            inside = select(column).where(column.contains(wanted, autoescape=True)).limit(limit)
            found |= set(session.scalars(inside))
    ranked = sorted(found, key=lambda one: (one != wanted, not one.startswith(wanted), one))
    return _matches(session, ranked[:limit])


def _exactly(columns: tuple[InstrumentedAttribute[str], ...], name: str) -> Any:
    one, other = columns
    return select(one).where(one == name).union(select(other).where(other == name))


def _beginning(session: Session, column: Any, start: str) -> Select[Any]:
    """By the bytes of names, whatever language the database sorts in."""
    by_bytes = column
    if session.get_bind().dialect.name == "postgresql":
        by_bytes = column.collate("C")
    after = start[:-1] + chr(ord(start[-1]) + 1)
    return select(column).where(by_bytes >= start, by_bytes < after).order_by(by_bytes)


def _matches(session: Session, names: list[str]) -> list[ProjectMatch]:
    pypi = {
        row.name: row
        for row in session.execute(
            select(PypiProject.name, PypiProject.status, PypiProject.newest_at, PypiProject.popularity).where(
                PypiProject.name.in_(names)
            )
        )
    }
    known = set(session.scalars(select(Project.name).where(Project.name.in_(names))))
    return [
        ProjectMatch(
            name=name,
            is_on_pypi=name in pypi and pypi[name].status != _DELETED,
            is_known=name in known,
            newest_at=pypi[name].newest_at if name in pypi else None,
            popularity=pypi[name].popularity if name in pypi else None,
        )
        for name in names
    ]
