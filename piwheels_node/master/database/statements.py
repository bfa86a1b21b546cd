# SPDX-License-Identifier: BSD-3-Clause
"""Statements that are run so often that SQLAlchemy's own time counts: compiled once, run by the driver.

    CLAIM = Statement(update(JOBS).where(...).values(...).returning(JOBS.c.id))
    rows = session.fast(CLAIM, {"token": token, "at": now})

They are written in SQLAlchemy's language, so they fit both kinds of database, and its types convert what
goes in and comes out. What is left out is all that makes it comfortable: a row is a tuple, and no object
in a session knows of the change. Measured, for one row by its key: 6 µs where a session takes 110 on SQLite,
60 where it takes 280 on PostgreSQL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Executable, Select, TextClause
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

Values = Mapping[str, Any]
_Convert = Callable[[Any], Any]


class Statement:
    """A statement with named parameters (`bindparam`), which all must be given when it runs.

    `arrays` does the same for many rows at once: each parameter is an array, the words are psycopg's.
    """

    def __init__(self, written: Executable, *, arrays: str | None = None) -> None:
        self.written = written
        self._arrays = arrays
        self.writes = not isinstance(written, Select)
        self._compiled: dict[str, Compiled] = {}

    def on(self, dialect: Dialect) -> Compiled:
        """The statement as one kind of database wants it."""
        found = self._compiled.get(dialect.name)
        if found is None:
            arrays = self._arrays if dialect.name == "postgresql" else None
            found = self._compiled[dialect.name] = Compiled(self.written, dialect, arrays)
        return found


def ask(session: Session, statement: Statement, values: Values) -> list[tuple[Any, ...]]:
    """Rows of a question as a reading session sees them, past the session; raises DBAPIError."""
    connection = session.connection()
    driver: Any = connection.connection.driver_connection
    with contextlib.closing(driver.cursor()) as cursor:
        return statement.on(connection.dialect).run(cursor, values)


class Compiled:
    """A statement in the words of one kind of database."""

    def __init__(self, written: Any, dialect: Dialect, arrays: str | None = None) -> None:
        compiled = written.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self.text = str(compiled)
        self._arrays = arrays
        self._dialect = dialect
        self._errors: type[Exception] = dialect.loaded_dbapi.Error
        self._order: list[str] | None = compiled.positiontup
        processors = {name: _bind_processor(bind.type, dialect) for name, bind in compiled.binds.items()}
        self._constants = {
            name: _stored(processors[name], constant)
            for name, constant in compiled.params.items()
            if compiled.binds[name].required is False
        }
        self._converts = [
            (name, convert)
            for name, convert in processors.items()
            if convert and name in compiled.params and name not in self._constants
        ]
        columns = [] if isinstance(written, TextClause) else list(written.exported_columns)
        self.gives_rows = bool(columns)
        gives = [_result_processor(column.type, dialect) for column in columns]
        self._gives = [(number, convert) for number, convert in enumerate(gives) if convert]

    def arguments(self, values: Values) -> Any:
        """What the driver is given: values by position or by name, as they are stored; None is NULL."""
        taken = {**self._constants, **values}
        for name, convert in self._converts:
            if taken[name] is not None:
                taken[name] = convert(taken[name])
        return taken if self._order is None else [taken[name] for name in self._order]

    def run(self, cursor: Any, values: Values) -> list[tuple[Any, ...]]:
        """Run it and give its rows; raises SQLAlchemy's DBAPIError, as a session would."""
        arguments = self.arguments(values)
        try:
            cursor.execute(self.text, arguments)
            rows: list[tuple[Any, ...]] = cursor.fetchall() if self.gives_rows else []
        except self._errors as error:
            raise wrapped(self._dialect, error, cursor.connection, self.text, arguments) from error
        return [self._converted(row) for row in rows] if self._gives else rows

    def run_many(self, cursor: Any, many: Sequence[Values]) -> None:
        """Run it once for each of `many`; raises DBAPIError."""
        rows = [self.arguments(values) for values in many]
        try:
            if self._arrays is None:
                cursor.executemany(self.text, rows)
            else:
                cursor.execute(self._arrays, {name: [row[name] for row in rows] for name in rows[0]})
        except self._errors as error:
            raise wrapped(self._dialect, error, cursor.connection, self.text, rows) from error

    def _converted(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        made = list(row)
        for number, convert in self._gives:
            if made[number] is not None:
                made[number] = convert(made[number])
        return tuple(made)


def wrapped(
    dialect: Dialect, error: Any, driver_connection: Any, statement: str | None = None, arguments: Any = None
) -> BaseException:
    """An error of the driver as SQLAlchemy's, as a session would raise it."""
    is_gone = dialect.is_disconnect(error, driver_connection, None)
    found: BaseException = DBAPIError.instance(
        statement,
        arguments,
        error,
        dialect.loaded_dbapi.Error,
        connection_invalidated=is_gone,
        dialect=dialect,
    )
    return found


def _stored(convert: _Convert | None, constant: Any) -> Any:
    return constant if convert is None or constant is None else convert(constant)


def _bind_processor(kind: Any, dialect: Dialect) -> _Convert | None:
    found: _Convert | None = kind.dialect_impl(dialect).bind_processor(dialect)
    return found


def _result_processor(kind: Any, dialect: Dialect) -> _Convert | None:
    found: _Convert | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    return found
