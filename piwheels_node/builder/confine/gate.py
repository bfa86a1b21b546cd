# SPDX-License-Identifier: BSD-3-Clause
"""The gate that builds pass: while it is closed they stand still, and their clocks with them.

`service` closes it where a person or the machine's own state says so; `Sandbox.run` looks at it, stops
every process of its sandbox while it is closed, and counts neither the wall clock nor the silence.
"""

from __future__ import annotations

import threading
import time


class Gate:
    """Open at first. Any thread may close it, open it, look at it or wait for it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._why: str | None = None
        self._closed_at = 0.0
        self._closed_s = 0.0

    @property
    def closed(self) -> bool:
        """True while builds must stand still."""
        return self._why is not None

    @property
    def why(self) -> str | None:
        """What it was closed for, as a sentence; None while it is open."""
        return self._why

    @property
    def closed_s(self) -> float:
        """For how many seconds it has been closed so far, in all; what was measured meanwhile counts less."""
        with self._condition:
            return self._closed_s + (time.monotonic() - self._closed_at if self.closed else 0.0)

    def close(self, why: str) -> None:
        """Let nothing pass; on a closed gate only the reason changes."""
        with self._condition:
            if not self.closed:
                self._closed_at = time.monotonic()
            self._why = why

    def open(self) -> None:
        """Let everything pass; whoever waits goes on at once."""
        with self._condition:
            if self.closed:
                self._closed_s += time.monotonic() - self._closed_at
            self._why = None
            self._condition.notify_all()

    def wait_open(self, timeout: float | None = None) -> bool:
        """Wait until it is open, `timeout` seconds at most; True where it is."""
        with self._condition:
            return self._condition.wait_for(lambda: self._why is None, timeout)
