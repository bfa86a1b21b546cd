# SPDX-License-Identifier: BSD-3-Clause
"""One request for the index and its answer, in plain ASGI: headers, bodies, files and parts of them.

It knows the rules of HTTP, and neither the database nor what the index has.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from piwheels_node.master.index.negotiation import byte_range

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CHUNK_BYTES = 256 << 10
_NOT_HERE = b"not here\n"


@dataclass(frozen=True)
class File:
    """A file to send; `size_bytes` is what the disk has."""

    path: Path
    etag: str
    changed_at: datetime
    content_type: bytes
    expected_bytes: int | None


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        self.started = False

    def header(self, name: bytes) -> str:
        """A header of the request; all of them where it comes more than once, empty where it is missing."""
        values = [value for key, value in self._scope["headers"] if key == name]
        return b",".join(values).decode("latin-1") if values else ""

    async def not_here(self) -> None:
        """The commonest and fastest answer: pip asks again on every run."""
        await self._start(404, [(b"content-type", b"text/plain"), (b"content-length", b"9")])
        await self._end(b"" if self._is_head else _NOT_HERE)

    async def answer(self, status: int, headers: Headers) -> None:
        """An answer without a body."""
        await self._start(status, headers if status == 304 else [*headers, (b"content-length", b"0")])  # noqa: PLR2004 - Not Modified
        await self._end(b"")

    async def redirect(self, location: str) -> None:
        """For good, to a relative address, so that it is right behind any proxy."""
        await self.answer(301, [(b"location", location.encode())])

    async def body(self, headers: Headers, body: bytes) -> None:
        """An answer from memory, in chunks where it is large, so that a slow client fills no buffer."""
        await self._start(200, [*headers, (b"content-length", str(len(body)).encode())])
        last = 0 if self._is_head else max(0, len(body) - 1) // CHUNK_BYTES * CHUNK_BYTES
        for offset in range(0, last, CHUNK_BYTES):
            await self._more(body[offset : offset + CHUNK_BYTES])
        await self._end(b"" if self._is_head else body[last:])

    async def file(self, headers: Headers, descriptor: int, size: int, found: File) -> None:
        """A file, or the part of it that is asked for, read off the event loop."""
        span = None if self._is_head else self._range(size, found)
        if span is not None and not span:
            await self.answer(416, [(b"content-range", f"bytes */{size}".encode())])
            return
        if span is not None:
            shown = f"bytes {span.start}-{span.stop - 1}/{size}".encode()
            headers = [*headers, (b"content-range", shown)]
        status = 200 if span is None else 206
        span = range(size) if span is None else span
        await self._start(status, [*headers, (b"content-length", str(len(span)).encode())])
        await self._send_file(descriptor, range(0) if self._is_head else span)

    def _range(self, size: int, found: File) -> range | None:
        asked = self.header(b"range")
        if not asked:
            return None
        return byte_range(
            asked, self.header(b"if-range"), size=size, etag=found.etag, changed_at=found.changed_at
        )

    async def _send_file(self, descriptor: int, span: range) -> None:
        gone = asyncio.ensure_future(self._wait_until_gone())
        try:
            offset = span.start
            while offset < span.stop and not gone.done():
                wanted = min(CHUNK_BYTES, span.stop - offset)
                chunk = await asyncio.to_thread(os.pread, descriptor, wanted, offset)
                if not chunk:
                    raise EOFError(f"the file shrank while it was sent: {offset} of {span.stop} bytes")
                offset += len(chunk)
                await self._more(chunk)
            await self._end(b"")
        finally:
            gone.cancel()

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _more(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _end(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk})
