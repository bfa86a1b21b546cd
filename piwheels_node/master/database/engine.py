# SPDX-License-Identifier: BSD-3-Clause
"""The master's database: opened, migrated, read by many, written by one.

    with Database.open("sqlite:////var/lib/piwheels-node/master.db") as database:
        job = database.write(lambda session: queue.claim(session, ...))
        with database.read() as session:
            ...

Reads see the last commit and never wait for the writer; writes go through one thread with group commit
(`writer`). `backend` is what differs between SQLite and PostgreSQL. What a piece of work returns stays
usable after the commit as far as it was loaded: a relation that was not touched cannot be loaded later.
Opening brings the tables up to date (`migrations`). This module imports neither the queue nor the API.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, Select, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from piwheels_node.core.errors import StorageError
from piwheels_node.master.database import migrations
from piwheels_node.master.database.backend import Backend, backend_of
from piwheels_node.master.database.lookup import Lookup
from piwheels_node.master.database.pieces import FuturePiece, LoopPiece, ThreadPiece
from piwheels_node.master.database.session import WorkSession
from piwheels_node.master.database.writer import Writer

T = TypeVar("T")
Work = Callable[[WorkSession], T]
"""A piece of work: it uses the session that it is given, and neither commits nor keeps it."""


class Database:
    """An open database; made by `Database.open`. All methods may be called from any thread."""

    def __init__(self, url: URL, backend: Backend, writing: Engine, reading: Engine) -> None:
        self._backend = backend
        self._writing = writing
        self._reading = reading
        self._where = backend.where(url)
        self._lookups: list[Lookup] = []
        self._subscribers: list[Callable[[str], None]] = []
        origin = secrets.token_hex(8)
        self._writer = Writer(writing, backend, self._where, origin, self._announced)
        self._listener = backend.listen(url, origin, self._heard)

    @classmethod
    def open(cls, url: str) -> Database:
        """Open the database at an SQLAlchemy URL, and migrate it; an SQLite file is made if it is missing.

        Raises StorageError where it is damaged, not ours, newer than this program, or cannot be opened;
        UnavailableError where PostgreSQL does not answer; SettingsError where the URL is wrong.
        """
        parsed, backend = backend_of(url)
        writing, reading = backend.make_engines(parsed)
        where = backend.where(parsed)
        try:
            _migrate(writing, backend, where)
            return cls(parsed, backend, writing, reading)
        except BaseException as error:
            writing.dispose()
            reading.dispose()
            meaning = backend.meaning_of(error, where)
            if meaning is not None:
                raise meaning from error
            raise

    def submit(self, work: Work[T]) -> Future[T]:
        """Put work in line for the writer. The future is done once the work is committed, or has failed.

        An exception that the work raises undoes this work only. StorageError where the disk is full,
        UnavailableError where the database is away. Work may be run twice where its transaction failed for
        another one's sake, so all it does must be done through its session.
        """
        piece = FuturePiece(work)
        self._writer.put(piece)
        return piece.future

    def write(self, work: Work[T]) -> T:
        """Do the work and wait until it is committed."""
        piece = ThreadPiece(work)
        self._writer.put(piece)
        result: T = piece.wait()
        return result

    async def awrite(self, work: Work[T]) -> T:
        """`write`, for a coroutine."""
        piece = LoopPiece(work)
        self._writer.put(piece)
        result: T = await piece.wait()
        return result

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database, and cannot write."""
        try:
            with Session(self._reading, autoflush=False, expire_on_commit=False) as session:
                yield session
        except SQLAlchemyError as error:
            meaning = self._backend.meaning_of(error, self._where)
            if meaning is None:
                raise
            raise meaning from error

    def lookup(self, question: Select[Any]) -> Lookup:
        """Prepare a question with named parameters (`bindparam`) that will be asked very often."""
        made = Lookup(self._reading, self._backend, self._where, question)
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
        if self._listener is not None:
            self._listener.close()
            self._listener = None
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

    def _announced(self, topics: Mapping[str, int]) -> None:
        for topic, often in topics.items():
            for _ in range(often):
                self._heard(topic)

    def _heard(self, topic: str) -> None:
        for callback in self._subscribers:
            callback(topic)


def _migrate(engine: Engine, backend: Backend, where: str) -> None:
    with engine.connect() as connection:
        if _revision(connection, where) == migrations.HEAD:
            return  # the usual case, without importing alembic: 80 ms here, a second on a Pi
    from piwheels_node.master.database.migrations import upgrade  # noqa: PLC0415 - see above

    with engine.begin() as connection:  # a migration that fails leaves everything as it was
        backend.begin_migration(connection)  # whoever has waited here finds it done
        upgrade.to_head(connection, where)


def _revision(connection: Connection, where: str) -> str | None:
    """The revision that the tables are at; None for an empty database."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found
    if tables:
        raise StorageError("this database belongs to another program", where=where, hint="name another one")
    return None
