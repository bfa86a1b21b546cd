# SPDX-License-Identifier: BSD-3-Clause
"""Master and builder in one process, for one machine: the whole farm in a directory.

    DIR/database.sqlite   the queue, the builds, the index      DIR/wheels/   what the index serves
    DIR/builder/          environments, downloads, builds       DIR/logs/     one log per build
    DIR/keys/             keys of the operator and the builder, for the owner only
    DIR/endpoint.json     where the master listens, while it runs

The builder speaks HTTP to the master on loopback, exactly as a builder on another machine would.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from piwheels_node.builder.farm.service import BuilderService, Observer
from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.machine.health import slots
from piwheels_node.builder.workshop import Workshop
from piwheels_node.client import MasterClient
from piwheels_node.core.places import BUILDER, BUILDER_KEY, OPERATOR_KEY
from piwheels_node.core.settings import Settings
from piwheels_node.master.running.certificate import is_loopback
from piwheels_node.master.running.keyfiles import endpoint, keep_key, make_directory
from piwheels_node.master.running.service import Master

_RETRY_DELAY_S = 0.25
"""There is no other builder that could do better; the one that failed waits four times as long."""


class Standalone:
    """A farm of one machine, as a context: it serves and builds from entry to exit.

    Raises SandboxUnavailableError where nothing can be confined, and NodeError where the directory is in
    use or the port is taken. On exit the sandboxes are gone and unfinished jobs are back in the queue.
    """

    def __init__(self, data: Path, settings: Settings, observer: Observer | None = None) -> None:
        delay_s = min(settings.master.retry_delay_s, _RETRY_DELAY_S)
        self.data = data
        self.settings = dataclasses.replace(
            settings,
            master=dataclasses.replace(
                settings.master,
                retry_delay_s=delay_s,
                host=settings.master.host if is_loopback(settings.master.host) else "127.0.0.1",
                proxied=True,  # plain HTTP: nobody else can reach it
            ),
            builder=dataclasses.replace(settings.builder, pause_disk_bytes=0),  # nobody else could build it
        )
        self.observer = observer
        self.url = ""
        self._closing = contextlib.ExitStack()

    @property
    def index_url(self) -> str:
        """What pip is given as `--extra-index-url`."""
        return f"{self.url}/simple/"

    def client(self) -> MasterClient:
        """A client with the operator's key."""
        return MasterClient(self.url, (self.data / OPERATOR_KEY).read_text().strip())

    def __enter__(self) -> Self:
        with self._closing as closing:
            interpreter = probe(self.settings.builder.python)  # first: a wrong one leaves nothing behind
            make_directory(self.data)
            master = Master(self.data, self.settings)
            closing.callback(master.stop)
            self.url = master.start()
            builder_name = f"{socket.gethostname()} (standalone)"
            _keep_key(self.data / OPERATOR_KEY, master, "operator")
            builder_key = _keep_key(self.data / BUILDER_KEY, master, "builder", builder_name)
            workshop = Workshop(
                self.data / BUILDER,
                interpreter,
                self.settings,
                extra_index_url=self.index_url,
                stop=threading.Event(),
            )
            closing.callback(workshop.close)
            client = MasterClient(self.url, builder_key, session=secrets.token_urlsafe(16))
            closing.callback(client.close)
            builder = BuilderService(
                client,
                workshop,
                slots=self.settings.builder.slots or slots(),
                observer=self.observer,
            )
            closing.callback(builder.stop)
            builder.start()
            closing.callback(master.drain)  # else a slot that waits would get what another one hands back
            closing.enter_context(endpoint(self.data, self.url))
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()


def _keep_key(path: Path, master: Master, kind: str, builder: str | None = None) -> str:
    return keep_key(
        path,
        is_good=lambda key: master.knows_key(kind, key),
        make=lambda: master.create_key(kind, builder),
    )
