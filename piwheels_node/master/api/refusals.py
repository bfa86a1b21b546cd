# SPDX-License-Identifier: BSD-3-Clause
"""Requests that are refused: each is counted and told in the log, and a flood of them harms neither.

They are counted in memory, and added to the counters `refused.<what>` every few seconds. Of each such while
the first few are lines of the log, the rest is one line. For one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from concurrent.futures import Future

from sqlalchemy.orm import Session

from piwheels_node.master.database.engine import Database
from piwheels_node.master.jobs import queue

COUNTER = "refused."
EVERY_S = 3.0
_LINES = 20

_log = logging.getLogger(__name__)


class Refusals:
    """What was refused since the counters were last written."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lines = 0
        self._timer: asyncio.TimerHandle | None = None
        self._guard = threading.Lock()

    def note(self, database: Database, what: str, line: str) -> None:
        """Count one, and say so. `what` is one of a few fixed words; `line` says who wanted what."""
        with self._guard:
            self._counts[what] += 1
        self._lines += 1
        if self._lines <= _LINES:
            _log.warning("refused (%s): %s", what, line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.flush, database)

    def flush(self, database: Database) -> Future[None] | None:
        """Write what was counted; where the database is away it is kept for the next time."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lines > _LINES:
            _log.warning("refused: %d more such requests in %.0f s", self._lines - _LINES, EVERY_S)
        self._timer, self._lines = None, 0
        with self._guard:
            counts, self._counts = self._counts, Counter()
        if not counts:
            return None

        def work(session: Session) -> None:
            for what, number in counts.items():
                queue.count(session, f"{COUNTER}{what}", number)

        def written(done: Future[None]) -> None:
            if done.cancelled() or done.exception() is not None:
                with self._guard:
                    self._counts.update(counts)

        future = database.submit(work)
        future.add_done_callback(written)
        return future
