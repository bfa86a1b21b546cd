# SPDX-License-Identifier: BSD-3-Clause
"""Hears what other masters announce on the same PostgreSQL: LISTEN, on a connection and thread of its own.

Where the connection is lost, it is made again, with growing pauses; as nobody knows what was announced
meanwhile, `*` is heard then: anything may have happened.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL

from piwheels_node.master.database import postgres

EVERYTHING = "*"
"""The topic that stands for all of them."""

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_log = logging.getLogger(__name__)


class Listener:
    """Calls `heard` with each topic, from its own thread, until it is closed."""

    def __init__(self, url: URL, origin: str, heard: Callable[[str], None]) -> None:
        self._driver = postgres.driver(url)
        url = postgres.normal(url)
        _, arguments = url.get_dialect()().create_connect_args(url)
        self._arguments: dict[str, Any] = {**arguments, **postgres.connect_arguments(url, {})}
        self._where = postgres.where(url)
        self._origin = origin
        self._heard = heard
        self._closing = threading.Event()
        self._told, self._teller = socket.socketpair()  # so that `close` ends the waiting at once
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-listener", daemon=True)
        self._thread.start()
        self._ready.wait(postgres.CONNECT_TIMEOUT_S)

    def close(self) -> None:
        """Hear nothing any more."""
        self._closing.set()
        self._teller.send(b"x")
        self._thread.join()
        self._told.close()
        self._teller.close()

    def _run(self) -> None:
        pause_s, missed = _FIRST_PAUSE_S, False
        while not self._closing.is_set():
            try:
                with self._driver.connect(**self._arguments, autocommit=True) as connection:
                    connection.execute(f"LISTEN {postgres.CHANNEL}")
                    if missed:
                        _log.info("announcements of other masters are heard again")
                        self._tell(EVERYTHING)
                    self._ready.set()
                    pause_s = _FIRST_PAUSE_S
                    self._listen(connection)
            except (self._driver.Error, OSError) as error:
                if not missed and not self._closing.is_set():
                    _log.warning("announcements of other masters are not heard: %s: %s", self._where, error)
                missed = True
                self._closing.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _listen(self, connection: Any) -> None:
        while not self._closing.is_set():
            select.select([connection.fileno(), self._told], [], [])
            if self._closing.is_set():
                return
            connection.pgconn.consume_input()  # raises where the connection is gone
            while note := connection.pgconn.notifies():
                self._hear(note.extra.decode())

    def _hear(self, payload: str) -> None:
        origin, _, rest = payload.partition(" ")
        often, _, topic = rest.partition(" ")
        if origin != self._origin and often.isdecimal():  # what this process announced it knows already
            for _ in range(int(often)):
                self._tell(topic)

    def _tell(self, topic: str) -> None:
        try:
            self._heard(topic)
        except Exception:  # noqa: BLE001 - the boundary of the thread: the next topic may be understood
            _log.exception("nobody could be told that %s", topic)
