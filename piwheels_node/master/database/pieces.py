# SPDX-License-Identifier: BSD-3-Clause
"""Pieces of work in line for the writer, and how what came of them reaches who waits.

Three kinds of waiting: a future of `concurrent.futures`, a thread that does nothing else meanwhile, and a
coroutine. The last two are there for their price: waking 32 threads by futures took as long as their work,
and a loop is woken once for all its pieces of a batch. This module knows neither SQL nor the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

Work = Callable[[Any], Any]


class Piece(ABC):
    """Some work, and after it `result` or `error`."""

    __slots__ = ("error", "is_delivered", "result", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.is_delivered = False

    def begin(self) -> bool:
        """The writer takes it; False where nobody wants it any more."""
        return True

    @abstractmethod
    def deliver(self) -> None:
        """Let who waits have what came of it; once."""


class FuturePiece(Piece):
    """For who wants a future; cancelled before it begins, it is not done."""

    __slots__ = ("future",)

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.future: Future[Any] = Future()

    def begin(self) -> bool:
        """False where the future was cancelled."""
        return self.future.set_running_or_notify_cancel()

    def deliver(self) -> None:
        """Set the future."""
        self.is_delivered = True
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class ThreadPiece(Piece):
    """For a thread that waits."""

    __slots__ = ("_lock",)

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._lock = threading.Lock()
        self._lock.acquire()

    def deliver(self) -> None:
        """Let the thread go on."""
        self.is_delivered = True
        self._lock.release()

    def wait(self) -> Any:
        """Wait, and give the result or raise the error."""
        self._lock.acquire()
        if self.error is not None:
            raise self.error
        return self.result


class LoopPiece(Piece):
    """For a coroutine; where that is cancelled before the work begins, it is not done."""

    __slots__ = ("_is_wanted", "future", "loop")

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self._is_wanted = True

    def begin(self) -> bool:
        """False where the coroutine was cancelled."""
        return self._is_wanted

    def deliver(self) -> None:
        """Set the future, in its loop."""
        deliver([self])

    async def wait(self) -> Any:
        """Wait, and give the result or raise the error."""
        try:
            return await self.future
        except asyncio.CancelledError:
            self._is_wanted = False
            raise


def deliver(pieces: Iterable[Piece]) -> None:
    """Deliver many pieces: each loop is woken once."""
    loops: dict[asyncio.AbstractEventLoop, list[LoopPiece]] = {}
    for piece in pieces:
        if isinstance(piece, LoopPiece):
            piece.is_delivered = True
            loops.setdefault(piece.loop, []).append(piece)
        else:
            piece.deliver()
    for loop, mine in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_set, mine)


def _set(pieces: list[LoopPiece]) -> None:
    for piece in pieces:
        if piece.future.done():
            continue
        if piece.error is not None:
            piece.future.set_exception(piece.error)
        else:
            piece.future.set_result(piece.result)
