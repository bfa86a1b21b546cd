# SPDX-License-Identifier: BSD-3-Clause
"""The newest rows that have one value, by an index on it and the number: however few or old they are.

`WHERE builder_id = 7 ORDER BY id DESC LIMIT 50` PostgreSQL answers from the primary key wherever it takes
that builder for a busy one, and walks millions of rows where it has not built for a while. A range of pairs
is in the order of one index only, and begins where a page goes on. SQLite takes that index by itself, and
begins there for plain conditions only.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

_MOST = 2**63 - 1


def newest_with(  # noqa: PLR0917 - a column and its value, a number and its bound
    session: Session,
    query: Select[Any],
    column: InstrumentedAttribute[Any],
    value: Any,
    number: InstrumentedAttribute[int],
    before: int | None = None,
) -> Select[Any]:
    """The query, of rows with this value only, newest first; with `before` of smaller numbers.

    There must be an index on `column` and `number`.
    """
    below = _MOST if before is None else before - 1
    if session.get_bind().dialect.name == "sqlite":
        return query.where(column == value, number <= below).order_by(number.desc())
    pair = tuple_(column, number)
    least = tuple_(literal(value, column.type), literal(0, number.type))
    most = tuple_(literal(value, column.type), literal(below, number.type))
    return query.where(pair >= least, pair <= most).order_by(column.desc(), number.desc())
