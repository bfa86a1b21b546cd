# SPDX-License-Identifier: BSD-3-Clause
"""Real masters as processes of their own, and what they cost by /proc."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simulator.wire import Address

_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 90.0
_STOP_S = 20.0


class MasterProcess:
    """One `piwheels-node master run` on a port of its own; it may be killed and started again."""

    def __init__(self, data: Path, database: str, settings: Mapping[str, str]) -> None:
        self.address = Address("127.0.0.1", _free_port())
        self.peak_bytes = 0
        self.killed = 0
        self._cpu_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._log = data.parent / f"master-{self.address.port}.log"
        sets = {"master.port": str(self.address.port), "master.database": database, **settings}
        words = [f"{key}={value}" for key, value in sets.items() if value]
        self._command = [
            sys.executable,
            "-m",
            "piwheels_node.cli",
            "-v",
            "master",
            "run",
            "--data",
            str(data),
        ]
        for word in words:
            self._command += ["--set", word]

    def start(self) -> None:
        """Start, and wait until it listens; raises RuntimeError where it does not."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("PIWHEELS_NODE_")}
        environ["PIWHEELS_NODE_SETTINGS"] = os.devnull
        began = len(self.log())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
            )
        deadline = time.monotonic() + _START_S
        while not _listens(self.address):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the master does not start:\n{self.log()[began:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut does."""
        if self._process is not None:
            self.look()
            self._cpu_s += cpu_s(self._process.pid)
            self._process.kill()
            self._process.wait()
            self._process = None
            self.killed += 1

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self.look()
            self._cpu_s += cpu_s(self._process.pid)
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def look(self) -> int:
        """Its memory now, in bytes; the peak is kept."""
        if self._process is None:
            return 0
        now = rss_bytes(self._process.pid)
        self.peak_bytes = max(self.peak_bytes, now)
        return now

    def cpu_s(self) -> float:
        """CPU seconds, of all its lives."""
        return self._cpu_s + (cpu_s(self._process.pid) if self._process else 0.0)

    @property
    def pid(self) -> int:
        """The number of its process; 0 where it has been killed."""
        return self._process.pid if self._process else 0

    def log(self) -> str:
        """What it printed."""
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")
        return ""


@dataclass(frozen=True)
class Load:
    """What processes cost between two moments."""

    at: float
    cpu_s: float

    def share_since(self, before: Load) -> float:
        """Cores in use: 1.0 is one whole core."""
        return (self.cpu_s - before.cpu_s) / max(self.at - before.at, 1e-9)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, its threads and the children that it has waited for included."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / _TICKS
    return 0.0


def family_cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children of now."""
    children = (path.parent.name for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == pid)
    return cpu_s(pid) + sum(cpu_s(int(child)) for child in children)


def rss_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    return 0


def _parent(stat: Path) -> int:
    with contextlib.suppress(OSError):
        return int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    return -1


def _listens(address: Address) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address.host, address.port), 1):
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
