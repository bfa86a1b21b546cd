# SPDX-License-Identifier: BSD-3-Clause
"""Being asked to stop, by a build that is given up or by the builder that ends: one question for both."""

from __future__ import annotations

import threading
import time

from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_LOOK_S = 0.05


class Halt:
    """Set where one of several events is."""

    def __init__(self, *events: threading.Event | None) -> None:
        self._events = [event for event in events if event]

    def is_set(self) -> bool:
        """True where we are to stop."""
        return any(event.is_set() for event in self._events)

    def check(self) -> None:
        """Raise BuildError (builder-failed) where we are to stop."""
        if self.is_set():
            raise BuildError(FailureReason.BUILDER_FAILED, "the builder was asked to stop")

    def wait(self, seconds: float) -> None:
        """Wait, but not when we are to stop: then raise BuildError."""
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
            self.check()
