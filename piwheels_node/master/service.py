# SPDX-License-Identifier: BSD-3-Clause
r"""The master as one running service: database, store, index, API and reaper in one process.

    Master(data, settings)      opens everything in `data`, alone (an flock)
    .start() -> url             uvicorn with uvloop and httptools, in a thread of its own
    .stop()                     builders that wait for a job hear at once that there is none

    request --> /simple/, /files/ --> Index (plain ASGI)
            \-> everything else  --> API (FastAPI)

uvloop and httptools are named here on purpose: without them uvicorn is 5 to 8 times slower (measured).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import secrets
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import uvicorn
import uvloop
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NodeError
from piwheels_node.core.settings import Settings
from piwheels_node.master import keys, queue
from piwheels_node.master.api import Context, make_api
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Counter
from piwheels_node.master.index import Index, Receive, Scope, Send
from piwheels_node.master.logs import LogFiles
from piwheels_node.master.pypi import PyPI
from piwheels_node.master.store import WheelStore

DATABASE = "database.sqlite"
_MOST_REAP_S = 5.0
_CLEAN_EVERY_S = 3600.0
_KEEP_ALIVE_S = 75
"""Longer than a builder is silent, so that it need not connect for each heartbeat."""
_GRACE_S = 3
_LAST_PORT = 65535
_INSTANCE = "instance"
"""Counter with a random number, which tells this database from any other."""

_log = logging.getLogger(__name__)


class Master:
    """A master on one data directory; a context that stops it, or call `stop`.

    Raises NodeError where another process serves the directory, and StorageError where it is unusable.
    """

    def __init__(self, data: Path, settings: Settings) -> None:
        self._settings = settings
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.ExitStack() as opened:
            opened.enter_context(_lock(data))
            self._database = opened.enter_context(Database.open(f"sqlite:///{data.absolute() / DATABASE}"))
            pypi = PyPI(
                settings.pypi.index_url,
                timeout_s=settings.pypi.timeout_s,
                max_age_s=settings.pypi.max_age_s,
            )
            opened.callback(pypi.close)
            store = WheelStore(data.absolute())
            logs = LogFiles(data.absolute() / "logs")
            self._context = Context(self._database, store, logs, pypi, settings)
            index = Index(
                self._database,
                store,
                instance=f"{self._database.write(_instance):x}",
                page_max_age_s=settings.master.page_max_age_s,
                page_cache_bytes=settings.master.page_cache_bytes,
            )
            self.app = _Application(index, self._context)
            self._opened = opened.pop_all()

    def create_key(self, kind: str, builder: str | None = None) -> str:
        """Make a key of a kind, `builder` (with the builder's name) or `operator`; it is shown only here."""
        now = datetime.now(UTC)
        return self._database.write(
            lambda session: keys.create_key(session, keys.KeyKind(kind), builder, now)
        )

    def knows_key(self, kind: str, key: str) -> bool:
        """True where this key of this kind opens the API."""
        with self._database.read() as session:
            caller = keys.find_key(session, key)
        return caller is not None and caller.kind is keys.KeyKind(kind)

    def start(self) -> str:
        """Listen as the settings say, and give the URL; raises NodeError where that cannot be."""
        listener = _listen(self._settings.master.host, self._settings.master.port)
        config = uvicorn.Config(
            self.app,
            loop="none",  # we make the loop ourselves, without touching the policy of the process
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(self._server, listener), name="master")
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise NodeError("the web server of the master did not start", hint="the log says why")
            time.sleep(0.005)
        host, port = listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def drain(self) -> None:
        """Give no more jobs out; builders that wait for one hear at once that there is none."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._context.bell.close)

    def stop(self) -> None:
        """Finish what is being answered (3 s at most), and close everything. May be called again."""
        if self._thread is not None and self._server is not None:
            self._server.should_exit = True
            self.drain()
            self._thread.join()
            self._thread = None
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(server.serve(sockets=[listener]))
            except Exception:  # noqa: BLE001 - the boundary of the thread: `start` and `stop` see that it ended
                _log.exception("the web server failed")


class _Application:
    """The ASGI application: hot routes first; the reaper lives as long as it does."""

    def __init__(self, index: Index, context: Context) -> None:
        self._index = index
        self._context = context
        self._api = make_api(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif Index.owns(scope["path"]):
            await self._index(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        reaper = asyncio.ensure_future(self._reap())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        reaper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reaper
        await send({"type": "lifespan.shutdown.complete"})

    async def _reap(self) -> None:
        here = self._context
        every_s = min(_MOST_REAP_S, here.settings.master.lease_s / 4)
        clean_at = 0.0
        while True:
            try:
                lost = await here.database.awrite(
                    lambda session: queue.reap(session, here.now(), here.settings.master)
                )
                if lost:
                    _log.warning("builders are gone; their jobs %s go to others", lost)
                    here.bell.ring()
                if time.monotonic() >= clean_at:
                    clean_at = time.monotonic() + _CLEAN_EVERY_S
                    await asyncio.to_thread(here.store.clean, here.now())
            except Exception:  # noqa: BLE001 - the boundary of a task: the next round may succeed
                _log.exception("the reaper failed")
            await asyncio.sleep(every_s)


def _lock(data: Path) -> IO[str]:
    """A file that holds the directory for this process while it is open; raises NodeError."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / "lock").open("a+")
    except OSError as error:
        raise NodeError(
            f"the data directory cannot be used: {error.strerror}",
            where=str(data),
            hint="name one that you may write to",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise NodeError(
            f"process {holder or '(unknown)'} serves this directory already",
            where=str(data),
            hint="ask that one, end it, or name another directory",
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _instance(session: Session) -> int:
    row = session.get(Counter, _INSTANCE)
    if row is None:
        row = Counter(name=_INSTANCE, value=secrets.randbits(48))
        session.add(row)
    return row.value


def _listen(host: str, port: int) -> socket.socket:
    where = f"{host}:{port}"
    hint = (
        "set master.port to another port, or to 0 for any free one; master.host to an address of this machine"
    )
    if port > _LAST_PORT:  # the C library would wrap it round
        raise NodeError(f"a port is a number up to {_LAST_PORT}", where=where, hint=hint)
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        in_use = error.errno == errno.EADDRINUSE
        what = "another program listens there" if in_use else f"cannot listen: {error.strerror}"
        raise NodeError(what, where=where, hint=hint) from error
    return listener
