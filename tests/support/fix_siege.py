# SPDX-License-Identifier: BSD-3-Clause
"""A master as a process of its own, with jobs and builders, to be treated badly; and what it stands.

with siege.watched() as watch: ...      meanwhile the status is asked, and the memory looked at
siege.pour(...)                         a request whose body does not end
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sdists import make_wheel

from piwheels_node.client import MasterClient
from piwheels_node.core.jobs import Outcome
from piwheels_node.core.messages import Hello, Lease, LeaseRequest, OfferedTarget, Report, WheelClaim

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from simulator.fill import fill
from simulator.masters import MasterProcess, rss_bytes
from simulator.world import TARGETS, World

SLOWEST_S = 20.0
MOST_GROWTH_BYTES = 100 << 20
LEASE_S = 120.0
JOBS, BUILDERS = 200, 6
_LOOK_S = 0.02
_CHUNK = b"x" * 65536


@dataclass
class Watch:
    """What the master was like while it was watched."""

    answers_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)

    @property
    def growth_bytes(self):
        return max(self.memory_bytes) - self.memory_bytes[0]


class Siege:
    """The master, keys of builders and an operator, and ways to be a nuisance."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.data = directory / "master"
        self._made = directory / "made"
        self.data.mkdir()
        self._made.mkdir()
        database = f"sqlite:///{self.data / 'database.sqlite'}"
        made = fill(database, self.data, World(seed=1, jobs=JOBS, scale=1.0), builders=BUILDERS)
        self.keys, self.operator_key = made.builders, made.operator
        shown = {f"master.{key}": str(value) for key, value in settings.items() if "__" not in key}
        shown |= {key.replace("__", "."): str(value) for key, value in settings.items() if "__" in key}
        self.master = MasterProcess(self.data, "", {"master.lease_s": str(LEASE_S), **shown})
        self.master.start()
        self.url = str(self.master.address)
        self.sessions = ["".join(f"{number}" * 32) for number in range(BUILDERS)]
        self._closing = contextlib.ExitStack()
        self.reader = self._client(None)
        self.operator = self._client(self.operator_key)
        self.builders = [
            self._client(key, session) for key, session in zip(self.keys, self.sessions, strict=True)
        ]
        self.offer = [OfferedTarget(name=name, environment_id="siege") for name in TARGETS]
        for builder, session in zip(self.builders, self.sessions, strict=True):
            builder.hello(Hello(targets=self.offer, session=session))

    def close(self) -> None:
        self._closing.close()
        self.master.stop()

    def lease(self, number: int = 0) -> Lease:
        """A job for a builder."""
        lease = self.builders[number].lease(LeaseRequest(targets=self.offer))
        assert lease is not None
        return lease

    def wheel(self, lease: Lease, **lies: Any) -> Path:
        """A wheel of what a lease is about; and what is false in it."""
        words = {"name": lease.project, "version": lease.version, **lies}
        path = make_wheel(self._made, **words)
        # Some releases have two targets: where another test has published the one, its name is taken.
        return path if path.name not in lease.taken_names else make_wheel(self._made, **words, build="1")

    def built(self, lease: Lease, path: Path, **lies: Any) -> Report:
        content = path.read_bytes()
        claim = {
            "filename": path.name,
            "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            **lies,
        }
        return Report(
            token=lease.token, outcome=Outcome.BUILT, duration_s=1.0, wheel=WheelClaim.model_validate(claim)
        )

    @contextlib.contextmanager
    def watched(self):
        """Look at the master all the time; at the end it must have been answering, and not have grown."""
        watch, done = Watch(), threading.Event()
        process = self.master.pid

        def look():
            with self._client(None, timeout_s=20.0) as client:
                while True:
                    started = time.monotonic()
                    try:
                        client.status()
                    except Exception as error:  # noqa: BLE001 - the boundary of a thread: told at the end
                        watch.failures.append(repr(error))
                    watch.answers_s.append(time.monotonic() - started)
                    watch.memory_bytes.append(rss_bytes(process))
                    if done.wait(_LOOK_S):
                        return

        self.reader.status()
        watch.memory_bytes.append(rss_bytes(process))
        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield watch
        finally:
            done.set()
            watcher.join()
        assert watch.failures == []
        assert max(watch.answers_s) < SLOWEST_S
        assert watch.growth_bytes < MOST_GROWTH_BYTES

    def head(self, path: str, *, method: str = "POST", builder: int | None = 0, **headers: str) -> bytes:
        """The beginning of a request; the names of headers have underscores."""
        lines = [f"{method} /api/v1{path} HTTP/1.1", "Host: master", "Content-Type: application/json"]
        if builder is not None:
            lines += [
                f"Authorization: Bearer {self.keys[builder]}",
                f"X-Builder-Session: {self.sessions[builder]}",
            ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def connect(self) -> socket.socket:
        address = self.master.address
        return socket.create_connection((address.host, address.port), 10)

    def pour(self, head: bytes, *, chunked: bool, most_bytes: int = 1 << 30) -> tuple[int, int]:
        """Send a body until the master says something, `most_bytes` at most.

        Gives the status, 0 where it only closed the connection, and how much was sent.
        """
        piece = b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK) if chunked else _CHUNK
        sent = 0
        with self.connect() as connection:
            try:
                connection.sendall(head)
                while sent < most_bytes and not select.select([connection], [], [], 0)[0]:
                    connection.sendall(piece)
                    sent += len(_CHUNK)
                answer = connection.recv(4096)
            except ConnectionError:
                return 0, sent
        return (int(answer.split(b" ", 2)[1]) if answer else 0), sent

    def say(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """A whole request; gives the status, and what is known of the answer by then."""
        head = head[:-2] + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        answer = bytearray()
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(head + body)
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    answer += part
        return int(answer.split(b" ", 2)[1]), bytes(answer).partition(b"\r\n\r\n")[2]

    def _client(
        self, key: str | None, session: str | None = None, *, timeout_s: float = 30.0
    ) -> MasterClient:
        client = MasterClient(self.url, key, session=session, timeout_s=timeout_s)
        self._closing.callback(client.close)
        return client


@pytest.fixture
def make_siege(tmp_path):
    """Maker of masters under siege, with settings of the master."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(contextlib.closing(Siege(tmp_path, **settings)))


@pytest.fixture(scope="module")
def siege(tmp_path_factory):
    """A master with the default settings, for all tests of a module: starting one takes a second."""
    with contextlib.closing(Siege(tmp_path_factory.mktemp("siege"))) as made:
        yield made
