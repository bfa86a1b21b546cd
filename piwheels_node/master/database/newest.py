# SPDX-License-Identifier: BSD-3-Clause
"""The newest rows that have one value, by an index on it and the number: however few or old they are.

`WHERE builder_id = 7 ORDER BY id DESC LIMIT 50` is answered from the primary key wherever the planner takes
that builder for a busy one, and walks millions of rows where it has not built for a while. A range of pairs
is in the order of one index only, and begins where a page goes on.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute

_MOST = 2**63 - 1


def newest_with(
    query: Select[Any],
    column: InstrumentedAttribute[Any],
    value: Any,
    number: InstrumentedAttribute[int],
    before: int | None = None,
) -> Select[Any]:
    """The query, of rows with this value only, newest first; with `before` of smaller numbers.

    There must be an index on `column` and `number`.
    """
    pair = tuple_(column, number)
    least = tuple_(literal(value, column.type), literal(0, number.type))
    most = tuple_(literal(value, column.type), literal(_MOST if before is None else before - 1, number.type))
    return query.where(pair >= least, pair <= most).order_by(column.desc(), number.desc())
