# SPDX-License-Identifier: BSD-3-Clause
"""The index that pip and uv read: plain ASGI, because these are the routes that everybody asks for.

    /simple/                       the projects that have wheels
    /simple/NAME/                  the wheels of one; 404 where there is none, so that tools go on to PyPI
    /files/NAME/FILE.whl           a wheel, also in part
    /files/NAME/FILE.whl.metadata  its METADATA (PEP 658)

A page is one indexed look-up (the project's serial), then comes from the cache; a page that the client
has is answered from the look-up alone. Names from a URL are only ever looked up in the database, never
joined to a path. Where the database fails, the answer is 404: a 5xx costs pip 8 s per project and stops
uv (measured), while after a 404 both go on to PyPI. It must not import FastAPI or Starlette.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from packaging.utils import canonicalize_name
from sqlalchemy import bindparam, select

from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Counter, Project, Release, Wheel
from piwheels_node.master.index_pages import (
    Page,
    PageCache,
    PageKey,
    read_names,
    read_project,
    render_names,
    render_project,
)
from piwheels_node.master.negotiation import (
    JSON,
    V1_HTML,
    byte_range,
    choose_type,
    http_date,
    is_known,
    takes_gzip,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CHUNK_BYTES = 256 << 10
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_IMMUTABLE = b"public, max-age=31536000, immutable"
_NOT_HERE = b"not here\n"
_LONGEST_LIST_AGE_S = 60.0
_LIST_REST = 20
"""After making the list of projects, rest for this many times as long as it took."""

_log = logging.getLogger(__name__)
_SERIAL = select(Project.serial).where(Project.name == bindparam("name"))


class WheelFiles(Protocol):
    """Where the bytes are: the wheel store."""

    def path(self, project: str, filename: str) -> Path:
        """The file of a published wheel."""


@dataclass(frozen=True)
class _File:
    """A file to send; `size_bytes` is what the disk has."""

    path: Path
    etag: str
    changed_at: datetime
    content_type: bytes
    expected_bytes: int | None


@dataclass(frozen=True)
class _List:
    """The list of all projects, as it was when `changes` had this value."""

    changes: int
    made_at: float
    rest_s: float
    names: list[str]


class Index:
    """The ASGI application of the hot routes; one per process, used by one event loop.

    `instance` is part of every ETag, so that a page of another database is never taken for ours.
    """

    def __init__(
        self,
        database: Database,
        store: WheelFiles,
        *,
        instance: str,
        page_max_age_s: int,
        page_cache_bytes: int,
    ) -> None:
        self._database = database
        self._serial = database.lookup(_SERIAL)
        self._store = store
        self._instance = instance
        self._cache_control = f"public, max-age={page_max_age_s}".encode()
        self._cache = PageCache(page_cache_bytes)
        self._making: dict[PageKey, asyncio.Future[Page]] = {}
        self._list: _List | None = None
        self._list_bodies: dict[tuple[str, bool], tuple[str, bytes]] = {}
        self._list_lock = asyncio.Lock()

    @staticmethod
    def owns(path: str) -> bool:
        """True for the paths that this application answers."""
        return path.startswith(("/simple/", "/files/")) or path == "/simple"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = _Exchange(scope, receive, send)
        try:
            if scope["method"] not in {"GET", "HEAD"}:
                await exchange.answer(405, [(b"allow", b"GET, HEAD")])
            elif scope["path"].startswith("/files/"):
                await self._file(exchange, scope["path"].split("/")[2:])
            else:
                await self._page(exchange, scope["path"].split("/")[2:])
        except Exception:  # the boundary of a request: a broken index must not stop anybody's pip
            if exchange.started:
                raise
            _log.exception("the index could not answer %s", scope["path"])
            await exchange.not_here()

    async def _page(self, exchange: _Exchange, parts: list[str]) -> None:
        match parts:
            case []:  # /simple
                await exchange.redirect("simple/")
            case [""]:
                await self._names(exchange)
            case [name] | [name, ""]:
                normal = canonicalize_name(name)
                if not _NAME.fullmatch(normal):
                    await exchange.not_here()
                elif len(parts) == 1:
                    await exchange.redirect(f"{normal}/")
                elif normal != name:
                    await exchange.redirect(f"../{normal}/")
                else:
                    await self._project(exchange, name)
            case _:
                await exchange.not_here()

    async def _project(self, exchange: _Exchange, name: str) -> None:
        serial = self._serial(name=name)
        if not serial:
            await exchange.not_here()
            return
        content_type = choose_type(exchange.header(b"accept"))
        if content_type is None:
            await exchange.answer(406, [(b"vary", b"Accept")])
            return
        compress = takes_gzip(exchange.header(b"accept-encoding"))
        etag = f'"{self._instance}-{serial}-{_form(content_type, compress=compress)}"'
        if is_known(exchange.header(b"if-none-match"), etag):
            await exchange.answer(304, self._page_headers(content_type, etag, compress=compress))
            return
        page = await self._get_page((name, content_type, compress), serial)
        if page.body is None:
            await exchange.not_here()
            return
        if page.serial != serial:  # something was published in between
            etag = f'"{self._instance}-{page.serial}-{_form(content_type, compress=compress)}"'
        await exchange.body(self._page_headers(content_type, etag, compress=compress), page.body)

    async def _get_page(self, key: PageKey, serial: int) -> Page:
        """The page from the cache, or made in a thread; made once, however many wait for it."""
        page = self._cache.get(key, serial)
        while page is None or page.serial < serial:
            making = self._making.get(key)
            if making is None:
                making = asyncio.ensure_future(asyncio.to_thread(self._make_page, key))
                self._making[key] = making
                making.add_done_callback(lambda _: self._making.pop(key))
            page = await asyncio.shield(making)
            self._cache.put(key, page)
        return page

    def _make_page(self, key: PageKey) -> Page:
        name, content_type, compress = key
        with self._database.read() as session:
            listing = read_project(session, name)
        return render_project(listing, content_type, compress=compress)

    async def _names(self, exchange: _Exchange) -> None:
        content_type = choose_type(exchange.header(b"accept"))
        if content_type is None:
            await exchange.answer(406, [(b"vary", b"Accept")])
            return
        compress = takes_gzip(exchange.header(b"accept-encoding"))
        async with self._list_lock:
            etag, body = await asyncio.to_thread(self._list_body, content_type, compress)
        headers = self._page_headers(content_type, etag, compress=compress)
        if is_known(exchange.header(b"if-none-match"), etag):
            await exchange.answer(304, headers)
        else:
            await exchange.body(headers, body)

    def _list_body(self, content_type: str, compress: bool) -> tuple[str, bytes]:
        """ETag and bytes of the list; made anew after a change, but not more often than is bearable."""
        with self._database.read() as session:
            changes = session.scalar(select(Counter.value).where(Counter.name == "wheels")) or 0
            known, begin = self._list, time.monotonic()
            if known is None or (changes != known.changes and begin > known.made_at + known.rest_s):
                names = read_names(session)
                rest_s = min(_LONGEST_LIST_AGE_S, _LIST_REST * (time.monotonic() - begin))
                self._list = _List(changes, begin, rest_s, names)
                self._list_bodies.clear()
        form = content_type, compress
        if form not in self._list_bodies and self._list is not None:
            body = render_names(self._list.names, content_type, compress=compress)
            etag = f'"{self._instance}-{hashlib.sha256(body).hexdigest()[:32]}"'
            self._list_bodies[form] = etag, body
        return self._list_bodies[form]

    def _page_headers(self, content_type: str, etag: str, *, compress: bool) -> Headers:
        charset = b"" if content_type == JSON else b"; charset=utf-8"
        headers = [
            (b"content-type", content_type.encode() + charset),
            (b"etag", etag.encode()),
            (b"cache-control", self._cache_control),
            (b"vary", b"Accept, Accept-Encoding"),
        ]
        if compress:
            headers.append((b"content-encoding", b"gzip"))
        return headers

    async def _file(self, exchange: _Exchange, parts: list[str]) -> None:
        found = self._find_file(*parts) if len(parts) == 2 else None  # noqa: PLR2004 - NAME/FILE
        if found is None:
            await exchange.not_here()
            return
        headers = [
            (b"content-type", found.content_type),
            (b"etag", found.etag.encode()),
            (b"last-modified", http_date(found.changed_at).encode()),
            (b"cache-control", _IMMUTABLE),
            (b"accept-ranges", b"bytes"),
        ]
        if is_known(exchange.header(b"if-none-match"), found.etag):
            await exchange.answer(304, headers)
            return
        descriptor = await asyncio.to_thread(os.open, found.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if found.expected_bytes not in {None, size}:
                _log.error("%s has %s bytes, not %s", found.path, size, found.expected_bytes)
                await exchange.not_here()
                return
            await exchange.file(headers, descriptor, size, found)
        finally:
            os.close(descriptor)

    def _find_file(self, name: str, filename: str) -> _File | None:
        wheel_name = filename.removesuffix(".metadata")
        with self._database.read() as session:
            row = session.execute(
                select(Wheel.sha256, Wheel.metadata_sha256, Wheel.size_bytes, Wheel.published_at)
                .join_from(Wheel, Release, Wheel.release_id == Release.id)
                .join(Project, Release.project_id == Project.id)
                .where(Wheel.filename == wheel_name, Project.name == name, Wheel.withdrawn_at.is_(None))
            ).one_or_none()
        if row is None:
            return None
        sha256, metadata_sha256, size_bytes, published_at = row
        path = self._store.path(name, wheel_name)
        if filename == wheel_name:
            return _File(path, f'"{sha256}"', published_at, b"application/octet-stream", size_bytes)
        path = path.with_name(filename)
        return _File(path, f'"{metadata_sha256}"', published_at, b"text/plain; charset=utf-8", None)


def _form(content_type: str, *, compress: bool) -> str:
    form = {JSON: "json", V1_HTML: "v1html"}.get(content_type, "html")
    return f"{form}-gz" if compress else form


class _Exchange:
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

    async def file(self, headers: Headers, descriptor: int, size: int, found: _File) -> None:
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

    def _range(self, size: int, found: _File) -> range | None:
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
