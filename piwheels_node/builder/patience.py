# SPDX-License-Identifier: BSD-3-Clause
"""How long to wait before a master that is away is asked again."""

from __future__ import annotations

import random
import threading

_DELAYS_S = (0.5, 1.0, 2.0, 5.0, 10.0)


class Patience:
    """Delays that grow up to `most_s`, none of them exact: hundreds of builders must not come at once.

    >>> 0.25 <= Patience().next_s() <= 0.5
    True
    """

    def __init__(self, most_s: float = _DELAYS_S[-1]) -> None:
        self._most_s = most_s
        self._failures = 0

    def next_s(self) -> float:
        """The delay after one more failure."""
        delay_s = min(_DELAYS_S[min(self._failures, len(_DELAYS_S) - 1)], self._most_s)
        self._failures += 1
        return delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def wait(self, stop: threading.Event) -> bool:
        """Wait that long, or until we are to stop; True where we are."""
        return stop.wait(self.next_s())

    def reset(self) -> None:
        """It went well: begin with the shortest delay next time."""
        self._failures = 0
