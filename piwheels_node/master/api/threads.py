# SPDX-License-Identifier: BSD-3-Clause
"""Calls that wait for another machine, in threads that nobody waits for.

`asyncio.to_thread` is right for the disk; but the end of its pool waits for every call in it, and a
PyPI that hangs would keep the master from stopping for as long. This imports only the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_daemon_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call; where the caller is cancelled, the thread goes on alone and is forgotten."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # None where T is None

    def work() -> None:
        result, problem = None, None
        try:
            result = call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: the caller gets it
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody wants to know any more
            loop.call_soon_threadsafe(tell, result, problem)

    threading.Thread(target=work, name="pypi", daemon=True).start()
    return await answer
