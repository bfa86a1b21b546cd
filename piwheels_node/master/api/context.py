# SPDX-License-Identifier: BSD-3-Clause
"""What the endpoints of the API work with, and who may call them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from piwheels_node.core.builders import BuilderState
from piwheels_node.core.settings import Settings
from piwheels_node.master.api.callers import Caller, Callers
from piwheels_node.master.api.problems import NoKeyError, WrongKeyError
from piwheels_node.master.api.refusals import Refusals
from piwheels_node.master.api.waiting import Waiting
from piwheels_node.master.builders import control
from piwheels_node.master.builders.control import Speaker
from piwheels_node.master.builders.keys import KeyKind
from piwheels_node.master.contents import Contents
from piwheels_node.master.database.engine import Database
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.wheels.logs import LogFiles
from piwheels_node.master.wheels.store import WheelStore

T = TypeVar("T")
_THREADS = 32


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """The parts of the master that the API uses. `told` is what each builder has said of itself lately."""

    database: Database
    store: WheelStore
    logs: LogFiles
    pypi: PyPI
    settings: Settings
    waiting: Waiting = field(default_factory=Waiting)
    now: Callable[[], datetime] = _now
    fingerprint: str | None = None
    "What join tokens say of our certificate; None: the system's authorities judge it."
    callers: Callers = field(default_factory=Callers)
    refusals: Refusals = field(default_factory=Refusals)
    told: dict[int, Told] = field(default_factory=dict)
    contents: Contents = field(default_factory=Contents)
    "Which Debian package has what a build missed."

    def begin(self) -> None:
        """The event loop runs: listen to what the database announces, and have threads enough to wait in.

        asyncio's own number is that of the cores and four more; a few large wheels that are being checked
        would keep everybody waiting.
        """
        self.database.subscribe(self.callers.announced)
        self.database.subscribe(self.waiting.announce)
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")
        asyncio.get_running_loop().set_default_executor(threads)

    def end(self) -> None:
        """The event loop ends: write what is still to be counted."""
        self.refusals.flush(self.database)


@dataclass(frozen=True)
class Told:
    """What this process has last written of what a builder said: when (monotonic), and its pause."""

    at_s: float
    paused_itself: str | None


async def _context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context_of)]
"""Parameter of an endpoint: the context."""

_bearer = HTTPBearer(
    auto_error=False, description="a key made with `piwheels-node`, kind builder or operator"
)
_Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
_Session = Annotated[str | None, Header(alias="X-Builder-Session", max_length=64)]


async def _caller(request: Request, here: Here, shown: _Shown) -> Caller:
    if shown is None:
        raise NoKeyError("this needs a key", hint="send it as `Authorization: Bearer KEY`")
    caller = await here.callers.find(here.database, shown.credentials)
    request.state.caller = caller
    if caller is not None and caller.state is BuilderState.REVOKED:
        raise control.revoked()
    if caller is None or not caller.is_good:
        raise NoKeyError(
            "the master does not know this key", hint="it may have been revoked; ask for another"
        )
    return caller


async def _any_caller(request: Request, here: Here, shown: _Shown) -> Caller | None:
    return None if shown is None else await _caller(request, here, shown)


async def _newcomer(caller: Annotated[Caller, Depends(_caller)]) -> Speaker:
    if caller.kind is not KeyKind.BUILDER or caller.builder_id is None:
        raise WrongKeyError("only a builder may do this", hint="use a builder's key")
    return Speaker(caller.builder_id, caller.name or "", caller.session)


async def _builder(
    newcomer: Annotated[Speaker, Depends(_newcomer)], here: Here, shown: _Shown, session: _Session = None
) -> Speaker:
    if newcomer.session is not None and newcomer.session != session and shown is not None:
        # What is remembered may be older than its hello; nobody is sent away for good by that.
        caller = await here.callers.find(here.database, shown.credentials, afresh=True)
        control.check_speaker(caller.session if caller else None, session)
    return Speaker(newcomer.id, newcomer.name, session)


async def _operator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if caller.kind is not KeyKind.OPERATOR:
        raise WrongKeyError("only an operator may do this", hint="use an operator's key")
    return caller


Newcomer = Annotated[Speaker, Depends(_newcomer)]
"""Parameter of an endpoint for a builder whose process has just started: the builder whose key it is."""

TheBuilder = Annotated[Speaker, Depends(_builder)]
"""Parameter of an endpoint for builders only: whose key it is, and the process that speaks for it."""

AnyCaller = Annotated[Caller | None, Depends(_any_caller)]
"""Parameter of an endpoint that tells who asks: None where no key is shown, and none that is not known."""

Operator = Annotated[Caller, Depends(_operator)]
"""Parameter of an endpoint for operators only."""

JobId = Annotated[int, Path(ge=1, le=2**63 - 1)]
"""Parameter of an endpoint: the number of a job."""
