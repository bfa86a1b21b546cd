# SPDX-License-Identifier: BSD-3-Clause
"""What is asked of a master, as frozen values; and how the asking goes.

    Link               how the connection stands: whether what is shown is true now
    Farm, farm()       what the first page shows

A page asks by a function from a `client.port.Watched` (a client, or a farm in memory) to its own frozen
value. It is run off the screen's thread, and nothing here knows a screen.
This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from piwheels_node.client.port import Watched
from piwheels_node.core.messages import BuilderRow, FailureReport, FarmView

FAILURES_EVERY_S = 20.0
"""How often the failures of whole days are asked for: they change slowly, and are many rows to count."""

REST_EVERY_S = 60.0
"""How often builders are asked for that are not seen."""

_STEP = 8
"""So many more rows at a time: what is asked changes seldom while somebody moves about."""


class LinkState(Enum):
    """How the connection to the master stands."""

    WAITING = "waiting"
    "Nothing was heard so far."

    LIVE = "live"
    "The last answer came, and what is shown is true."

    SLOW = "slow"
    "An answer is overdue."

    GONE = "gone"
    "The last request failed."


@dataclass(frozen=True)
class Link:
    """How the connection stands; `heard_at` is when what is shown was true, `why` what went wrong."""

    state: LinkState = LinkState.WAITING
    heard_at: datetime | None = None
    why: str = ""
    again_s: float = 0.0

    @property
    def is_stale(self) -> bool:
        """True where what is shown may not be so any more."""
        return self.state in {LinkState.SLOW, LinkState.GONE}


@dataclass(frozen=True)
class Farm:
    """What the first page shows, by the master's clock.

    The first `fresh` of the builders are as they are now, the others as they were at `rest_at`; the failures
    were counted at `failures_at`.
    """

    view: FarmView
    builders: tuple[BuilderRow, ...]
    fresh: int
    rest_at: datetime
    failures: FailureReport
    failures_at: datetime

    def is_fresh(self, needed: int | None) -> bool:
        """True where so many builders, from the first on, are as they are now; None: all of them."""
        most = len(self.builders)
        return self.fresh >= (most if needed is None else min(needed, most))


def farm(master: Watched, before: Farm | None = None, needed: int | None = None) -> Farm:
    """Ask how the farm stands, after it stood as `before`.

    `needed` is how many builders, from the first on, decide what is seen; None is all. Since a master tells
    those first that stand worst, the others may stay as they were for a while, as long as the same ones are
    the first.
    """
    first = None if before is None or needed is None else -(-needed // _STEP) * _STEP
    view = master.farm(rows=True, first=first)
    builders, fresh, rest_at = tuple(view.rows), len(view.rows), view.at
    if before and fresh == first:
        rest_at = before.rest_at
        is_due = view.at - rest_at >= timedelta(seconds=REST_EVERY_S)
        if is_due or _names(builders) != _names(before.builders[:first]):
            return farm(master, before)
        builders += before.builders[first:]
    if before and view.at - before.failures_at < timedelta(seconds=FAILURES_EVERY_S):
        failures, failures_at = before.failures, before.failures_at
    else:
        today = view.at.date()
        failures, failures_at = master.failures(today - timedelta(days=1), today), view.at
    return Farm(view, builders, fresh, rest_at, failures, failures_at)


def _names(rows: Sequence[BuilderRow]) -> set[str]:
    return {row.name for row in rows}
