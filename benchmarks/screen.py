# SPDX-License-Identifier: BSD-3-Clause
"""What the dashboard costs the machine that shows it: time to the first frame, processor, bytes and memory.

The command itself runs on a terminal of its own, and asks over HTTP a farm in memory with 3, 30 and 300
builders. First it is not looked at, and asks nothing; then nothing changes on the farm (idle), then all that
moves on a farm does before each question: times, temperatures, load. What a refresh costs is what that takes
more than not being looked at, but for Textual's thread that reads keys: it wakes ten times a second in both,
and differs by more from run to run than a refresh changes it. What it costs a master is in `dashboard.py`.

    python benchmarks/screen.py --seconds 20 --size 80x24
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from fake_farm import FakeFarm
from made_farms import farm_of

FIRST_FRAME = b"Why builds failed"
FOCUS_LOST, FOCUS_BACK = b"\x1b[O", b"\x1b[I"
BUDGETS = {
    "idle cpu %": 1.0,
    "idle B/s": 0.0,
    "refresh B": 6000.0,
    "refresh cpu ms": 5.0,
    "first frame s": 1.0,
}


class Answers(BaseHTTPRequestHandler):
    """A master as far as the first page asks one; `farm` and `moves` are set on the class.

    What is asked next is answered from `ready`: to make it in between would push the dashboard out of the
    processor's caches, which a master on its own machine does not.
    """

    protocol_version = "HTTP/1.1"
    farm: FakeFarm
    moves = False
    asked, asked_at = 0, 0.0
    ready: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        """Answer from the farm."""
        body = self.ready.get(self.path) or self.made()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if "/farm" in self.path:
            if time.monotonic() - self.asked_at > 1:  # else it is the same refresh, which asks for the rest
                type(self).asked += 1
                if self.moves:
                    move(self.farm)
            type(self).asked_at = time.monotonic()
            self.ready[self.path] = self.made()

    def made(self) -> bytes:
        """The answer as the farm is now."""
        asked = urlsplit(self.path)
        first = parse_qs(asked.query).get("first")
        answer = {
            "/farm": lambda: self.farm.farm(rows=True, first=int(first[0]) if first else None),
            "/whoami": self.farm.who_am_i,
            "/failures": self.farm.failures,
        }[asked.path.removeprefix("/api/v1")]
        return answer().model_dump_json(exclude_defaults=True).encode()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def move(farm: FakeFarm) -> None:
    """What has changed on a farm after two seconds."""
    farm.tick(2)
    for number, (name, view) in enumerate(farm.builders_by_name.items()):
        if view.health:
            warm = 45 + (farm.now.second + number) % 20
            health = view.health.model_copy(update={"temperature_c": float(warm), "load_1m": warm / 20})
            farm.change_builder(name, health=health, last_seen_at=farm.now)


@dataclass
class Watched:
    """The dashboard on a terminal."""

    process: subprocess.Popen[bytes]
    end: int
    sent: bytes = b""

    def read(self, wait_s: float) -> None:
        """Take what it has written by then."""
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            if select.select([self.end], [], [], left)[0]:
                self.sent += os.read(self.end, 1 << 16)

    def cpu_s(self) -> float:
        """Processor time so far, to the nanosecond, that of threads which have ended included."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # CPUCLOCK_SCHED of a process, clock_getres(2)

    def thread_s(self, thread: int) -> float:
        """Processor time of one thread so far."""
        return int(Path(f"/proc/{self.process.pid}/task/{thread}/schedstat").read_text().split()[0]) / 1e9

    def key_reader(self) -> int:
        """The thread that works while nobody looks, besides the first."""
        threads = [int(one) for one in os.listdir(f"/proc/{self.process.pid}/task")]
        before = {one: self.thread_s(one) for one in threads if one != self.process.pid}
        self.read(3)
        return max(before, key=lambda one: self.thread_s(one) - before[one])

    def spend(self, seconds: float, without: int | None = None) -> tuple[float, int]:
        """Let it run; gives the processor time and the bytes that it took, `without` one thread's time."""
        cpu, left_out = self.cpu_s(), self.thread_s(without) if without else 0.0
        sent = len(self.sent)
        self.read(seconds)
        if without:
            left_out -= self.thread_s(without)
        return self.cpu_s() - cpu + left_out, len(self.sent) - sent

    def tell(self, keys: bytes) -> None:
        """Send what a terminal sends, and let it settle."""
        os.write(self.end, keys)
        self.read(3)

    def memory_mb(self) -> float:
        """What of it is in memory."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def serving(farm: FakeFarm) -> Iterator[str]:
    """The farm as a master on loopback."""
    Answers.farm, Answers.moves, Answers.asked = farm, False, 0
    Answers.ready.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def showing(url: str, size: tuple[int, int]) -> Iterator[Watched]:
    """The command on a terminal of this size."""
    end, theirs = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    with tempfile.NamedTemporaryFile("w") as key:
        key.write("key")
        key.flush()
        words = ["dashboard", "--master", url, "--key-file", key.name, "--interval", "2"]
        process = subprocess.Popen(
            [sys.executable, "-m", "piwheels_node.cli", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": ""},
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield Watched(process, end)
        finally:
            process.kill()
            process.wait()
            os.close(end)


def measure(builders: int, size: tuple[int, int], seconds: float) -> dict[str, float]:
    """All figures for one farm."""
    with serving(farm_of(builders, builds=20 * min(builders, 30))) as url:
        begun = time.monotonic()
        with showing(url, size) as shown:
            while FIRST_FRAME not in shown.sent:
                shown.read(0.01)
            first_s, first_bytes = time.monotonic() - begun, len(shown.sent)
            shown.tell(FOCUS_LOST)
            keys = shown.key_reader()
            unseen_cpu, _ = shown.spend(seconds, without=keys)
            shown.tell(FOCUS_BACK)
            idle_cpu, idle_bytes = shown.spend(seconds)
            Answers.moves, asked = True, Answers.asked
            cpu, sent = shown.spend(seconds, without=keys)
            refreshes = Answers.asked - asked
            return {
                "builders": builders,
                "first frame s": first_s,
                "first frame B": first_bytes,
                "idle cpu %": 100 * idle_cpu / seconds,
                "idle B/s": idle_bytes / seconds,
                "refresh B": sent / refreshes,
                "refresh cpu ms": 1000 * (cpu - unseen_cpu) / refreshes,
                "memory MB": shown.memory_mb(),
            }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--builders", type=int, nargs="+", default=[3, 30, 300])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", default="80x24")
    options = parser.parse_args()
    columns, lines = map(int, options.size.split("x"))
    results = [measure(builders, (columns, lines), options.seconds) for builders in options.builders]
    table = Table(*results[0], title=f"{columns}x{lines}, a question every 2 s")
    for one in results:
        table.add_row(
            *(
                f"[bold red]{value:.3g}[/]" if value > BUDGETS.get(name, value) else f"{value:.4g}"
                for name, value in one.items()
            )
        )
    Console().print(table)
    print("budgets:", ", ".join(f"{name} {most:g}" for name, most in BUDGETS.items()))


if __name__ == "__main__":
    main()
