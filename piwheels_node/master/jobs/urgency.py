# SPDX-License-Identifier: BSD-3-Clause
"""How soon a release is built that nobody has asked for: the numbers between `Priority.BACKLOG` and `MISSED`.

    liking    how much a project is wanted         faded    what is left of what was asked for long ago
    urgency   how soon the job of a release is to be done

Pure functions. This module does no I/O.
"""

from __future__ import annotations

import math
from datetime import datetime

from piwheels_node.core.jobs import Priority

_NEW_S = 14 * 86400.0
"""PyPI takes no more files for a release that is older (since July 2026)."""

_MONTH_S = 30 * 86400.0


_HALF_LIFE_S = _MONTH_S
"""Half of what was asked for a month ago is forgotten."""


def liking(popularity: int | None, asks: float) -> float:
    """How much a project is wanted, from 0 to 50: by the world or by who uses our index, whichever is more.

    `popularity` is its place in a list of the most wanted, from 1: each ten times further back is 10 less.
    `asks` is how often our index was asked for it: each ten times as often is 10 more.
    """
    listed = 0.0 if popularity is None else 50 - 10 * math.log10(max(popularity, 1))
    return min(50.0, max(0.0, listed, 10 * math.log10(1 + asks)))


def faded(asks: float, asks_at: datetime | None, now: datetime) -> float:
    """What is left now of asks that were counted at `asks_at`."""
    age_s = 0.0 if asks_at is None else max(0.0, (now - asks_at).total_seconds())
    return asks * math.exp2(-age_s / _HALF_LIFE_S)


def urgency(
    uploaded_at: datetime | None, now: datetime, *, liked: float, is_newest: bool, is_pre: bool
) -> int:
    """How soon a release is built by itself, as a number for `Priority`: new ones first, popular ones first.

    `liked` is what `liking` says of its project. A new release has RELEASED and up to 50 for that; the
    backlog has up to 49 for its age and up to 50 for that, of which versions that are not the newest have
    half.
    """
    age_s = math.inf if uploaded_at is None else max(0.0, (now - uploaded_at).total_seconds())
    if is_pre:
        liked /= 2
    if age_s <= _NEW_S:
        return Priority.RELEASED + int(liked)
    young = max(0.0, 49 - age_s / _MONTH_S / 2)
    return Priority.BACKLOG + int((liked if is_newest else liked / 2) + (young / 2 if is_pre else young))
