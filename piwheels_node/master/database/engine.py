# SPDX-License-Identifier: BSD-3-Clause
"""The master's database: opened, migrated, read by many, written by one.

    with Database.open("sqlite:////var/lib/piwheels-node/master.db") as database:
        job = database.write(lambda session: queue.claim(session, ...))
        with database.read() as session:
            ...

Reads see the last commit and never wait for the writer (`sqlite`); writes go through one thread with
group commit (`writer`). What a piece of work returns stays usable after the commit as far as it was
loaded: a relation that was not touched cannot be loaded later. Opening brings the tables up to date
(`migrations`). This module imports neither the queue nor the API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import Connection, Engine, Select, inspect, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from piwheels_node.core.errors import StorageError
from piwheels_node.master.database import migrations, sqlite
from piwheels_node.master.database.session import Tally, WorkSession
from piwheels_node.master.database.writer import Writer

T = TypeVar("T")
Work = Callable[[WorkSession], T]
"""A piece of work: it uses the session that it is given, and neither commits nor keeps it."""


class Lookup:
    """One question that is asked very often, by one thread: 5 µs where `Database.read` takes 300 (measured).

    It goes past SQLAlchemy, on a connection of its own that is never in a transaction, so each answer is
    that of the last commit. For columns of plain numbers and texts; errors are the driver's own.
    """

    def __init__(self, engine: Engine, question: Select[Any]) -> None:
        compiled = question.compile(engine)
        self._text = str(compiled)
        self._order = compiled.positiontup
        self._connection = engine.raw_connection()

    def __call__(self, **values: Any) -> Any | None:
        """The first column of the first row; None where there is no row."""
        parameters = values if self._order is None else [values[name] for name in self._order]
        cursor = self._connection.cursor()
        cursor.execute(self._text, parameters)
        row = cursor.fetchone()
        cursor.close()
        return None if row is None else row[0]

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


class Database:
    """An open database; made by `Database.open`. All methods may be called from any thread."""

    def __init__(self, writing: Engine, reading: Engine, where: str) -> None:
        self._writing = writing
        self._reading = reading
        self._where = where
        self._lookups: list[Lookup] = []
        self._subscribers: list[Callable[[str], None]] = []
        self._writer = Writer(writing, self._translated, self._announced)

    @classmethod
    def open(cls, url: str) -> Database:
        """Open the database at an SQLAlchemy URL, make it if it is missing, and migrate it.

        Raises StorageError where it is damaged, not ours, newer than this program, or cannot be opened.
        """
        parsed = make_url(url)
        writing, reading = sqlite.make_engines(parsed)
        where = parsed.database or str(parsed)
        try:
            _migrate(writing, where)
            return cls(writing, reading, where)
        except BaseException as error:
            writing.dispose()
            reading.dispose()
            meaning = sqlite.meaning_of(error, where)
            if meaning is not None:
                raise meaning from error
            raise

    def submit(self, work: Work[T]) -> Future[T]:
        """Put work in line for the writer. The future is done once the work is committed, or has failed.

        An exception that the work raises undoes this work only. StorageError where the disk is full.
        """
        return self._writer.submit(work)

    def write(self, work: Work[T]) -> T:
        """Do the work and wait until it is committed."""
        return self.submit(work).result()

    async def awrite(self, work: Work[T]) -> T:
        """`write`, for a coroutine."""
        return await asyncio.wrap_future(self.submit(work))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database, and cannot write."""
        try:
            with Session(self._reading, autoflush=False, expire_on_commit=False) as session:
                yield session
        except DBAPIError as error:
            meaning = sqlite.meaning_of(error, self._where)
            if meaning is None:
                raise
            raise meaning from error

    def lookup(self, question: Select[Any]) -> Lookup:
        """Prepare a question with named parameters (`bindparam`) that will be asked very often."""
        made = Lookup(self._reading, question)
        self._lookups.append(made)
        return made

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Have `callback` called, from any thread, with each topic that a commit announces.

        Topics are those of `queue`: `ready:<target>` for each job that became ready, and `orders`; and
        `*` where announcements of other processes may have been missed: anything may have happened.
        """
        self._subscribers.append(callback)

    def close(self) -> None:
        """Finish the work that waits in line, and close all connections."""
        self._writer.close()
        for lookup in self._lookups:
            lookup.close()
        self._reading.dispose()
        self._writing.dispose()  # the last connection to go: it folds the write-ahead log into the file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _announced(self, tally: Tally) -> None:
        for topic in tally.topics.elements():
            for callback in self._subscribers:
                callback(topic)

    def _translated(self, error: Exception) -> Exception:
        meaning = sqlite.meaning_of(error, self._where)
        if meaning is None:
            return error
        meaning.__cause__ = error
        return meaning


def _migrate(engine: Engine, where: str) -> None:
    with engine.connect() as connection:
        if _revision(connection, where) == migrations.HEAD:
            return  # the usual case, without importing alembic: 80 ms here, a second on a Pi
    from piwheels_node.master.database.migrations import upgrade  # noqa: PLC0415 - see above

    with engine.begin() as connection:  # a migration that fails leaves everything as it was
        upgrade.to_head(connection, where)


def _revision(connection: Connection, where: str) -> str | None:
    """The revision that the tables are at; None for an empty database."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found
    if tables:
        raise StorageError("this database belongs to another program", where=where, hint="name another file")
    return None
