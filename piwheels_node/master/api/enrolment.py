# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints for who may build here: join tokens, joining, approving, revoking, purging.

Joining needs no key, so attempts with bad tokens are bounded: a few are answered, logged and counted, and
the next ones are told to wait. They cost no write, and a good token never waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session

from piwheels_node.core.messages import (
    BuilderView,
    JoinAnswer,
    JoinRequest,
    Purge,
    PurgeAnswer,
    TokenRequest,
    TokenView,
)
from piwheels_node.master import views
from piwheels_node.master.api.context import Context, Here, Newcomer, Operator
from piwheels_node.master.api.problems import NotFoundError, TooOftenError
from piwheels_node.master.builders import control, enrolment, purge
from piwheels_node.master.database.models import Builder

router = APIRouter(tags=["enrolment"])

_BAD_AT_ONCE = 10
_BAD_EVERY_S = 2.0
_log = logging.getLogger(__name__)


class _Guesses:
    """How many bad tokens may still be told so: ten at once, then one every two seconds."""

    def __init__(self) -> None:
        self._left = float(_BAD_AT_ONCE)
        self._at = time.monotonic()
        self._guard = threading.Lock()

    def take(self) -> bool:
        """False where there were too many lately."""
        with self._guard:
            now = time.monotonic()
            self._left = min(_BAD_AT_ONCE, self._left + (now - self._at) / _BAD_EVERY_S)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


@router.post("/join")
async def join(wanted: JoinRequest, request: Request, here: Here) -> JoinAnswer:
    """Become a builder, by a join token; the answer has the key, which is shown only here."""
    now = here.now()
    address = request.client.host if request.client else "an unknown address"
    try:
        await asyncio.to_thread(_look, here, wanted)
        answer = await here.database.awrite(lambda session: enrolment.join(session, wanted, now))
    except (enrolment.BadTokenError, enrolment.JoinRefusedError) as error:
        here.refusals.note(here.database, "join", f"{wanted.name!r} at {address}: {error.what}")
        if isinstance(error, enrolment.BadTokenError) and not _guesses(request).take():
            raise _too_often() from error
        raise
    _log.info("%s has joined from %s", answer.name, address)
    return answer


@router.post("/leave", status_code=204, response_model=None)
async def leave(here: Here, builder: Newcomer) -> None:
    """Be a builder no more: the key is worth nothing from now on, and jobs in hand go to others."""
    now = here.now()
    await here.database.awrite(
        lambda session: enrolment.leave(session, session.get_one(Builder, builder.id), now)
    )
    _log.info("builder %s left", builder.name)


@router.post("/tokens")
async def create_token(wanted: TokenRequest, here: Here, _operator: Operator) -> TokenView:
    """Make a join token; it is shown only in this answer."""
    now = here.now()
    return await here.database.awrite(
        lambda session: enrolment.create_token(session, wanted, here.fingerprint, now)
    )


@router.get("/tokens")
def tokens(here: Here, _operator: Operator) -> list[TokenView]:
    """The join tokens, newest first, without what is secret in them."""
    with here.database.read() as session:
        return enrolment.tokens(session)


@router.delete("/tokens/{token_id}", status_code=204, response_model=None)
async def revoke_token(token_id: int, here: Here, _operator: Operator) -> None:
    """Make a join token worthless; machines that have joined with it stay."""
    now = here.now()
    if not await here.database.awrite(lambda session: enrolment.revoke_token(session, token_id, now)):
        raise NotFoundError("there is no such join token", where=f"token {token_id}")


@router.post("/builders/{name}/approve")
async def approve(name: str, here: Here, _operator: Operator) -> BuilderView:
    """Let a builder lease jobs."""
    now = here.now()
    await _change(here, name, lambda session, builder: enrolment.approve(session, builder, now))
    return await asyncio.to_thread(_view, here, name)


@router.post("/builders/{name}/revoke")
async def revoke(name: str, here: Here, _operator: Operator) -> BuilderView:
    """Take a builder's key back, and its jobs: others may have those at once."""
    now = here.now()
    await _change(here, name, lambda session, builder: enrolment.revoke(session, builder, now))
    _log.warning("the key of builder %s was revoked", name)
    return await asyncio.to_thread(_view, here, name)


@router.post("/builders/{name}/purge")
async def withdraw(name: str, wanted: Purge, here: Here, _operator: Operator) -> PurgeAnswer:
    """Withdraw the wheels that a builder has published since a time, and queue their jobs for others."""
    with here.database.read() as session:
        builder_id = control.builder_named(session, name).id
    answer = await asyncio.to_thread(purge.purge, here.database, builder_id, wanted, here.now())
    _log.warning("%d wheels of builder %s are withdrawn: %s", len(answer.wheels), name, wanted.why)
    return answer


def _look(here: Context, wanted: JoinRequest) -> None:
    """Raise BadTokenError by reading only, unless the machine is a builder already."""
    with here.database.read() as session:
        if enrolment.member(session, wanted) is None:
            enrolment.check_token(session, wanted.token, here.now())


async def _change(here: Context, name: str, change: Callable[[Session, Builder], object]) -> None:
    await here.database.awrite(lambda session: change(session, control.builder_named(session, name)))


def _view(here: Context, name: str) -> BuilderView:
    with here.database.read() as session:
        found = views.builder(session, name)
    if found is None:
        raise NotFoundError("there is no such builder", where=name)
    return found


def _guesses(request: Request) -> _Guesses:
    """One for all clients of this process: behind a proxy they have one address, and a guesser has many."""
    state = request.app.state
    if not hasattr(state, "guesses"):
        state.guesses = _Guesses()
    found: _Guesses = state.guesses
    return found


def _too_often() -> TooOftenError:
    return TooOftenError(
        "too many machines have shown bad join tokens",
        wait_s=int(_BAD_EVERY_S),
        hint="wait a little, and check the token",
    )
