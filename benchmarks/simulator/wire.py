# SPDX-License-Identifier: BSD-3-Clause
"""HTTP/1.1 by hand, over one connection that is kept: a twentieth of the CPU of an HTTP library.

A `Link` may be told to cut its connection in the middle of a body, or before the answer comes, which is
what a library would not do for us. It goes to another master where one does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

_CONNECT_S = 5.0
_PACED_PARTS = 20
_END = b"\r\n\r\n"


class Cut(Enum):
    """Where a connection is cut."""

    BODY = "body"
    "In the middle of the body."

    ANSWER = "answer"
    "When all is sent, and nothing is read."


class LinkError(Exception):
    """There is no answer: the connection is gone, by our own doing or not."""


@dataclass(frozen=True)
class Address:
    """Where a master listens; `tls` where it speaks HTTPS."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What a master answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """True where the request was granted."""
        return self.status < 300  # noqa: PLR2004 - the class of the status

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def code(self) -> str | None:
        """The code of the Problem, where it is one."""
        problem = None if self.ok else self.json()
        return str(problem.get("code")) if isinstance(problem, dict) else None


@dataclass
class Figures:
    """What was asked and how long it took; seconds by kind of request."""

    took_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[str] = field(default_factory=Counter)
    lost_connections: int = 0

    @property
    def requests(self) -> int:
        """All requests that were answered."""
        return sum(self.answers.values())

    def add(self, kind: str, status: int, took_s: float) -> None:
        """Note an answer."""
        self.answers[f"{kind} {status}"] += 1
        self.took_s[kind].append(took_s)


class Link:
    """One connection of a builder to one of the masters at `addresses`; made when it is first needed."""

    def __init__(self, addresses: Sequence[Address], figures: Figures, key: str = "", first: int = 0) -> None:
        self._addresses = addresses
        self._figures = figures
        self._at = first % len(addresses)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._key = key
        self.session = ""

    async def call(
        self,
        kind: str,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: str = "",
        wait_s: float = 30.0,
        cut: Cut | None = None,
        pace_s: float = 0.0,
    ) -> Answer:
        """Ask; `kind` is how the figures call it. `pace_s` is how long a slow line takes to send the body.

        Raises LinkError where there is no answer within `wait_s`, or the connection was to be cut.
        """
        started = time.monotonic()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: fleet\r\n{self._authority()}"
            f"Content-Length: {len(body)}\r\n{headers}\r\n"
        ).encode()
        try:
            async with asyncio.timeout(wait_s + pace_s):
                answer = await self._exchange(head, body, cut, pace_s)
        except (OSError, EOFError, TimeoutError, ValueError, RuntimeError) as error:
            # RuntimeError is what uvloop says where the other side has closed the connection meanwhile
            self.abort()
            self._at = (self._at + 1) % len(self._addresses)
            if cut is None:
                self._figures.lost_connections += 1
            raise LinkError(f"{kind}: {str(error) or type(error).__name__}") from error
        except BaseException:
            self.abort()
            raise
        self._figures.add(kind, answer.status, time.monotonic() - started)
        return answer

    def abort(self) -> None:
        """Drop the connection, as a machine that loses power does."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    def _authority(self) -> str:
        text = f"Authorization: Bearer {self._key}\r\nContent-Type: application/json\r\n" if self._key else ""
        return f"{text}X-Builder-Session: {self.session}\r\n" if self.session else text

    async def _exchange(self, head: bytes, body: bytes, cut: Cut | None, pace_s: float) -> Answer:
        if self._writer is None or self._reader is None or self._writer.is_closing():
            address = self._addresses[self._at]
            async with asyncio.timeout(_CONNECT_S):
                self._reader, self._writer = await asyncio.open_connection(
                    address.host, address.port, ssl=address.tls
                )
        reader, writer = self._reader, self._writer
        if cut is Cut.BODY:
            body = body[: len(body) // 2]
        if pace_s:
            writer.write(head)
            step = max(1, -(-len(body) // _PACED_PARTS))
            for at in range(0, len(body), step):
                writer.write(body[at : at + step])
                await writer.drain()
                await asyncio.sleep(pace_s / _PACED_PARTS)
        else:
            writer.write(head + body)
            await writer.drain()
        if cut is not None:
            writer.close()  # what was written is still sent
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
            raise EOFError("cut on purpose")
        return await _read(reader)


async def _read(reader: asyncio.StreamReader) -> Answer:
    lines = (await reader.readuntil(_END)).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, separator, value = line.partition(":")
        if separator:
            headers[name.lower()] = value.strip()
    body = b""
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        body = await _read_chunks(reader)
    return Answer(int(lines[0].split(" ", 2)[1]), headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
