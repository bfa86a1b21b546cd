# SPDX-License-Identifier: BSD-3-Clause
"""A PostgreSQL cluster of one's own in a directory, reached by a Unix socket only.

    with Cluster(directory) as cluster:
        url = cluster.create_database("farm")      postgresql://farm@/farm?host=...

PostgreSQL refuses to run as root: then it runs as `postgres`, or as nobody. It knows nothing of the rest
of this repository.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

USER = "farm"
_START_S = 90.0
_ACCOUNTS = ("postgres", "nobody")
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Cluster:
    """A context: initialised and started on entry, stopped on exit. `fsync=False` is for tests only.

    `settings` go into postgresql.conf. The directory is made, and belongs to who runs PostgreSQL.
    """

    def __init__(self, directory: Path, *, fsync: bool = False, **settings: str) -> None:
        self.directory = directory
        self.pid = 0
        self._settings = {"max_connections": "200", **({} if fsync else _FAST), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account()
        self._sockets = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path has 107 bytes at most

    def url(self, database: str) -> str:
        """The URL of a database, as SQLAlchemy and psycopg read it."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self._sockets), safe='')}"

    def create_database(self, name: str, template: str = "template0") -> str:
        """Make a database, and give its URL."""
        self.run("createdb", "--template", template, name)
        return self.url(name)

    def run(self, program: str, *words: str) -> str:
        """Run one of PostgreSQL's programs against the cluster; gives what it prints."""
        environ = {**os.environ, "PGHOST": str(self._sockets), "PGUSER": USER}
        done = subprocess.run(
            [str(_program(program)), *words],
            env=environ,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")
        return done.stdout

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        with (self.directory / "log").open("ab") as log:
            self._process = self._popen(
                "postgres", "-D", str(self.directory / "data"), stdout=log, stderr=log
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(RuntimeError):
                self.run("pg_isready", "-q")
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {(self.directory / 'log').read_text()}")
            time.sleep(0.02)

    def revive(self) -> None:
        """Start it where it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            self.start()

    @property
    def is_running(self) -> bool:
        """True between `start` and `stop`."""
        return self._process is not None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT drops all connections, SIGQUIT is as a power cut. It may be started again."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True)
        if self._account:
            for path in (self.directory, self._sockets):
                shutil.chown(path, self._account)
        self._sockets.chmod(0o755)
        data = self.directory / "data"
        words = ["-D", str(data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        with self._popen("initdb", *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as made:
            said = made.communicate()[0]
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {said.decode(errors='replace')}")
        settings = {"listen_addresses": "", "unix_socket_directories": str(self._sockets), **self._settings}
        lines = "".join(f"{key} = '{value}'\n" for key, value in settings.items())
        with (data / "postgresql.conf").open("a") as file:
            file.write(lines)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _popen(self, program: str, *words: str, **more: int | object) -> subprocess.Popen[bytes]:
        account = {"user": self._account, "group": self._group(), "extra_groups": []} if self._account else {}
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]  # the keywords are Popen's
            [str(_program(program)), *words], stdin=subprocess.DEVNULL, cwd="/", **account, **more
        )

    def _group(self) -> int:
        return pwd.getpwnam(self._account).pw_gid


def _account() -> str:
    """Who runs PostgreSQL where we are root; empty: we do."""
    if os.geteuid() != 0:
        return ""
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is neither postgres nor nobody")


def _program(name: str) -> Path:
    """One of PostgreSQL's programs, of the newest version that is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]), reverse=True
    )
    if not found:
        raise RuntimeError("PostgreSQL is not installed: apt install postgresql")
    return found[0]
