# SPDX-License-Identifier: BSD-3-Clause
"""Which of SQLite's values fit into PostgreSQL, and what they are called there.

SQLite enforces neither lengths nor types, and stores what it is given; PostgreSQL refuses what does not fit,
and says only which. So each value is looked at by the type that the model gives its column.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, LargeBinary, String, Table
from sqlalchemy.types import TypeEngine

from piwheels_node.core.errors import StorageError
from piwheels_node.master.database.models import EnumValue, UtcDateTime

_SMALL, _BIG = 2**31, 2**63


def row_converter(table: Table) -> Callable[[tuple[Any, ...]], list[Any]]:
    """From a row of SQLite to one for COPY; raises StorageError, which names the row that does not fit."""
    converters = [(column, _converter(column)) for column in table.columns]

    def convert(row: tuple[Any, ...]) -> list[Any]:
        sent: list[Any] = []
        for (column, one), value in zip(converters, row, strict=True):
            if value is None:
                if not column.nullable:
                    raise _misfit(table, row, column, "is missing")
                sent.append(None)
                continue
            try:
                sent.append(one(value))
            except ValueError as error:
                raise _misfit(table, row, column, str(error)) from error
        return sent

    return convert


def _misfit(table: Table, row: tuple[Any, ...], column: Column[Any], why: str) -> StorageError:
    named = zip(table.columns, row, strict=True)
    key = ", ".join(f"{one.name} {value!r}" for one, value in named if one.primary_key)
    return StorageError(
        f"a row does not fit into PostgreSQL: its {column.name} {why}",
        where=f"table {table.name}, {key}",
        hint="mend or delete the row with sqlite3, and begin again; nothing was copied",
    )


def _converter(column: Column[Any]) -> Callable[[Any], Any]:
    """From what SQLite has to what COPY is given; raises ValueError, whose text says why not."""
    kind = column.type
    if isinstance(kind, EnumValue):
        return functools.partial(_member, kind.kind)
    if isinstance(kind, Integer):
        return functools.partial(_whole, _BIG if isinstance(kind, BigInteger) else _SMALL)
    if isinstance(kind, String):
        return functools.partial(_text, kind.length)
    found = (convert for known, convert in _CONVERTERS.items() if isinstance(kind, known))
    return next(found)


def _member(kind: type[Enum], value: Any) -> str:
    kind(value)  # raises ValueError, which says it
    return str(value)


def _time(value: Any) -> str:
    if datetime.fromisoformat(_text(None, value)).tzinfo is not None:  # raises ValueError too
        raise ValueError("is a time with a zone")
    return f"{value}+00"


def _json(value: Any) -> str:
    json.loads(_text(None, value), parse_constant=_no_constant)  # raises ValueError
    return str(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"has {name} in it, which is no JSON")


def _boolean(value: Any) -> bool:
    if value not in {0, 1}:
        raise ValueError("is neither true nor false")
    return bool(value)


def _whole(bound: int, value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError("is no whole number")
    if not -bound <= value < bound:
        raise ValueError(f"is {value}, and too large")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise ValueError("is no number")
    return float(value)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("is no bytes")
    return value


def _text(longest: int | None, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")
    if longest is not None and len(value) > longest:
        raise ValueError(f"has {len(value)} characters, and {longest} are allowed")
    if "\0" in value:
        raise ValueError("has a NUL character in it, which PostgreSQL cannot store")
    if not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
        raise ValueError("is not UTF-8")
    return value


_CONVERTERS: dict[type[TypeEngine[Any]], Callable[[Any], Any]] = {
    UtcDateTime: _time,
    JSON: _json,
    LargeBinary: _bytes,
    Boolean: _boolean,
    Double: _number,
}
