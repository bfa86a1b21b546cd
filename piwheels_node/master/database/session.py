# SPDX-License-Identifier: BSD-3-Clause
"""The session that a piece of work is given: SQLAlchemy's, and two things that make a busy queue quick.

`fast` runs a `Statement` past the session. `count`, `record` and `announce` gather what is written once
for the whole batch, just before the commit: a counter that 30 pieces change is one statement, and its row
is locked for a moment only. This module knows the tables of counters and events, and nothing of the queue.
"""

from __future__ import annotations

from collections import Counter as Bag
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Table, bindparam, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from piwheels_node.master.database.models import Event
from piwheels_node.master.database.statements import Statement

_EVENTS = cast("Table", Event.__table__)
_RECORD = Statement(
    insert(_EVENTS).values(
        job_id=bindparam("of_job", type_=_EVENTS.c.job_id.type),
        at=bindparam("then", type_=_EVENTS.c.at.type),
        kind=bindparam("what", type_=_EVENTS.c.kind.type),
        detail=bindparam("more", type_=_EVENTS.c.detail.type),
    )
)
_COUNT = Statement(
    text(
        "INSERT INTO counter (name, value) VALUES (:name, :by)"
        " ON CONFLICT (name) DO UPDATE SET value = counter.value + excluded.value"
    )
)


@dataclass(eq=False)
class Tally:
    """What a piece, or a batch, has to say besides its rows. `topics` has how often each was announced."""

    counters: Bag[str] = field(default_factory=Bag)
    events: list[dict[str, Any]] = field(default_factory=list)
    topics: Bag[str] = field(default_factory=Bag)

    def add(self, other: Tally) -> None:
        """Take in what another one has."""
        for name, by in other.counters.items():
            self.counters[name] += by
        self.events.extend(other.events)
        self.topics.update(other.topics)

    def write(self, connection: Connection) -> None:
        """Write events and counters; these last and in order, so that two masters cannot lock each other."""
        changed = [{"name": name, "by": by} for name, by in sorted(self.counters.items()) if by]
        if not (changed or self.events):
            return
        cursor = _cursor_of(connection)
        if self.events:
            _RECORD.on(connection.dialect).run_many(cursor, self.events)
        if changed:
            _COUNT.on(connection.dialect).run_many(cursor, changed)
        cursor.close()


class WorkSession(Session):
    """A session inside the writer's transaction. Neither commit nor keep it.

    What `count`, `record` and `announce` gather cannot be read back before the commit.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.tally = Tally()
        self.has_traces = False
        """True where a failure of this piece cannot be undone without the rest of its batch."""
        self.failure: DBAPIError | None = None
        """Why the transaction is worth nothing any more, even where the piece has caught it."""
        self._connection = connection
        self._cursor: Any = None

    def fast(self, statement: Statement, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement past the session, and give its rows.

        What the session holds is flushed first; objects in it do not learn of the change. A piece that
        fails after a change made in this way is undone with its whole batch, whose pieces are then run
        again one by one: so check first, and change then.
        """
        with self._past_the_session(writes=statement.writes) as cursor:
            return statement.on(self._connection.dialect).run(cursor, values)

    def fast_many(self, statement: Statement, many: Sequence[dict[str, Any]]) -> None:
        """`fast`, once for each of `many`."""
        if many:
            with self._past_the_session(writes=statement.writes) as cursor:
                statement.on(self._connection.dialect).run_many(cursor, many)

    @contextmanager
    def _past_the_session(self, *, writes: bool) -> Iterator[Any]:
        if self.in_transaction():
            self.flush()
        if self._cursor is None:
            self._cursor = _cursor_of(self._connection)
        try:
            yield self._cursor
        except DBAPIError as error:
            if error.connection_invalidated:
                self._connection.invalidate(error.orig)
            elif not self._connection.in_nested_transaction():
                self.has_traces, self.failure = True, error
            raise
        if writes and not self.has_traces:
            self.has_traces = not self._connection.in_nested_transaction()

    def renew(self) -> None:
        """Begin again for another piece, where this one has used nothing but `fast`."""
        self.tally = Tally()
        self.has_traces = False
        self.failure = None
        self.info.clear()

    def count(self, name: str, by: int) -> None:
        """Change a counter, which is made where it is missing."""
        self.tally.counters[name] += by

    def record(self, job_id: int, at: datetime, kind: str, detail: dict[str, Any]) -> None:
        """Add a line to the history of a job that is in the database already."""
        self.tally.events.append({"of_job": job_id, "then": at, "what": kind, "more": detail})

    def announce(self, topic: str) -> None:
        """Tell all who subscribed, in every process, once this is committed."""
        self.tally.topics[topic] += 1


def working(session: Session) -> WorkSession:
    """The session as one that can write; raises TypeError for one of `Database.read`."""
    if isinstance(session, WorkSession):
        return session
    raise TypeError("this changes the database: call it from Database.write")


def _cursor_of(connection: Connection) -> Any:
    driver: Any = connection.connection.driver_connection
    return driver.cursor()
