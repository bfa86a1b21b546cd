# SPDX-License-Identifier: BSD-3-Clause
"""Which projects must be asked about, kept in the database until they were.

    hear    what a feed told is noted, and the feed's serial moves, in one transaction
    due     the notes whose time has come, what changed last first
    done    a note is taken away once what it is about is stored, unless something was heard meanwhile

So a process may be killed at any moment: what was heard is noted or will be told again. A project has one
note, however many events it had, in whatever order. This module knows the tables, and no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, func, select, text, update
from sqlalchemy.orm import Session

from piwheels_node.master.database.models import Flag, PlanNote, PypiNote, PypiProject
from piwheels_node.master.database.session import working
from piwheels_node.master.database.statements import Statement

POSITION = "pypi.position"
"""Flag with what of a feed is stored: `serial`, and when the list was last read (`list_at`)."""

_LONGEST_DELAY_S = 6 * 3600.0
_FIRST_DELAY_S = 5.0
_CHUNK = 500
_TIME = PypiNote.heard_at.type

_NOTE = Statement(
    text(
        "INSERT INTO pypi_note (name, serial, heard_at, not_before_at, tries)"
        " VALUES (:name, :serial, :at, :at, 0) ON CONFLICT (name) DO UPDATE SET"
        " serial = CASE WHEN excluded.serial > pypi_note.serial"
        " THEN excluded.serial ELSE pypi_note.serial END,"
        " heard_at = excluded.heard_at, not_before_at = excluded.not_before_at, tries = 0"
    ).bindparams(bindparam("at", type_=_TIME))
)
_PLAN = Statement(
    text(
        "INSERT INTO plan_note (name, noted_at) VALUES (:name, :at)"
        " ON CONFLICT (name) DO UPDATE SET noted_at = excluded.noted_at"
    ).bindparams(bindparam("at", type_=_TIME))
)

_DONE = Statement(
    text("DELETE FROM pypi_note WHERE name = :name AND serial = :serial AND heard_at = :at").bindparams(
        bindparam("at", type_=_TIME)
    )
)


def position(session: Session) -> dict[str, Any]:
    """`serial` (None: nothing was heard yet) and `list_at` (ISO)."""
    row = session.get(Flag, POSITION)
    return {"serial": None, "list_at": None, **(row.value if row else {})}


def move(session: Session, now: datetime, **changes: Any) -> None:
    """Set what `position` gives."""
    row = session.get(Flag, POSITION)
    if row is None:
        session.add(Flag(name=POSITION, value=changes, changed_at=now))
    elif {**row.value, **changes} != row.value:
        row.value, row.changed_at = {**row.value, **changes}, now


def hear(session: Session, changes: Mapping[str, int], now: datetime) -> None:
    """Note projects, each with the serial of its change."""
    rows = [{"name": name, "serial": serial, "at": now} for name, serial in sorted(changes.items())]
    working(session).fast_many(_NOTE, rows)


def think_again(session: Session, names: Iterable[str], now: datetime) -> None:
    """Note projects whose jobs are to be planned again."""
    working(session).fast_many(_PLAN, [{"name": name, "at": now} for name in sorted(set(names))])


def news(session: Session, changes: Mapping[str, int]) -> dict[str, int]:
    """Those changes that are not stored yet; of a project that gives no serial nobody knows."""
    found: dict[str, int] = {}
    names = sorted(changes)
    for at in range(0, len(names), _CHUNK):
        some = names[at : at + _CHUNK]
        rows = session.execute(select(PypiProject.name, PypiProject.serial).where(PypiProject.name.in_(some)))
        known = {row.name: row.serial for row in rows}
        found |= {one: changes[one] for one in some if not changes[one] or changes[one] != known.get(one)}
    return found


def due(session: Session, now: datetime, most: int) -> list[PypiNote]:
    """The notes whose time has come; what changed last is first."""
    wanted = select(PypiNote).where(PypiNote.not_before_at <= now)
    return list(session.scalars(wanted.order_by(PypiNote.serial.desc(), PypiNote.name.desc()).limit(most)))


def next_due_at(session: Session) -> datetime | None:
    """When the next note's time comes; None where there is none."""
    return session.scalar(select(func.min(PypiNote.not_before_at)))


def done(session: Session, some: Iterable[PypiNote]) -> None:
    """They are stored; what was heard since the notes were read stays."""
    rows = [{"name": note.name, "serial": note.serial, "at": note.heard_at} for note in some]
    working(session).fast_many(_DONE, rows)


def later(session: Session, note: PypiNote, now: datetime) -> None:
    """PyPI could not say it, or not yet: ask again, each time after twice as long."""
    delay_s = min(_FIRST_DELAY_S * 2.0 ** min(note.tries, 20), _LONGEST_DELAY_S)
    session.execute(
        update(PypiNote)
        .where(PypiNote.name == note.name)
        .values(tries=PypiNote.tries + 1, not_before_at=now + timedelta(seconds=delay_s))
    )


def to_plan(session: Session, most: int) -> list[PlanNote]:
    """Projects whose jobs are to be planned again."""
    return list(session.scalars(select(PlanNote).order_by(PlanNote.noted_at, PlanNote.name).limit(most)))


def planned(session: Session, note: PlanNote) -> None:
    """It was done; what was noted since stays."""
    session.execute(delete(PlanNote).where(PlanNote.name == note.name, PlanNote.noted_at == note.noted_at))
