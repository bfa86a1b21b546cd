# SPDX-License-Identifier: BSD-3-Clause
"""Moves a master from SQLite to PostgreSQL: every row, looked at again, or none at all.

    the data directory is held, so no master runs -> the target is empty
    one transaction:   tables made -> rows copied (COPY), table by table in the order of foreign keys
                       -> numbers go on where they ended -> both read again in the order of keys, compared
    commit             until then the target stays as empty as it was, whatever happens

The copy converts SQLite's values as they are, and names a row that does not fit (`fitting`); the comparison
reads both sides through the types of the models, so neither vouches for itself. The SQLite file is only read.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Select,
    String,
    Table,
    create_engine,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from piwheels_node.core.errors import NodeError, StorageError, UnavailableError, UsageError
from piwheels_node.master.database import migrations, postgres
from piwheels_node.master.database.backend import backend_of
from piwheels_node.master.database.fitting import row_converter
from piwheels_node.master.database.migrations import upgrade
from piwheels_node.master.database.models import Model
from piwheels_node.master.running import directory

CHUNK_ROWS = 20_000
"""Rows of one COPY: bounds what PostgreSQL remembers to check foreign keys with."""

_VERSIONS = "alembic_version"
_LONGEST_ROW = 500
Progress = Callable[[str, str, int, int], None]
"""Called with what is done (`copy` or `compare`), the table, and how many of how many rows of all."""


@dataclass(frozen=True)
class Moved:
    """What was copied and found equal: rows by table."""

    rows: dict[str, int]
    where: str


def transfer(data: Path, url: str, progress: Progress = lambda *_: None) -> Moved:
    """Copy the stopped master in `data` to the empty PostgreSQL database at `url`.

    Raises UsageError for another kind of database, UnavailableError where it cannot be reached, NodeError
    where a master runs, and StorageError where a row does not fit, or the target is not empty.
    """
    parsed, _ = backend_of(url)
    if parsed.get_backend_name() == "sqlite":
        raise UsageError("a master moves to PostgreSQL only", hint="postgresql://USER@HOST/NAME")
    path = data.absolute() / directory.DATABASE
    if not path.exists():
        raise NodeError("there is no master's database here", where=str(path), hint="name its --data")
    with directory.hold(data, shared=False), contextlib.closing(_open_source(path)) as source:
        _check_source(source, path)
        target, unused = postgres.make_engines(parsed)
        unused.dispose()
        where = postgres.where(parsed)
        reader = create_engine("sqlite://", creator=lambda: _open_source(path))
        try:
            return _Transfer(source, reader, target, where, progress).run()
        except SQLAlchemyError as error:
            raise _meaning_of(error, where) from error
        finally:
            reader.dispose()
            target.dispose()


class _Transfer:
    """One transfer between open databases."""

    def __init__(
        self, source: sqlite3.Connection, reader: Engine, target: Engine, where: str, progress: Progress
    ) -> None:
        self._source = source
        self._reader = reader
        self._target = target
        self._where = where
        self._progress = progress
        self._tables = Model.metadata.sorted_tables
        self._rows = {
            table.name: source.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0]  # noqa: S608 - our own names
            for table in self._tables
        }
        self._total = sum(self._rows.values())

    def run(self) -> Moved:
        """Everything, in one transaction."""
        with self._target.connect() as connection, connection.begin():
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            postgres.begin_migration(connection)
            _check_target(connection, self._where)
            upgrade.to_head(connection, self._where)
            done = 0
            for table in self._tables:
                done = self._copy(connection, table, done)
            for table in self._tables:
                _set_sequence(connection, table)
            done = 0
            with self._reader.connect() as mine:
                for table in self._tables:
                    done = self._compare(mine, connection, table, done)
            connection.execute(text("ANALYZE"))
        return Moved(self._rows, self._where)

    def _copy(self, connection: Connection, table: Table, done: int) -> int:
        columns = list(table.columns)
        names = ", ".join(f'"{column.name}"' for column in columns)
        late = [at for at, column in enumerate(columns) if _is_of_own_table(column, table)]
        postponed = []
        driver: Any = connection.connection.driver_connection
        convert = row_converter(table)
        rows = self._source.execute(f'SELECT {names} FROM "{table.name}" ORDER BY {_keys(table)}')  # noqa: S608 - our own names
        while chunk := rows.fetchmany(CHUNK_ROWS):
            copying = driver.cursor().copy(f'COPY "{table.name}" ({names}) FROM STDIN')
            with _driver_errors(self._where, table), copying as copy:
                for row in chunk:
                    sent = convert(row)
                    if any(sent[at] is not None for at in late):
                        postponed.append({column.name: sent[at] for at, column in enumerate(columns)})
                        for at in late:
                            sent[at] = None
                    copy.write_row(sent)
            done += len(chunk)
            self._progress("copy", table.name, done, self._total)
        if postponed:
            self._fill_in(driver, table, [columns[at] for at in late], postponed)
        return done

    def _fill_in(
        self, driver: Any, table: Table, late: list[Column[Any]], rows: list[dict[str, Any]]
    ) -> None:
        """Set what names another row of the same table, now that all are there."""
        sets = ", ".join(f'"{column.name}" = %({column.name})s' for column in late)
        wheres = " AND ".join(f'"{column.name}" = %({column.name})s' for column in table.primary_key.columns)
        with _driver_errors(self._where, table), driver.cursor() as cursor:
            cursor.executemany(f'UPDATE "{table.name}" SET {sets} WHERE {wheres}', rows)  # noqa: S608 - our own names

    def _compare(self, mine: Connection, theirs: Connection, table: Table, done: int) -> int:
        with _reading(mine, table) as original, _reading(theirs, table) as copy:
            for number, (one, other) in enumerate(itertools.zip_longest(original, copy), start=1):
                if one != other:
                    raise StorageError(
                        "a row is not the same after it was copied: nothing is kept in the target",
                        where=f"{table.name}: {one or other}"[:_LONGEST_ROW],
                        hint="this is a fault of piwheels-node: please report it",
                    )
                if number % CHUNK_ROWS == 0:
                    self._progress("compare", table.name, done + number, self._total)
        done += self._rows[table.name]
        self._progress("compare", table.name, done, self._total)
        return done


def _open_source(path: Path) -> sqlite3.Connection:
    """For reading only; text that is not UTF-8 comes as surrogates, to be named later."""
    quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, check_same_thread=False)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return connection


def _check_source(source: sqlite3.Connection, path: Path) -> None:
    where = str(path)
    try:
        names = {name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        names = {name for name in names if not name.startswith("sqlite_")}
        revision = (
            source.execute("SELECT version_num FROM alembic_version").fetchone()
            if _VERSIONS in names
            else None
        )
        damage = source.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"the database cannot be read: {error}", where=where, hint="bring back the newest backup"
        ) from error
    if damage != "ok":
        raise StorageError("the database is damaged", where=where, hint=str(damage))
    if revision is None or revision[0] != migrations.HEAD:
        raise StorageError(
            "the tables are not those of this version of piwheels-node",
            where=where,
            hint="start the master once, which brings them up to date, and stop it",
        )
    unknown = names - set(Model.metadata.tables) - {_VERSIONS}
    if unknown:
        raise StorageError(
            f"there are tables that are not the master's: {', '.join(sorted(unknown))}",
            where=where,
            hint="move them elsewhere: they would be left behind",
        )


def _check_target(connection: Connection, where: str) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise StorageError(
            f"the target's encoding is {encoding}",
            where=where,
            hint="createdb --encoding UTF8 --template template0",
        )
    tables = set(inspect(connection).get_table_names())
    foreign = tables - set(Model.metadata.tables) - {_VERSIONS}
    filled = [
        table.name
        for table in Model.metadata.sorted_tables
        if table.name in tables and connection.execute(select(text("1")).select_from(table).limit(1)).first()
    ]
    if foreign or filled:
        raise StorageError(
            f"the target is not empty: {', '.join(sorted(foreign) or filled)}",
            where=where,
            hint="make an empty database for it: createdb NAME",
        )


def _is_of_own_table(column: Column[Any], table: Table) -> bool:
    """True for a foreign key that may name a row that comes later."""
    return any(key.column.table is table for key in column.foreign_keys)


def _keys(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.primary_key.columns)


@contextlib.contextmanager
def _reading(connection: Connection, table: Table) -> Iterator[Iterator[tuple[Any, ...]]]:
    """All rows in the order of their keys; texts by their bytes, as SQLite orders them."""
    keys = [
        column.collate("C")
        if isinstance(column.type, String) and connection.dialect.name == "postgresql"
        else column
        for column in table.primary_key.columns
    ]
    question: Select[Any] = select(*table.columns).order_by(*keys)
    options = {"stream_results": True, "yield_per": 2000}
    with contextlib.closing(connection.execute(question, execution_options=options)) as rows:
        yield (tuple(row) for row in rows)


def _set_sequence(connection: Connection, table: Table) -> None:
    """Let the next row get the next number."""
    column = next(iter(table.primary_key.columns))
    sequence = connection.execute(
        text("SELECT pg_get_serial_sequence(:table, :column)"),
        {"table": f'"{table.name}"', "column": column.name},
    ).scalar()
    highest = connection.execute(select(func.max(column))).scalar() if sequence else None
    if highest is not None:
        connection.execute(
            text("SELECT setval(CAST(:sequence AS regclass), :highest)"),
            {"sequence": sequence, "highest": highest},
        )


@contextlib.contextmanager
def _driver_errors(where: str, table: Table) -> Iterator[None]:
    """Errors of psycopg itself, as those that SQLAlchemy wraps."""
    import psycopg  # noqa: PLC0415 - most masters never need it

    try:
        yield
    except psycopg.Error as error:
        wrapped = DBAPIError(f"COPY {table.name}", None, error, connection_invalidated=error.sqlstate is None)
        raise _meaning_of(wrapped, where, table.name) from error


def _meaning_of(error: SQLAlchemyError, where: str, table: str | None = None) -> NodeError:
    meaning = postgres.meaning_of(error, where)
    if isinstance(meaning, UnavailableError):
        return UnavailableError(
            meaning.what, where=where, hint="nothing was copied: check the URL, and try again"
        )
    if meaning is not None:
        return meaning
    said = str(getattr(error, "orig", error)).strip()
    return StorageError(
        f"PostgreSQL refuses {f'a row of {table}' if table else 'the copy'}: {said}"[:500],
        where=where,
        hint="nothing was copied",
    )
