# SPDX-License-Identifier: BSD-3-Clause
"""Everything that is true of PostgreSQL only: how connections are made, and what its errors mean.

Several masters share one database. Each writes on one connection (`READ COMMITTED`; the queue takes rows
with `FOR UPDATE SKIP LOCKED`) and reads on a few (`REPEATABLE READ`, read-only: a session sees one state).
They hear of each other by LISTEN and NOTIFY (`listener`). psycopg 3 is imported only where it is used.
This module imports nothing of ours but `core.errors` and `statements`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, func, literal_column, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from piwheels_node.core.errors import (
    ContendedError,
    NodeError,
    SettingsError,
    StorageError,
    UnavailableError,
)
from piwheels_node.master.database.statements import Statement

CHANNEL = "piwheels_node"
"""What masters NOTIFY and LISTEN on."""

CONNECT_TIMEOUT_S = 5
_READERS = 4
_MOST_READERS = 16
"""So that several masters fit into the 100 connections that PostgreSQL allows by default."""

_WAIT_FOR_READER_S = 10
_IDS_AHEAD = 64
_MIGRATION_LOCK = 0x70697768  # "piwh"
_CONNECTION_SETTINGS = {
    "application_name": "piwheels-node",
    "connect_timeout": str(CONNECT_TIMEOUT_S),
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_SESSION = {
    "timezone": "UTC",
    "lock_timeout": "45s",
    "idle_in_transaction_session_timeout": "30s",  # a master that stands still must not hold up the others
}
_READING = {
    "default_transaction_isolation": "repeatable\\ read",
    "default_transaction_read_only": "on",
}

_TRY_AGAIN = frozenset({"23505", "40001", "40P01"})
"""Unique violation (another master has just made the same row), serialization failure, deadlock."""

_STORAGE = {
    "53100": ("the disk of the database is full", "free some disk where PostgreSQL keeps its data"),
    "58030": ("PostgreSQL cannot read or write its disk", "look at its log, and at `dmesg`"),
    "XX001": ("the database is damaged", "check the disk, and bring back the newest backup"),
    "XX002": ("an index of the database is damaged", "check the disk, then REINDEX the database"),
    "25006": ("the database cannot be written", "name the primary server, not a standby"),
    "42501": ("this account may not use the tables", "make the account the owner of the database"),
}
_LOST = frozenset({"57P01", "57P02", "57P05", "25P03"})
"""With these PostgreSQL closes the connection, which the driver does not always see at once."""

_CONTENDED = frozenset({"40001", "40P01", "55P03"})
"""With these the database is there, but others have what is needed."""

_UNAVAILABLE = {
    "40001": "other masters keep changing the same rows",
    "40P01": "other masters keep locking the same rows",
    "53200": "PostgreSQL has no memory left",
    "53300": "PostgreSQL has no connection left",
    "53400": "PostgreSQL has reached a limit that it was given",
    "55P03": "another transaction holds a row for too long",
    "57014": "PostgreSQL was told to cancel the statement",
    "57P01": "PostgreSQL is shutting down",
    "57P02": "PostgreSQL has crashed",
    "57P03": "PostgreSQL is starting",
    "57P05": "PostgreSQL has closed an idle connection",
    "25P03": "PostgreSQL has closed a connection that stood still",
}


_NOTIFY = Statement(text(f"SELECT pg_notify('{CHANNEL}', :said)"))


def make_engines(url: URL) -> tuple[Engine, Engine]:
    """The engine for writing (one connection) and the one for reading; SettingsError without psycopg."""
    driver(url)
    url = normal(url)
    writing = create_engine(
        url, connect_args=connect_arguments(url, _SESSION), poolclass=QueuePool, pool_size=1, max_overflow=1
    )
    reading = create_engine(
        url,
        connect_args=connect_arguments(url, _SESSION | _READING),
        poolclass=QueuePool,
        pool_size=_READERS,
        max_overflow=_MOST_READERS - _READERS,
        pool_timeout=_WAIT_FOR_READER_S,
        pool_pre_ping=True,  # else each of the pool would fail once after a restart of PostgreSQL
    )
    for engine in (writing, reading):
        _see_lost_connections(engine)
    return writing, reading


def _see_lost_connections(engine: Engine) -> None:
    dialect: Any = engine.dialect
    known = dialect.is_disconnect

    def is_disconnect(error: Any, connection: Any, cursor: Any) -> bool:
        return getattr(error, "sqlstate", None) in _LOST or known(error, connection, cursor)

    dialect.is_disconnect = is_disconnect


def driver(url: URL) -> Any:
    """The module psycopg; raises SettingsError where it is not installed, or another driver is asked for."""
    if url.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise SettingsError(
            "PostgreSQL is used by psycopg 3 only", where=where(url), hint="postgresql://USER@HOST/NAME"
        )
    try:
        import psycopg  # noqa: PLC0415 - most masters never need it
    except ImportError as error:
        raise SettingsError(
            "PostgreSQL needs psycopg 3, which is not installed",
            where=where(url),
            hint="sudo apt install python3-psycopg",
        ) from error
    return psycopg


def normal(url: URL) -> URL:
    """The URL with SQLAlchemy's name of the driver."""
    return url.set(drivername="postgresql+psycopg")


