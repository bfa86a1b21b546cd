# SPDX-License-Identifier: BSD-3-Clause
"""How the index asks the database: never so that its event loop waits, and seldom while there is no answer.

SQLite answers from a file, in microseconds, and is asked at once. A server may take its time, so it is asked
from one thread; and where it does not answer soon, others who want to know are told so without waiting too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from piwheels_node.core.errors import NodeError, UnavailableError

PATIENCE_S = 2.0
"""pip waits 15 s for an answer, and then asks again."""

_REST_S = 1.0
"""After a question without an answer, so long nothing is asked."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Asking:
    """Asks for one event loop; `is_far` says that the database is a server."""

    def __init__(self, *, is_far: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "index") if is_far else None
        self._rests_until = 0.0
        self._is_away = False

    async def ask(self, question: Callable[[], T]) -> T:
        """What `question` gives; raises NodeError where there is no answer for now."""
        if self._is_away and time.monotonic() < self._rests_until:
            raise UnavailableError("the database was away a moment ago")
        try:
            answer = question() if self._thread is None else await self._patiently(self._thread, question)
        except NodeError as error:
            self._rests_until = time.monotonic() + _REST_S
            if not self._is_away:
                _log.warning("the index has only what it remembers: %s", error)
            self._is_away = True
            raise
        if self._is_away:
            _log.warning("the index has everything again")
            self._is_away = False
        return answer

    def close(self) -> None:
        """Ask nothing any more."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    async def _patiently(thread: ThreadPoolExecutor, question: Callable[[], T]) -> T:
        asked = asyncio.get_running_loop().run_in_executor(thread, question)
        try:
            return await asyncio.wait_for(asked, PATIENCE_S)
        except TimeoutError as error:
            raise UnavailableError("the database does not answer") from error
