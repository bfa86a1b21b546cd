# SPDX-License-Identifier: BSD-3-Clause
"""Times as people write them on the command line: `90s`, `1h`, `7d`; `2026-11-22T14:30`, `3h` (ago).

This module imports nothing of ours but `core.errors`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from piwheels_node.core.errors import UsageError

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def duration_s(text: str) -> float:
    """Seconds of `90s`, `30m`, `1h`, `7d` or `2w`; raises UsageError."""
    found = _DURATION.fullmatch(text.strip().lower())
    if not found:
        raise UsageError(f"'{text}' is not a time", hint="write it like 90s, 30m, 1h or 7d")
    return float(found[1]) * _UNITS_S[found[2]]


def moment(text: str, now: datetime) -> datetime:
    """A time in the past, aware: an ISO date or time (local where it names no zone), or so long ago."""
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except ValueError:
        pass
    try:
        return now - timedelta(seconds=duration_s(text))
    except (UsageError, OverflowError) as error:
        raise UsageError(
            f"'{text}' is not a time", hint="write 2026-11-22, 2026-11-22T14:30, or 3h for three hours ago"
        ) from error


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago, in one unit: `12 s`, `5 min`, `3 h`, `2 d`; `never` for None."""
    if at is None:
        return "never"
    seconds = max(0, int((now - at).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
