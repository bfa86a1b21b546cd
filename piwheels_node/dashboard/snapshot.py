# SPDX-License-Identifier: BSD-3-Clause
"""What is asked of a master, as frozen values; and how the asking goes.

    Link               how the connection stands: whether what is shown is true now
    Farm, farm()       what the first page shows

A page asks by a function from a `client.port.Watched` (a client, or a farm in memory) to its own frozen
value. It is run off the screen's thread, and nothing here knows a screen.
This module must not import Textual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from piwheels_node.client.port import Watched
from piwheels_node.core.messages import BuilderRow, FailureReport, FarmView

FAILURES_EVERY_S = 20.0
"""How often the failures of whole days are asked for: they change slowly, and are many rows to count."""


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
    """What the first page shows; `failures_at` is when the failures were counted."""

    view: FarmView
    builders: tuple[BuilderRow, ...]
    failures: FailureReport
    failures_at: datetime


def farm(master: Watched, before: Farm | None) -> Farm:
    """Ask how the farm stands; `before` is what was known, of which the failures may still do."""
    view = master.farm(rows=True)
    builders = tuple(view.rows)
    if before and view.at - before.failures_at < timedelta(seconds=FAILURES_EVERY_S):
        return Farm(view, builders, before.failures, before.failures_at)
    today = view.at.date()
    return Farm(view, builders, master.failures(today - timedelta(days=1), today), view.at)
