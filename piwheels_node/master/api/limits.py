# SPDX-License-Identifier: BSD-3-Clause
"""What stands in front of the API: how often one builder may ask, and how much one message may be.

    Gate -> FastAPI

Messages are read here as a whole, before anything makes objects of them: bounded in size and in time, as
UTF-8, without what databases cannot store (NUL, halves of surrogate pairs). Logs and wheels are streams,
which their endpoints bound. A builder that asks too often is told so before its request costs anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from piwheels_node.core.errors import NodeError
from piwheels_node.master.api.context import Context
from piwheels_node.master.api.problems import MalformedError, TooLargeError, TooOftenError, answer_of
from piwheels_node.master.builders.keys import digest
from piwheels_node.master.text import storable

BODY_WITHIN_S = 30.0
"""How long a message may take to arrive."""

_BURST_S = 2.0
_STREAMS = ("/log", "/wheel")
_DISCARD_BYTES = 8 << 20
_DISCARD_S = 2.0
_BEARER = "bearer "


class Bucket:
    """Requests of one builder: `per_s` in the long run, and twice as many at once."""

    def __init__(self, now_s: float) -> None:
        self._spent = 0.0
        self._at_s = now_s

    def wait_s(self, per_s: float, now_s: float) -> float:
        """0 where one more may come now, which is then taken; else in how many seconds."""
        self._spent = max(0.0, self._spent - (now_s - self._at_s) * per_s)
        self._at_s = now_s
        if self._spent + 1 > _BURST_S * per_s:
            return (self._spent + 1 - _BURST_S * per_s) / per_s
        self._spent += 1
        return 0.0


class Gate:
    """The API, behind its limits; an ASGI application."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._here = context
        self._buckets: dict[int, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check_rate(headers)
            if not scope["path"].endswith(_STREAMS):
                receive = await self._whole_body(scope, headers, receive)
        except NodeError as error:
            await _refuse(scope, receive, send, error)
            return
        await self._app(scope, receive, send)

    def _check_rate(self, headers: dict[bytes, str]) -> None:
        shown = headers.get(b"authorization", "")
        if not shown.lower().startswith(_BEARER):
            return
        caller = self._here.callers.known(digest(shown[len(_BEARER) :].strip()))
        if caller is None or caller.builder_id is None:
            return  # one that is not remembered costs a look, and is remembered then
        now_s = asyncio.get_running_loop().time()
        bucket = self._buckets.setdefault(caller.builder_id, Bucket(now_s))
        wait_s = bucket.wait_s(self._here.settings.master.requests_per_s, now_s)
        if wait_s > 0:
            self._here.refusals.note(self._here.database, "too-often", f"builder {caller.name}")
            raise TooOftenError(
                "this builder asks too often", wait_s=math.ceil(wait_s), hint="see master.requests_per_s"
            )

    async def _whole_body(self, scope: Scope, headers: dict[bytes, str], receive: Receive) -> Receive:
        most = self._here.settings.master.body_max_bytes
        try:
            announced = int(headers.get(b"content-length", 0))
            async with asyncio.timeout(BODY_WITHIN_S):
                body, end = await _read(receive, most) if announced <= most else (None, None)
        except ValueError:
            raise MalformedError("the length of the message is no number") from None
        except TimeoutError:
            raise MalformedError(f"the message did not arrive within {BODY_WITHIN_S:.0f} s") from None
        if body is None:
            line = f"{scope['method']} {scope['path']!r}: more than {most} bytes"
            self._here.refusals.note(self._here.database, "too-large", line)
            raise TooLargeError(f"a message may have {most} bytes", hint="see master.body_max_bytes")
        first: list[Message] = [{"type": "http.request", "body": storable_body(body), "more_body": False}]
        if end is not None:
            first.append(end)

        async def again() -> Message:
            return first.pop(0) if first else await receive()

        return again


def storable_body(body: bytes) -> bytes:
    """A JSON message without what databases refuse in a text; raises MalformedError where it is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise MalformedError("the message is not UTF-8", hint=str(error)) from None
    if b"\\u0000" not in body and b"\\ud" not in body.lower():
        return body
    try:
        return json.dumps(_cleaned(json.loads(body))).encode()
    except (ValueError, RecursionError):
        return body  # no JSON, or far too deep: whoever reads it will say so


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(one) for key, one in value.items()}
    return value


async def _read(receive: Receive, most: int) -> tuple[bytes | None, Message | None]:
    """The body, None where it is too large; and the message that says that the client has gone."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(parts), message
        parts += message.get("body", b"")
        if len(parts) > most:
            return None, None
        if not message.get("more_body", False):
            return bytes(parts), None


async def _refuse(scope: Scope, receive: Receive, send: Send, error: NodeError) -> None:
    """Answer; where a message was not read to its end, throw some of the rest away, and close the connection.

    To close at once would be a reset, which lets few clients read the answer.
    """
    answer = answer_of(error)
    if isinstance(error, TooOftenError):
        await answer(scope, receive, send)
        return
    answer.headers["Connection"] = "close"

    async def hold(message: Message) -> None:
        is_body = message["type"] == "http.response.body"
        await send({**message, "more_body": True} if is_body else message)

    await answer(scope, receive, hold)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            await _discard(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    thrown = 0
    while thrown < _DISCARD_BYTES:
        message = await receive()
        thrown += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
