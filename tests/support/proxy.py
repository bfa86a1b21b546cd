# SPDX-License-Identifier: BSD-3-Clause
"""A network between a program and a server, which a test can cut: a TCP proxy on loopback.

with Proxy(lambda: connect_to_server()) as proxy:
    proxy.freeze()      nothing gets through any more, and nobody is told, as where a cable is pulled
    proxy.thaw()        what was under way arrives
    proxy.cut()         all connections are reset, and new ones refused; `mend` ends it
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from typing import Self

_CHUNK = 64 << 10


class Proxy:
    """A context; `port` is where it listens on 127.0.0.1."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._is_cut = self._closing = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        self._is_cut = True
        self._reset()

    def mend(self) -> None:
        self._is_cut = False

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing = True
        self._reset()  # before what was held back may go on: after an end, nothing more arrives
        self._flows.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()  # wakes `accept`
        self._accepting.join()
        self._listener.close()
        self._reset()
        for thread in self._threads:
            thread.join()

    def _reset(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing:
                client.close()
                return
            if self._is_cut:
                client.close()
                continue
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, self._connect() as server:
            self._pairs.append((client, server))
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(_CHUNK)
                    self._flows.wait()
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
