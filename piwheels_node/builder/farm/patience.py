# SPDX-License-Identifier: BSD-3-Clause
"""Waiting for a master: how long, before one that is away is asked again; and not, for one that is silent."""

from __future__ import annotations

import concurrent.futures
import random
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

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


def in_thread(call: Callable[[], _T], name: str) -> concurrent.futures.Future[_T]:
    """Call it in a thread of its own, which ends with the process where it hangs."""
    outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the boundary of the thread: who waits for it gets it
            outcome.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return outcome
