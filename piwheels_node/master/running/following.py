# SPDX-License-Identifier: BSD-3-Clause
"""The thread of a master that follows PyPI (`pypi.follow`).

It raises requests for what pip missed here, too, and keeps how often the index was asked for each project.

It goes on whatever fails, as the loops of `upkeep` do: what is wrong is said once, and tried again. All that
it has done is in the database, so it may end at any moment; `stop` waits a few seconds for what it is at.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from piwheels_node.core.errors import NodeError, UnavailableError
from piwheels_node.core.settings import Settings
from piwheels_node.master.database.engine import Database
from piwheels_node.master.index.asks import Asks
from piwheels_node.master.index.misses import Misses
from piwheels_node.master.jobs.planning import Farm
from piwheels_node.master.pypi import demand
from piwheels_node.master.pypi.follow import Follower, make_feed, scope_of
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.missed import Requests

_STOP_S = 3.0
_AGAIN_S = 2.0
_LOOK_S = 1.0
_ASKS_S = 60.0

_log = logging.getLogger(__name__)


class Following:
    """Follows from `start` to `stop`; nothing where `pypi.follow` is off. Raises SettingsError."""

    def __init__(self, database: Database, settings: Settings, now: Callable[[], datetime]) -> None:
        mine = settings.pypi
        self._database = database
        self._now = now
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._said: str | None = None
        self._scope = scope_of(mine)
        self._pypi = PyPI(mine.index_url, timeout_s=mine.timeout_s, retry_delay_s=0)
        feed = make_feed(mine, self._pypi)
        self.misses = Misses() if feed is not None and mine.misses_per_hour else None
        self.asks = Asks() if feed is not None else None
        self._asks_at = time.monotonic()
        self._requests = Requests(
            database, self._pypi, mine.misses_per_hour, knows_all=mine.follow in {"list", "changelog"}
        )
        self._follower = None if feed is None else Follower(database, self._pypi, feed, mine, now, self._stop)

    def start(self) -> None:
        """Begin."""
        if self._follower is not None:
            self._thread = threading.Thread(target=self._run, name="pypi-follow", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End soon. The thread may hang on a PyPI that does; then it is left behind, and can do no harm."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        self._pypi.close()

    def _run(self) -> None:
        follower = self._follower
        wait_s = 0.0
        while follower is not None and not self._stop.wait(wait_s):
            try:
                wait_s = min(follower.turn(), _LOOK_S)
                self._look_at_misses()
                self._look_at_asks()
            except Exception as error:  # noqa: BLE001 - the boundary of a thread: a later turn may succeed
                if self._stop.is_set():
                    return
                self._complain(error)
                wait_s = _AGAIN_S
            else:
                self._said = None

    def _look_at_misses(self) -> None:
        missed = self.misses.take() if self.misses is not None else []
        if missed:
            with self._database.read() as session:
                farm = Farm.of(session, self._scope, self._now())
            self._requests.raise_for(missed, farm)

    def _look_at_asks(self) -> None:
        if self.asks is not None and time.monotonic() - self._asks_at > _ASKS_S:
            self._asks_at = time.monotonic()
            demand.add(self._database, self.asks.take(), self._now())

    def _complain(self, error: Exception) -> None:
        # As in `upkeep`: what an operator is meant to read needs no traceback, and is said once.
        what = type(error).__name__ if isinstance(error, UnavailableError) else f"{error!r}: {error}"
        if what != self._said:
            trace = None if isinstance(error, NodeError) else error
            _log.error("following PyPI failed, and is tried again and again: %s", error, exc_info=trace)
        self._said = what
