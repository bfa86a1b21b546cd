# SPDX-License-Identifier: BSD-3-Clause
"""The session that a piece of work is given: SQLAlchemy's, and two things that make a busy queue quick.

`fast` runs a `Statement` past the session. `count`, `record` and `announce` gather what is written once
for the whole batch, just before the commit: a counter that 30 pieces change is one statement, and its row
is locked for a moment only. This module knows the tables of counters and events, and nothing of the queue.
"""

from __future__ import annotations

from collections import Counter as Bag
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Table, bindparam, event, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from piwheels_node.core.jobs import Outcome
from piwheels_node.master.database.backend import Backend
from piwheels_node.master.database.models import Event
from piwheels_node.master.database.statements import Statement, wrapped

_EVENTS = cast("Table", Event.__table__)
_RECORD = Statement(
    insert(_EVENTS).values(
        job_id=bindparam("of_job", type_=_EVENTS.c.job_id.type),
        at=bindparam("then", type_=_EVENTS.c.at.type),
        kind=bindparam("what", type_=_EVENTS.c.kind.type),
        detail=bindparam("more", type_=_EVENTS.c.detail.type),
    ),
    arrays="INSERT INTO event (job_id, at, kind, detail) SELECT * FROM unnest("
    "%(of_job)s::bigint[], %(then)s::timestamptz[], %(what)s::text[], %(more)s::json[])",
)
_COUNT = Statement(
    text(
        "INSERT INTO counter (name, value) VALUES (:name, :by)"
        " ON CONFLICT (name) DO UPDATE SET value = counter.value + excluded.value"
    ),
    arrays="INSERT INTO counter (name, value) SELECT * FROM unnest(%(name)s::text[], %(by)s::bigint[])"
    " ON CONFLICT (name) DO UPDATE SET value = counter.value + excluded.value",
)


_COUNT_BUILDS = Statement(
    text(
        "INSERT INTO build_count (day, target_id, result, builds, newest_build_id)"
        " VALUES (:day, :target, :result, :by, :newest)"
        " ON CONFLICT (day, target_id, result) DO UPDATE SET builds = build_count.builds + excluded.builds,"
        " newest_build_id = coalesce(excluded.newest_build_id, build_count.newest_build_id)"
    ),
    arrays="INSERT INTO build_count (day, target_id, result, builds, newest_build_id) SELECT * FROM unnest("
    "%(day)s::text[], %(target)s::bigint[], %(result)s::text[], %(by)s::bigint[], %(newest)s::bigint[])"
    " ON CONFLICT (day, target_id, result) DO UPDATE SET builds = build_count.builds + excluded.builds,"
    " newest_build_id = coalesce(excluded.newest_build_id, build_count.newest_build_id)",
)


_COUNT_BUILDERS = Statement(
    text(
        "INSERT INTO builder_count (day, builder_id, built, failed) VALUES (:day, :builder, :built, :failed)"
        " ON CONFLICT (day, builder_id) DO UPDATE SET built = builder_count.built + excluded.built,"
        " failed = builder_count.failed + excluded.failed"
    ),
    arrays="INSERT INTO builder_count (day, builder_id, built, failed) SELECT * FROM unnest("
    "%(day)s::text[], %(builder)s::bigint[], %(built)s::bigint[], %(failed)s::bigint[])"
    " ON CONFLICT (day, builder_id) DO UPDATE SET built = builder_count.built + excluded.built,"
    " failed = builder_count.failed + excluded.failed",
)
_COUNT_HOURS = Statement(
    text(
        "INSERT INTO hour_count (hour, built, failed) VALUES (:hour, :built, :failed)"
        " ON CONFLICT (hour) DO UPDATE SET built = hour_count.built + excluded.built,"
        " failed = hour_count.failed + excluded.failed"
    ),
    arrays="INSERT INTO hour_count (hour, built, failed) SELECT * FROM unnest("
    "%(hour)s::text[], %(built)s::bigint[], %(failed)s::bigint[])"
    " ON CONFLICT (hour) DO UPDATE SET built = hour_count.built + excluded.built,"
    " failed = hour_count.failed + excluded.failed",
)


