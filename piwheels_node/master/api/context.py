# SPDX-License-Identifier: BSD-3-Clause
"""What the endpoints of the API work with, and who may call them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from piwheels_node.core.settings import Settings
from piwheels_node.master.api.problems import ClosingError, NoKeyError, WrongKeyError
from piwheels_node.master.database.engine import Database
from piwheels_node.master.keys import Caller, KeyKind, find_key
from piwheels_node.master.logs import LogFiles
from piwheels_node.master.pypi import PyPI
from piwheels_node.master.store import WheelStore

T = TypeVar("T")


class Bell:
    """Builders that wait for a job sleep here, until one may be there. For one event loop only."""

    def __init__(self) -> None:
        self.closing = False
        self._event = asyncio.Event()
        self._closed = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        self._event.set()
        self._event = asyncio.Event()

    def close(self) -> None:
        """Wake all, for the last time: there will be no more jobs."""
        self.closing = True
        self._closed.set()
        self.ring()

    async def wait(self, timeout_s: float) -> None:
        """Sleep until somebody rings, or the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)

    async def unless_closed(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives; where the bell is closed first, `work` is cancelled, with ClosingError."""
        working, closed = asyncio.ensure_future(work), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({working, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClosingError("the master is about to end", hint="ask again when it is back")
            return working.result()
        finally:
            working.cancel()
            closed.cancel()


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """The parts of the master that the API uses."""

    database: Database
    store: WheelStore
    logs: LogFiles
    pypi: PyPI
    settings: Settings
    bell: Bell = field(default_factory=Bell)
    now: Callable[[], datetime] = _now
    fingerprint: str | None = None
    "What join tokens say of our certificate; None: the system's authorities judge it."


def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context_of)]
"""Parameter of an endpoint: the context."""

_bearer = HTTPBearer(
    auto_error=False, description="a key made with `piwheels-node`, kind builder or operator"
)


def _caller(here: Here, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    if shown is None:
        raise NoKeyError("this needs a key", hint="send it as `Authorization: Bearer KEY`")
    with here.database.read() as session:
        caller = find_key(session, shown.credentials)
    if caller is None:
        raise NoKeyError(
            "the master does not know this key", hint="it may have been revoked; ask for another"
        )
    return caller


def _builder(caller: Annotated[Caller, Depends(_caller)]) -> int:
    if caller.kind is not KeyKind.BUILDER or caller.builder_id is None:
        raise WrongKeyError("only a builder may do this", hint="use a builder's key")
    return caller.builder_id


def _operator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if caller.kind is not KeyKind.OPERATOR:
        raise WrongKeyError("only an operator may do this", hint="use an operator's key")
    return caller


BuilderId = Annotated[int, Depends(_builder)]
"""Parameter of an endpoint for builders only: the builder whose key it is."""

Operator = Annotated[Caller, Depends(_operator)]
"""Parameter of an endpoint for operators only."""