def connect_arguments(url: URL, settings: Mapping[str, str]) -> dict[str, str]:
    """What a connection is made with besides the URL, which has the last word."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    theirs = url.query.get("options", "")
    if not isinstance(theirs, str):
        theirs = " ".join(theirs)
    mine = {name: value for name, value in _CONNECTION_SETTINGS.items() if name not in url.query}
    return mine | {"options": f"{options} {theirs}".strip()}


def where(url: URL) -> str:
    """Host and name of the database; what else a URL has may be secret."""
    host = url.host or url.query.get("host") or "localhost"
    host = host if isinstance(host, str) else ",".join(host)
    return f"postgresql://{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def meaning_of(error: BaseException, where: str) -> NodeError | None:
    """What an error of the driver means for the operator; None where it is about the statement."""
    if isinstance(error, PoolTimeoutError):
        return UnavailableError(
            "the master reads more at once than it has connections", where=where, hint="try again later"
        )
    if not isinstance(error, DBAPIError):
        return None
    code = getattr(error.orig, "sqlstate", None)
    if code in _STORAGE:
        what, hint = _STORAGE[code]
        return StorageError(what, where=where, hint=hint)
    if code in _UNAVAILABLE:
        return away(where, _UNAVAILABLE[code], ContendedError if code in _CONTENDED else UnavailableError)
    if error.connection_invalidated or (code or "").startswith("08") or _is_connecting(error):
        said = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        return away(where, f"the database cannot be reached: {said[0][:300]}")
    return None


def away(where: str, what: str, kind: type[UnavailableError] = UnavailableError) -> UnavailableError:
    """The database cannot be used just now."""
    return kind(what, where=where, hint="it is tried again; the log of PostgreSQL may say more")


def should_run_again(error: BaseException) -> bool:
    """True where another transaction was in the way: looked at again, things are as it left them."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _TRY_AGAIN


def begin_migration(connection: Connection) -> None:
    """Wait until no other process migrates this database, for the rest of the transaction."""
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})


def announce(
    run_many: Callable[[Statement, Sequence[dict[str, Any]]], None], origin: str, topics: Mapping[str, int]
) -> None:
    """Tell other processes, once the transaction is committed: `<origin> <how often> <topic>`."""
    run_many(_NOTIFY, [{"said": f"{origin} {often} {topic}"} for topic, often in topics.items()])


def listen(url: URL, origin: str, heard: Callable[[str], None]) -> Any:
    """Call `heard` from now on with what others than `origin` announce."""
    from piwheels_node.master.database.listener import Listener  # noqa: PLC0415 - it needs psycopg

    return Listener(url, origin, heard)


@cache
def ids_ahead(table: str) -> Statement:
    """The next ids of a table's sequence: those that are not used leave a gap, and nobody else gets them."""
    sequence = func.pg_get_serial_sequence(table, literal_column("'id'"))
    return Statement(
        select(func.nextval(sequence)).select_from(func.generate_series(1, literal_column(str(_IDS_AHEAD))))
    )


def pipeline(driver_connection: Any) -> AbstractContextManager[Any]:
    """The pipeline mode of libpq, from PostgreSQL 14 on."""
    from psycopg import Pipeline  # noqa: PLC0415 - most masters never need it

    found: AbstractContextManager[Any] = (
        driver_connection.pipeline() if Pipeline.is_supported() else nullcontext()
    )
    return found


def is_aborted(driver_connection: Any) -> bool:
    """After an error nothing goes but ROLLBACK, which a COMMIT then is; it raises no error."""
    from psycopg.pq import TransactionStatus  # noqa: PLC0415 - most masters never need it

    return bool(driver_connection.info.transaction_status == TransactionStatus.INERROR)


def set_autocommit(driver_connection: Any) -> None:
    """Make a connection begin no transactions."""
    driver_connection.autocommit = True


def _is_connecting(error: DBAPIError) -> bool:
    """True where there was no connection to begin with: libpq gives no code then."""
    return error.statement is None and type(error.orig).__name__ in {
        "OperationalError",
        "ConnectionTimeout",
        "InterfaceError",
    }
