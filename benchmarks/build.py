# SPDX-License-Identifier: BSD-3-Clause
"""Wall time of one job here against `pip wheel` and `uv build`, in turn, in one run.

Here: from the lease to the published wheel (fetch, sandboxed build, inspection, upload, the master's own
checks, fsync), with the build environment in its cache and the sdist fetched again each time.
pip: `pip wheel --no-deps --no-binary NAME`, with its cache of downloads warm and its cache of wheels empty.
uv: `uv build --wheel SDIST`, with its caches warm and the sdist on disk: it need not fetch.

    python benchmarks/build.py [--rounds 3] [--data DIR]

Prints the median of the rounds for each package, the ratios, and the median of the ratios by kind.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from packages import QUICK_C, QUICK_PURE
from rich.console import Console
from rich.table import Table

from piwheels_node.client import MasterClient
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuildRequest
from piwheels_node.core.settings import Settings
from piwheels_node.standalone import Standalone

CONTENDERS = ("here", "pip", "uv")
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


def main() -> None:
    """Measure everything in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="where to work; default: a directory in /var/tmp")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="piwheels-node-bench-", dir=arguments.data or "/var/tmp"
    ) as directory:
        Path(directory).chmod(0o755)
        bench = Bench(Path(directory))
        rounds = [bench.round() for _ in range(arguments.rounds + 1)][1:]  # the first warms every cache
    times = {
        name: {key: statistics.median(one[name][key] for one in rounds) for key in CONTENDERS}
        for name in (*QUICK_PURE, *QUICK_C)
    }
    show(times, has_uv=bench.uv is not None)


class Bench:
    """Runs each contender on one package after the other."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        subprocess.run([PYTHON, "-m", "venv", str(work / "venv")], check=True)
        self.python = str(work / "venv" / "bin" / "python")
        subprocess.run([self.python, "-m", "pip", "-q", "install", "--upgrade", "pip"], check=True)
        self.sdists = {name: self.fetch(name) for name in (*QUICK_PURE, *QUICK_C)}

    def round(self) -> dict[str, dict[str, float]]:
        """Every package once by every contender; a new master, so that there are jobs to do.

        The environments are those of the last round; sdists are fetched again.
        """
        data, kept = self.work / "farm", self.work / "environments"
        data.mkdir()
        if kept.exists():
            (data / "builder").mkdir()
            kept.rename(data / "builder" / "environments")
        with Standalone(data, Settings()) as farm, farm.client() as client:
            times = {name: self.measure(client, name) for name in self.sdists}
        (data / "builder" / "environments").rename(kept)
        shutil.rmtree(data)
        return times

    def measure(self, client: MasterClient, name: str) -> dict[str, float]:
        """Seconds of each contender for one package."""
        times = {
            "here": job_seconds(client, name),
            "pip": self.pip(name),
            "uv": self.build_by_uv(self.sdists[name]),
        }
        print(name, {key: round(value, 2) for key, value in times.items()}, file=sys.stderr)
        return times

    def pip(self, name: str) -> float:
        """`pip wheel`, as everybody has it."""
        cache = self.work / "pip-cache"
        shutil.rmtree(cache / "wheels", ignore_errors=True)
        out = tempfile.mkdtemp(dir=self.work)
        command = [self.python, "-m", "pip", "-q", "wheel", "--cache-dir", str(cache), "--no-deps"]
        return timed([*command, "--no-binary", name, "-w", out, name])

    def build_by_uv(self, sdist: Path) -> float:
        """`uv build`, where there is a uv; NaN where there is none."""
        if not self.uv:
            return float("nan")
        out = tempfile.mkdtemp(dir=self.work)
        return timed([self.uv, "build", "-q", "--wheel", "--python", PYTHON, "-o", out, str(sdist)])

    def fetch(self, name: str) -> Path:
        """The sdist, for uv: by pip, which runs the package's code to do it."""
        out = Path(tempfile.mkdtemp(dir=self.work))
        timed(
            [
                self.python,
                "-m",
                "pip",
                "-q",
                "download",
                "--no-deps",
                "--no-binary",
                name,
                "-d",
                str(out),
                name,
            ]
        )
        return next(out.iterdir())


def job_seconds(client: MasterClient, name: str) -> float:
    """Build one project; seconds from its lease to its wheel in the index, by the master's clock."""
    answer = client.request(BuildRequest(project=name, force=True))
    if answer.job is None:
        sys.exit(f"{name}: {answer.what or answer.reason}")
    while not (job := client.job(answer.job.job_id)).state.is_final:
        time.sleep(0.25)
    if job.state is not JobState.BUILT:
        sys.exit(f"{name}: {job.build and job.build.reason} {job.build and job.build.evidence}")
    at = {event.kind: event.at for event in client.events(job.job_id)}
    return (at["built"] - at["leased"]).total_seconds()


def timed(command: list[str]) -> float:
    """Run a command that must succeed; seconds of wall time."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return time.monotonic() - started


def show(times: dict[str, dict[str, float]], *, has_uv: bool) -> None:
    """Seconds and ratios by package, then the medians of the ratios."""
    table = Table(box=None, header_style="bold")
    for title in ("package", "kind", "here", "pip", "uv", "here/pip", "here/uv"):
        table.add_column(title, justify="left" if title in {"package", "kind"} else "right")
    for name, one in times.items():
        ratios = (f"1/{one['pip'] / one['here']:.1f}", f"{one['here'] / one['uv']:.2f}" if has_uv else "")
        seconds = (f"{one[key]:.2f} s" for key in ("here", "pip", "uv"))
        table.add_row(name, "C" if name in QUICK_C else "pure", *seconds, *ratios)
    console = Console()
    console.print(table)
    for kind, names in (("pure", QUICK_PURE), ("C", QUICK_C)):
        ratio = statistics.median(times[name]["pip"] / times[name]["here"] for name in names)
        line = f"{kind}: median {1 / ratio:.3f} of pip's time (1/{ratio:.1f})"
        if has_uv:
            of_uv = statistics.median(times[name]["here"] / times[name]["uv"] for name in names)
            line += f", {of_uv:.2f} of uv's"
        console.print(line)


if __name__ == "__main__":
    main()
