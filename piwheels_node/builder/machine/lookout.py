# SPDX-License-Identifier: BSD-3-Clause
"""Looking at the machine every few seconds, so that the builder stands still when it must.

What is read is in `health`, what follows from it in `conditions`; here are the thread and the memory of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from piwheels_node.builder.machine.conditions import Judgement, judge
from piwheels_node.builder.machine.health import cores
from piwheels_node.core.messages import Health
from piwheels_node.core.settings import BuilderSettings
from piwheels_node.sensors import Sensors

_log = logging.getLogger(__name__)
_IDLE_S = 15.0
_BUSY_S = 2.0
"""While something is built: heat and want of memory come fast then. A look takes a millisecond or so."""


class Lookout:
    """Calls `seen` with each judgement, from its thread, until `stop`."""

    def __init__(
        self,
        sensors: Sensors,
        settings: BuilderSettings,
        *,
        seen: Callable[[Judgement], None],
        busy: Callable[[], bool],
        stop: threading.Event,
    ) -> None:
        self.sensors = sensors
        self.settings = settings
        self.seen = seen
        self.busy = busy
        self.stop = stop
        self.judgement = Judgement()
        self.latest = Health()
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="lookout", daemon=True)

    def start(self) -> None:
        """Look now, and from now on."""
        self.look()
        self._thread.start()

    def wake(self) -> None:
        """There is work from now on, so that looks are due more often; or we are to stop."""
        self._wake.set()

    def look(self) -> Health:
        """Look at the machine, and judge; gives what was seen."""
        with self._guard:
            health = self.latest = self.sensors.health()
            self.judgement = judge(
                health,
                self.settings,
                cores=cores(),
                before=self.judgement.standing,
                now_s=time.monotonic(),
            )
            judgement = self.judgement
        self.seen(judgement)
        return health

    def health(self) -> Health:
        """What the master is told of the machine."""
        return self.sensors.health(paused_itself=self.judgement.idle)

    def _keep_looking(self) -> None:
        while not self.stop.is_set():
            if self._wake.wait(_BUSY_S if self.busy() else _IDLE_S):
                self._wake.clear()
                continue
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the boundary of the thread: the next look may be better
                _log.exception("the machine could not be looked at")
