# SPDX-License-Identifier: BSD-3-Clause
"""The index that pip and uv read: plain ASGI, because these are the routes that everybody asks for.

    /simple/                       the projects that have wheels
    /simple/NAME/                  the wheels of one; 404 where there is none, so that tools go on to PyPI
    /files/NAME/FILE.whl           a wheel, also in part
    /files/NAME/FILE.whl.metadata  its METADATA (PEP 658)

A page is one indexed look-up (the project's serial), then comes from the cache; a page that the client
has is answered from the look-up alone. Names from a URL are only ever looked up in the database, never
joined to a path. It must not import FastAPI or Starlette.

While the database is away, what the cache has goes on: its pages, and the files that they list, of which
only the bytes are needed. All else is 404: a 5xx costs pip 8 s per project and stops uv (measured), while
after a 404 both go on to PyPI.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from packaging.utils import canonicalize_name
from sqlalchemy import bindparam, select

from piwheels_node.core.errors import NodeError
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Counter, Project, Release, Wheel
from piwheels_node.master.index.asking import Asking
from piwheels_node.master.index.asks import Asks
from piwheels_node.master.index.exchange import Exchange, File, Headers, Receive, Scope, Send
from piwheels_node.master.index.misses import Misses
from piwheels_node.master.index.negotiation import (
    JSON,
    V1_HTML,
    choose_type,
    http_date,
    is_known,
    takes_gzip,
)
from piwheels_node.master.index.pages import (
    Page,
    PageCache,
    PageKey,
    listed_hashes,
    read_names,
    read_project,
    render_names,
    render_project,
)

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_IMMUTABLE = b"public, max-age=31536000, immutable"
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
class _List:
    """The list of all projects, as it was when `changes` had this value."""

    changes: int
    made_at: float
    rest_s: float
    names: list[str]


class Index:
    """The ASGI application of the hot routes; one per process, used by one event loop.

    `instance` is part of every ETag, so that a page of another database is never taken for ours. `is_far`
    says that the database is a server, so that asking it may take a while. `missed` is told what is not here,
    `asks` what is wanted.
    """

    def __init__(
        self,
        database: Database,
        store: WheelFiles,
        *,
        instance: str,
        page_max_age_s: int,
        page_cache_bytes: int,
        is_far: bool = False,
        missed: Misses | None = None,
        asks: Asks | None = None,
    ) -> None:
        self._database = database
        self._serial = database.lookup(_SERIAL)
        self._asking = Asking(is_far=is_far)
        self._missed = missed
        self._asks = asks
        self._store = store
        self._instance = instance
        self._cache_control = f"public, max-age={page_max_age_s}".encode()
        self._cache = PageCache(page_cache_bytes)
        self._making: dict[PageKey, asyncio.Future[Page]] = {}
        self._list: _List | None = None
        self._list_bodies: dict[tuple[str, bool], tuple[str, bytes]] = {}
        self._list_lock = asyncio.Lock()

    def close(self) -> None:
        """Ask nothing any more."""
        self._asking.close()

    @staticmethod
    def owns(path: str) -> bool:
        """True for the paths that this application answers."""
        return path.startswith(("/simple/", "/files/")) or path == "/simple"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
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

    async def _page(self, exchange: Exchange, parts: list[str]) -> None:
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

    async def _project(self, exchange: Exchange, name: str) -> None:
        if self._asks is not None:
            self._asks.note(name)
        try:
            serial = await self._asking.ask(lambda: self._serial(name=name))
        except NodeError:
            serial = self._cache.newest(name)
        if not serial:
            if self._missed is not None:
                self._missed.note(name, exchange.header(b"user-agent"))
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
            try:
                page = await asyncio.shield(making)
            except NodeError:  # the database has just gone away
                return self._cache.get(key, 0) or Page(serial, None)
            self._cache.put(key, page)
        return page

    def _make_page(self, key: PageKey) -> Page:
        name, content_type, compress = key
        with self._database.read() as session:
            listing = read_project(session, name)
        return render_project(listing, content_type, compress=compress)

    async def _names(self, exchange: Exchange) -> None:
        content_type = choose_type(exchange.header(b"accept"))
        if content_type is None:
            await exchange.answer(406, [(b"vary", b"Accept")])
            return
        compress = takes_gzip(exchange.header(b"accept-encoding"))
        async with self._list_lock:
            try:
                changes = await self._asking.ask(self._count_changes)
                etag, body = await asyncio.to_thread(self._list_body, changes, content_type, compress)
            except NodeError:
                if self._list is None:
                    await exchange.not_here()
                    return
                etag, body = self._render_list(self._list, content_type, compress=compress)
        headers = self._page_headers(content_type, etag, compress=compress)
        if is_known(exchange.header(b"if-none-match"), etag):
            await exchange.answer(304, headers)
        else:
            await exchange.body(headers, body)

    def _count_changes(self) -> int:
        """How often a wheel was published or withdrawn: a number that never is what it once was."""
        wanted = select(Counter.name, Counter.value).where(Counter.name.in_(("wheels", "wheels.withdrawn")))
        with self._database.read() as session:
            counts: dict[str, int] = {row.name: row.value for row in session.execute(wanted)}
        return counts.get("wheels", 0) + 2 * counts.get("wheels.withdrawn", 0)

    def _list_body(self, changes: int, content_type: str, compress: bool) -> tuple[str, bytes]:
        """ETag and bytes of the list; made anew after a change, but not more often than is bearable."""
        known, begin = self._list, time.monotonic()
        if known is None or (changes != known.changes and begin > known.made_at + known.rest_s):
            with self._database.read() as session:
                names = read_names(session)
            rest_s = min(_LONGEST_LIST_AGE_S, _LIST_REST * (time.monotonic() - begin))
            self._list = known = _List(changes, begin, rest_s, names)
            self._list_bodies.clear()
        return self._render_list(known, content_type, compress=compress)

    def _render_list(self, known: _List, content_type: str, *, compress: bool) -> tuple[str, bytes]:
        form = content_type, compress
        if form not in self._list_bodies:
            body = render_names(known.names, content_type, compress=compress)
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

    async def _file(self, exchange: Exchange, parts: list[str]) -> None:
        found = await self._look_up_file(*parts) if len(parts) == 2 else None  # noqa: PLR2004 - NAME/FILE
        if found is None:
            await exchange.not_here()
            return
        if self._asks is not None and not parts[1].endswith(".metadata"):
            self._asks.note(parts[0])
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

    async def _look_up_file(self, name: str, filename: str) -> File | None:
        try:
            return await self._asking.ask(lambda: self._find_file(name, filename))
        except NodeError:  # what a page in the cache lists goes on
            pages = [(key, self._cache.get(key, 0)) for key in self._cache.keys_of(name)]
            return await asyncio.to_thread(self._find_listed, pages, name, filename)

    def _find_listed(self, pages: list[tuple[PageKey, Page | None]], name: str, filename: str) -> File | None:
        wheel_name = filename.removesuffix(".metadata")
        for (_, _, compressed), page in pages:
            hashes = page and listed_hashes(page, name, wheel_name, compressed=compressed)
            if hashes:
                changed_at = datetime.fromtimestamp(self._store.path(name, wheel_name).stat().st_mtime, UTC)
                return self._file_of(name, filename, *hashes, None, changed_at)
        return None

    def _find_file(self, name: str, filename: str) -> File | None:
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
        return self._file_of(name, filename, *row)

    def _file_of(  # noqa: PLR0917 - the columns of a row
        self,
        name: str,
        filename: str,
        sha256: str,
        metadata: str,
        size_bytes: int | None,
        changed_at: datetime,
    ) -> File:
        path = self._store.path(name, filename.removesuffix(".metadata"))
        if not filename.endswith(".metadata"):
            return File(path, f'"{sha256}"', changed_at, b"application/octet-stream", size_bytes)
        return File(path.with_name(filename), f'"{metadata}"', changed_at, b"text/plain; charset=utf-8", None)


def _form(content_type: str, *, compress: bool) -> str:
    form = {JSON: "json", V1_HTML: "v1html"}.get(content_type, "html")
    return f"{form}-gz" if compress else form