@dataclass(frozen=True)
class Ended:
    """A build that ended in one way: `result` is `built`, or its reason; `hour` is UTC, `2026-11-23T07`."""

    hour: str
    target_id: int
    builder_id: int
    result: str

    @property
    def day(self) -> str:
        """As in `2026-11-23`."""
        return self.hour.partition("T")[0]

    @property
    def is_built(self) -> bool:
        """True where there is a wheel of it."""
        return self.result == Outcome.BUILT.value


@dataclass(eq=False)
class Tally:
    """What a piece, or a batch, has to say besides its rows. `topics` has how often each was announced.

    `builds` has how many ended in which way, and the newest of them.
    """

    counters: Bag[str] = field(default_factory=Bag)
    builds: dict[Ended, tuple[int, int | None]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    topics: Bag[str] = field(default_factory=Bag)

    def add(self, other: Tally) -> None:
        """Take in what another one has."""
        for name, by in other.counters.items():
            self.counters[name] += by
        for which, (by, newest) in other.builds.items():
            self.count_builds(which, by, newest)
        self.events.extend(other.events)
        self.topics.update(other.topics)

    def count_builds(self, which: Ended, by: int, newest: int | None) -> None:
        """So many more builds that ended in this way; `newest` is one of them."""
        before, known = self.builds.get(which, (0, None))
        self.builds[which] = (before + by, newest or known)

    def write(self, shortcut: Shortcut) -> None:
        """Write events and counters; these last and in order, so that two masters cannot lock each other."""
        if self.events:
            shortcut.run_many(_RECORD, self.events)
        if self.builds:
            self._write_builds(shortcut)
        changed = [{"name": name, "by": by} for name, by in sorted(self.counters.items()) if by]
        if changed:
            shortcut.run_many(_COUNT, changed)

    def _write_builds(self, shortcut: Shortcut) -> None:
        """Each build in three tables, every row of them once."""
        results: dict[tuple[str, int, str], tuple[int, int | None]] = {}
        builders: dict[tuple[str, int], Bag[bool]] = {}
        hours: dict[str, Bag[bool]] = {}
        for ended, (by, newest) in self.builds.items():
            which = ended.day, ended.target_id, ended.result
            before, known = results.get(which, (0, None))
            results[which] = before + by, max(newest or 0, known or 0) or None
            builders.setdefault((ended.day, ended.builder_id), Bag())[ended.is_built] += by
            hours.setdefault(ended.hour, Bag())[ended.is_built] += by
        shortcut.run_many(
            _COUNT_BUILDS,
            [
                {"day": day, "target": target, "result": result, "by": by, "newest": newest}
                for (day, target, result), (by, newest) in sorted(results.items())
            ],
        )
        shortcut.run_many(
            _COUNT_BUILDERS,
            [
                {"day": day, "builder": builder, "built": bag[True], "failed": bag[False]}
                for (day, builder), bag in sorted(builders.items(), key=lambda one: one[0])
            ],
        )
        shortcut.run_many(
            _COUNT_HOURS,
            [{"hour": hour, "built": bag[True], "failed": bag[False]} for hour, bag in sorted(hours.items())],
        )


class Shortcut:
    """The way past SQLAlchemy, for one transaction on the writer's connection.

    Where the driver can, statements that give no rows go out together with the next one that does; an
    error of theirs is told then. `settle` before SQLAlchemy itself uses the connection.
    """

    def __init__(self, connection: Connection, backend: Backend, ids: dict[str, list[int]]) -> None:
        self._ids = ids
        self._connection = connection
        self._dialect = connection.dialect
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        self._asks = driver.cursor()
        self._tells = driver.cursor()
        self._backend = backend
        self._pipeline: AbstractContextManager[Any] | None = None

    @property
    def is_in_savepoint(self) -> bool:
        """True where what is done now can be undone without the rest of the transaction."""
        return self._connection.in_nested_transaction()

    @property
    def is_aborted(self) -> bool:
        """True where nothing of the transaction can be committed any more."""
        return self._backend.is_aborted(self._driver)

    def run(self, statement: Statement, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement, and give its rows; raises DBAPIError."""
        self._line_up()
        compiled = statement.on(self._dialect)
        try:
            return compiled.run(self._asks if compiled.gives_rows else self._tells, values)
        except DBAPIError as error:
            self._look_at(error)
            raise

    def run_many(self, statement: Statement, many: Sequence[dict[str, Any]]) -> None:
        """Run a statement once for each of `many`; raises DBAPIError."""
        self._line_up()
        try:
            statement.on(self._dialect).run_many(self._tells, many)
        except DBAPIError as error:
            self._look_at(error)
            raise

    def next_id(self, table: str) -> int | None:
        """An id for a new row, which nobody else gets; None where the database is asked with the row."""
        ids = self._ids.setdefault(table, [])
        if not ids:
            ahead = self._backend.ids_ahead(table)
            if ahead is None:
                return None
            ids.extend(found for (found,) in reversed(self.run(ahead, {})))
        return ids.pop()

    def settle(self) -> None:
        """Wait for all answers; raises DBAPIError where one is an error."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            try:
                pipeline.__exit__(None, None, None)
            except self._dialect.loaded_dbapi.Error as error:
                failure = wrapped(self._dialect, error, self._driver)
                self._look_at(failure)
                raise failure from error

    def close(self) -> None:
        """Let go of the connection, whatever state it is in."""
        with suppress(DBAPIError, self._dialect.loaded_dbapi.Error):
            self.settle()
            self._asks.close()
            self._tells.close()

    def _line_up(self) -> None:
        if self._pipeline is None and not self.is_in_savepoint:
            self._pipeline = self._backend.pipeline(self._driver)
            self._pipeline.__enter__()

    def _look_at(self, error: BaseException) -> None:
        """Tell SQLAlchemy where the connection is gone."""
        connection = self._connection
        if not isinstance(error, DBAPIError) or not error.connection_invalidated:
            return
        if not (connection.closed or connection.invalidated):
            connection.invalidate(error.orig)


class WorkSession(Session):
    """A session inside the writer's transaction. Neither commit nor keep it.

    What `count`, `record` and `announce` gather cannot be read back before the commit.
    """

    def __init__(self, connection: Connection, shortcut: Shortcut) -> None:
        super().__init__(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.tally = Tally()
        self.has_traces = False
        """True where a failure of this piece cannot be undone without the rest of its batch."""
        self.failure: DBAPIError | None = None
        """Why the transaction is worth nothing any more, even where the piece has caught it."""
        self._shortcut = shortcut
        event.listen(self, "after_begin", self._settle)

    def fast(self, statement: Statement, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement past the session, and give its rows.

        What the session holds is flushed first; objects in it do not learn of the change. A piece that
        fails after a change made in this way is undone with its whole batch, whose pieces are then run
        again one by one: so check first, and change then. What a statement without rows has to complain of
        may come later, with another statement or the commit.
        """
        self._prepare(statement)
        try:
            return self._shortcut.run(statement, values)
        except DBAPIError as error:
            self._note(error)
            raise

    def fast_many(self, statement: Statement, many: Sequence[dict[str, Any]]) -> None:
        """`fast`, once for each of `many`."""
        if not many:
            return
        self._prepare(statement)
        try:
            self._shortcut.run_many(statement, many)
        except DBAPIError as error:
            self._note(error)
            raise

    def next_id(self, table: str) -> int | None:
        """An id for a new row of a table; None where inserting it (`RETURNING`) says so at no cost."""
        try:
            return self._shortcut.next_id(table)
        except DBAPIError as error:
            self._note(error)
            raise

    def renew(self) -> None:
        """Begin again for another piece, where this one has used nothing but `fast`."""
        self.tally = Tally()
        self.has_traces = False
        self.failure = None
        self.info.clear()

    def _prepare(self, statement: Statement) -> None:
        if self.in_transaction():
            self.flush()
        if statement.writes and not self._shortcut.is_in_savepoint:
            self.has_traces = True

    def _note(self, error: DBAPIError) -> None:
        if not self._shortcut.is_in_savepoint:
            self.has_traces, self.failure = True, error

    def _settle(self, *_: object) -> None:
        # An error that is told here is of what went past the session before, maybe of an earlier piece. The
        # savepoint came after it and does not exist: SQLAlchemy would complain of that, and hide the error.
        try:
            self._shortcut.settle()
        except DBAPIError as error:
            self.has_traces, self.failure = True, error
            raise

    def count(self, name: str, by: int) -> None:
        """Change a counter, which is made where it is missing."""
        self.tally.counters[name] += by

    def count_build(self, ended: Ended, build_id: int | None) -> None:
        """Count a build that has ended, for reports and screens."""
        self.tally.count_builds(ended, 1, build_id)

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
