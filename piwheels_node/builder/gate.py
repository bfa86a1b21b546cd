# SPDX-License-Identifier: BSD-3-Clause
"""The gate that builds pass: while it is closed they stand still, and their clocks with them.

`service` closes it where a person or the machine's own state says so; `Sandbox.run` looks at it, stops
every process of its sandbox while it is closed, and counts neither the wall clock nor the silence.
"""

from __future__ import annotations

import threading


class Gate:
    """Open at first. Any thread may close it, open it, look at it or wait for it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._why: str | None = None

    @property
    def closed(self) -> bool:
        """True while builds must stand still."""
        return self._why is not None

    @property
    def why(self) -> str | None:
        """What it was closed for, as a sentence; None while it is open."""
        return self._why

    def close(self, why: str) -> None:
        """Let nothing pass; on a closed gate only the reason changes."""
        with self._condition:
            self._why = why

    def open(self) -> None:
        """Let everything pass; whoever waits goes on at once."""
        with self._condition:
            self._why = None
            self._condition.notify_all()

    def wait_open(self, timeout: float | None = None) -> bool:
        """Wait until it is open, `timeout` seconds at most; True where it is."""
        with self._condition:
            return self._condition.wait_for(lambda: self._why is None, timeout)
