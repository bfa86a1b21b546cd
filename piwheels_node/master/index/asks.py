# SPDX-License-Identifier: BSD-3-Clause
"""How often the index was asked for each project, counted until somebody looks.

    note    called by the index with each page and each wheel that is asked for: one dictionary, nothing else
    take    the counts since the last call

What is not here counts too: that is what somebody wants. Names that no project has are dropped by who stores
the counts (`pypi.demand`). This module does no I/O.
"""

from __future__ import annotations

MOST = 20_000
"""Projects that are counted at a time; others are not, until somebody has looked."""


class Asks:
    """One per process. `note` is called by the event loop, `take` by a thread."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def note(self, name: str) -> None:
        """Somebody wants this project."""
        counts = self._counts
        if name in counts or len(counts) < MOST:
            counts[name] = counts.get(name, 0) + 1

    def take(self) -> dict[str, int]:
        """How often each was asked for since the last call."""
        taken, self._counts = self._counts, {}
        return taken
