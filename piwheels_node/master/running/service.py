# SPDX-License-Identifier: BSD-3-Clause
r"""The master as one running service: database, store, index, API and upkeep in one process.

    Master(data, settings)      takes `data`: alone, or with other masters of one PostgreSQL (`directory`)
    .start() -> url             the web server (`listener`) in a thread of its own; HTTPS with a certificate
    .drain()                    builders that wait for a job hear at once that there is none
    .stop()                     what is being answered gets 3 s, then everything is closed

    request --> /simple/, /files/ --> Index (plain ASGI)
            \-> everything else  --> API (FastAPI)

While it runs, it does by itself what `upkeep` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
import uvloop
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NodeError, UnavailableError
from piwheels_node.core.messages import TokenRequest, TokenView
from piwheels_node.core.places import CONTENTS
from piwheels_node.core.settings import Settings
from piwheels_node.master.api import PREFIX, Context, make_api
from piwheels_node.master.api.problems import answer_of
from piwheels_node.master.builders import enrolment, keys
from piwheels_node.master.contents import Contents
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Counter
from piwheels_node.master.index.exchange import Receive, Scope, Send
from piwheels_node.master.index.routes import Index
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.running import directory
from piwheels_node.master.running.certificate import pinned_fingerprint, serving_files
from piwheels_node.master.running.following import Following
from piwheels_node.master.running.listener import configure, listen, url_of
from piwheels_node.master.running.upkeep import Upkeep, renew_after_start
from piwheels_node.master.wheels.logs import LogFiles
from piwheels_node.master.wheels.store import WheelStore

_INSTANCE = "instance"
"""Counter with a random number, which tells this database from any other."""

_HANG_S = 5.0
"""How long the loop may take to come round, before the service counts as one that hangs."""

_log = logging.getLogger(__name__)


class Master:
    """A master on one data directory; a context that stops it, or call `stop`.

    Raises NodeError where another process serves the directory, UnavailableError where the database does not
    answer, and StorageError where one of the two is unusable, or they do not belong together.
    """

    def __init__(self, data: Path, settings: Settings) -> None:
        self._data = data.absolute()
        self._settings = settings
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.ExitStack() as opened:
            opened.enter_context(directory.hold(data, shared=directory.is_shared(settings)))
            self._database = opened.enter_context(Database.open(directory.database_url(data, settings)))
            running, is_first = directory.attend(self._data)
            opened.enter_context(running)
            instance = self._take_up(is_first=is_first)
            pypi = PyPI(
                settings.pypi.index_url,
                timeout_s=settings.pypi.timeout_s,
                max_age_s=settings.pypi.max_age_s,
            )
            opened.callback(pypi.close)
            store = WheelStore(self._data)
            logs = LogFiles(self._data / "logs")
            self._context = Context(
                self._database,
                store,
                logs,
                pypi,
                settings,
                fingerprint=pinned_fingerprint(self._data, settings),
                contents=Contents(self._data / CONTENTS),
            )
            self._following = Following(self._database, settings, self._context.now)
            opened.callback(self._following.stop)
            index = Index(
                self._database,
                store,
                instance=instance,
                page_max_age_s=settings.master.page_max_age_s,
                page_cache_bytes=settings.master.page_cache_bytes,
                is_far=directory.is_shared(settings),
                missed=self._following.misses,
                asks=self._following.asks,
            )
            opened.callback(index.close)
            self.app = _Application(index, self._context)
            self._opened = opened.pop_all()

    def create_key(self, kind: str, builder: str | None = None) -> str:
        """Make a key of a kind, `builder` (with the builder's name) or `operator`; it is shown only here."""
        now = datetime.now(UTC)
        return self._database.write(
            lambda session: keys.create_key(session, keys.KeyKind(kind), builder, now)
        )

    def create_join_token(self, wanted: TokenRequest) -> TokenView:
        """Make a join token, as the API does."""
        now, fingerprint = datetime.now(UTC), self._context.fingerprint
        return self._database.write(lambda session: enrolment.create_token(session, wanted, fingerprint, now))

    def knows_key(self, kind: str, key: str) -> bool:
        """True where this key of this kind opens the API."""
        with self._database.read() as session:
            caller = keys.find_key(session, key)
        return caller is not None and caller.kind is keys.KeyKind(kind)

    def start(self) -> str:
        """Listen as the settings say, and give the URL; raises NodeError where that cannot be."""
        tls = serving_files(self._data, self._settings)
        self._server = uvicorn.Server(configure(self.app, tls))
        listener = listen(self._settings.master.host, self._settings.master.port)
        self._thread = threading.Thread(target=self._run, args=(self._server, listener), name="master")
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise NodeError("the web server of the master did not start", hint="the log says why")
            time.sleep(0.005)
        self._following.start()
        return url_of(listener, tls=tls is not None)

    def drain(self) -> None:
        """Give no more jobs out; builders that wait for one hear at once that there is none."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._context.waiting.close)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the web server has ended by itself, which it never should; True where it has."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def is_well(self) -> bool:
        """True where the web server's loop turns, and does not keep requests waiting."""
        turned = threading.Event()
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # the loop is closed
            return False
        return turned.wait(_HANG_S)

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

    def _take_up(self, *, is_first: bool) -> str:
        """See that database and directory belong together; gives the database's number.

        Leases are renewed by the first master only: where others run, builders have been talking to them.
        """

        def begin(session: Session) -> tuple[str, bool, int]:
            return _begin(session, self._settings.master.lease_s if is_first else None)

        instance, has_wheels, renewed = self._database.write(begin)
        directory.belong(self._data, instance, has_wheels=has_wheels and directory.is_shared(self._settings))
        if renewed:
            _log.info("%d leases begin anew: there was no master to keep them", renewed)
        return instance

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(server.serve(sockets=[listener]))
            except Exception:  # noqa: BLE001 - the boundary of the thread: `start` and `stop` see that it ended
                _log.exception("the web server failed")


class _Application:
    """The ASGI application: hot routes first; the upkeep lives as long as it does."""

    def __init__(self, index: Index, context: Context) -> None:
        self._index = index
        self._context = context
        self._api = make_api(context)
        self._upkeep = Upkeep(context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif Index.owns(scope["path"]):
            await self._index(scope, receive, send)
        elif self._upkeep.is_away and scope["path"].startswith(PREFIX):
            away = UnavailableError("the database is away", hint="the master tries it every second")
            await answer_of(away)(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._context.begin()
        upkeep = asyncio.ensure_future(self._upkeep.run())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        upkeep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upkeep
        self._context.end()
        await send({"type": "lifespan.shutdown.complete"})


def _begin(session: Session, lease_s: float | None) -> tuple[str, bool, int]:
    """The number of the database, which is drawn where it is new; whether it has wheels; leases renewed.

    Without `lease_s` none is.
    """
    row = session.get(Counter, _INSTANCE)
    if row is None:
        row = Counter(name=_INSTANCE, value=secrets.randbits(48))
        session.add(row)
    wheels = session.get(Counter, "wheels")
    renewed = renew_after_start(session, datetime.now(UTC), lease_s) if lease_s else 0
    return f"{row.value:x}", wheels is not None and wheels.value > 0, renewed
