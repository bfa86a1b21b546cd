# SPDX-License-Identifier: BSD-3-Clause
"""Everything that is true of SQLite only: how connections are made, and what its errors mean.

Two pools are made of one file. The writing one has a single connection, whose transactions begin with
`BEGIN IMMEDIATE` (a transaction that reads first and writes later would fail where another writer came
between); the reading one cannot write. With the write-ahead log, readers and the writer never wait for
each other. `backend` says what the rest of the master needs of it.
This module imports nothing of ours but `core.errors`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from piwheels_node.core.errors import NodeError, SettingsError, StorageError, UnavailableError

BUSY_TIMEOUT_MS = 10_000
"""How long a connection waits for a lock that another process (`sqlite3`, a backup) holds."""

_READERS = 8
_MOST_READERS = 40

_MEANING = {
    sqlite3.SQLITE_FULL: ("the disk is full, so the database cannot grow", "free some disk, then try again"),
    sqlite3.SQLITE_IOERR: (
        "the disk could not be read or written",
        "look at `dmesg` for errors of the SD card or disk",
    ),
    sqlite3.SQLITE_CORRUPT: ("the database is damaged", "check the disk, and bring back the newest backup"),
    sqlite3.SQLITE_NOTADB: ("this file is no database", "name another file, or move this one away"),
    sqlite3.SQLITE_CANTOPEN: (
        "the database cannot be opened",
        "check that its directory exists and that this user may write there",
    ),
    sqlite3.SQLITE_READONLY: (
        "the database cannot be written",
        "check the owner of the file, and that the disk is not mounted read-only",
    ),
    sqlite3.SQLITE_BUSY: ("another process holds the database", "end the program that has it open"),
}


def make_engines(url: URL) -> tuple[Engine, Engine]:
    """The engine for writing (one connection) and the one for reading, of the file that `url` names.

    The file is made if it is missing, readable by its owner only: it has the hashes of keys.
    """
    if not url.database or url.database == ":memory:":
        raise SettingsError("the database must be a file", where=str(url), hint="sqlite:////path/to/file")
    path = Path(url.database)
    try:
        path.touch(mode=0o600)
    except OSError as error:
        what, hint = _MEANING[sqlite3.SQLITE_CANTOPEN]
        raise StorageError(f"{what}: {error.strerror}", where=str(path), hint=hint) from error
    writing = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0)
    reading = create_engine(
        url, poolclass=QueuePool, pool_size=_READERS, max_overflow=_MOST_READERS - _READERS
    )
    event.listen(writing, "connect", _set_up_writer)
    event.listen(writing, "begin", _begin_immediate)
    event.listen(reading, "connect", _set_up_reader)
    event.listen(reading, "begin", _begin)
    return writing, reading


def where(url: URL) -> str:
    """The file."""
    return url.database or str(url)


def meaning_of(error: BaseException, where: str) -> NodeError | None:
    """What an error of the driver means for the operator; None where it is about the statement."""
    if isinstance(error, PoolTimeoutError):
        return UnavailableError(
            "the master reads more at once than it has connections", where=where, hint="try again later"
        )
    if not isinstance(error, DBAPIError):
        return None
    code = getattr(error.orig, "sqlite_errorcode", None)
    found = None if code is None else _MEANING.get(code & 0xFF)
    return StorageError(found[0], where=where, hint=found[1]) if found else None


def should_run_again(_error: BaseException) -> bool:
    """Never: there is one writer."""
    return False


def begin_migration(_connection: Connection) -> None:
    """Nothing to wait for: `BEGIN IMMEDIATE` has done it."""


def announce(_run_many: object, _origin: str, _topics: Mapping[str, int]) -> None:
    """There is nobody else to tell: one master has the file to itself."""


def listen(_url: URL, _origin: str, _heard: Callable[[str], None]) -> None:
    """There is nobody else to hear."""


def ids_ahead(_table: str) -> None:
    """An inserted row says its id at no cost."""


def pipeline(_driver_connection: Any) -> nullcontext[None]:
    """There is nothing to wait for: SQLite runs in this process."""
    return nullcontext()


def is_aborted(driver_connection: Any) -> bool:
    """On a full disk SQLite has ended the transaction by itself."""
    return not driver_connection.in_transaction


def set_autocommit(_driver_connection: Any) -> None:
    """Our connections begin transactions only where they are told to."""


def _set_up_writer(connection: Any, _record: object) -> None:
    # With FULL a commit that was answered survives a power cut.
    _set_up(connection, "journal_mode = WAL", "synchronous = FULL")


def _set_up_reader(connection: Any, _record: object) -> None:
    _set_up(connection, "query_only = ON")


def _set_up(connection: Any, *more: str) -> None:
    connection.isolation_level = None  # or the driver would begin transactions by itself, and late
    try:
        for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "foreign_keys = ON", *more):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()  # the pool does not know it yet, and would leave it open
        raise


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
