# SPDX-License-Identifier: BSD-3-Clause
"""Builds here against `pip wheel` and `uv build`, in turn, in one run.

    python benchmarks/build.py [--quick] [--rounds 3] [--data DIR] [--only NAME,...]

Without `--quick`: 20 pure and 10 C packages, built by each contender as one queue, with caches cold and warm,
by one slot and by two; packages an hour and ratios are printed. Then what the sandbox alone costs a step, and
what memory an idle builder has held at most.

    here   the master's queue, from the first lease to the last wheel in the index: fetch, sandboxed build,
           inspection, upload, the master's own checks, fsync. Cold: no build environments, no downloads;
           warm: environments are there, and sdists are fetched again, as they must be in a farm
    pip    `pip wheel --no-deps --no-binary NAME`, its cache of wheels empty; warm: its downloads are there
    uv     `uv build --wheel SDIST`; the sdist lies on the disk: it need not fetch

With `--quick`: 10 pure and 4 C packages one by one, warm; the median of the rounds of each, and its ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from alone import work_directory, workshop
from contenders import Contenders, all_of
from packages import PURE, QUICK_C, QUICK_PURE, C
from rich.console import Console
from rich.table import Table

from piwheels_node.client import MasterClient
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuildRequest, JobView
from piwheels_node.core.settings import Settings
from piwheels_node.standalone import Standalone

HERE = "here"
SLOTS = (1, 2)
_SANDBOX_RUNS = 20
_IDLE_S = 20.0


def main() -> None:
    """Measure everything in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer packages, one by one, warm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="where to work; default: a directory in /var/tmp")
    parser.add_argument("--only", type=lambda text: text.split(","), help="these packages only")
    arguments = parser.parse_args()
    lists = {"pure": QUICK_PURE, "C": QUICK_C} if arguments.quick else {"pure": PURE, "C": C}
    kinds = {
        kind: [name for name in names if arguments.only is None or name in arguments.only]
        for kind, names in lists.items()
    }
    console = Console(highlight=False)
    with work_directory(arguments.data) as work:
        bench = Bench(work, [*kinds["pure"], *kinds["C"]])
        if arguments.quick:
            show_each(console, bench, kinds, arguments.rounds)
        else:
            show_queues(console, bench, kinds, arguments.rounds)
            console.print(f"the sandbox alone: {sandbox_s(work) * 1e3:.0f} ms a step")
            console.print(f"an idle builder: {idle_bytes(work) / (1 << 20):.0f} MiB at most")


class Bench:
    """Runs each contender; a farm of ours is new each time, so that there are jobs to do."""

    def __init__(self, work: Path, projects: Sequence[str]) -> None:
        self.work = work
        self.others = Contenders(work, projects)

    @property
    def names(self) -> list[str]:
        """Who takes part."""
        return [HERE, *self.others.builders]

    def one_by_one(self, projects: Sequence[str]) -> dict[str, dict[str, float]]:
        """Seconds of every package by every contender, with our environments of the last round."""
        data = self._farm(is_cold=False)
        with Standalone(data, Settings()) as farm, farm.client() as client:
            times = {}
            for name in projects:
                times[name] = {HERE: job_seconds(built(client, name, ask(client, name)), client)}
                self.others.forget(everything=False)
                times[name] |= {other: build(name) for other, build in self.others.builders.items()}
                shown = {key: round(value, 2) for key, value in times[name].items()}
                print(name, shown, file=sys.stderr)
        self._keep(data)
        return times

    def queue(self, contender: str, projects: Sequence[str], slots: int, *, is_cold: bool) -> float:
        """Seconds in which a contender builds them all."""
        if contender != HERE:
            self.others.forget(everything=is_cold)
            return all_of(self.others.builders[contender], projects, slots)
        settings = Settings()
        settings = dataclasses.replace(settings, builder=dataclasses.replace(settings.builder, slots=slots))
        data = self._farm(is_cold=is_cold)
        with Standalone(data, settings) as farm, farm.client() as client:
            jobs = {name: ask(client, name) for name in projects}
            ended = [built(client, name, job_id) for name, job_id in jobs.items()]
            seconds = span_seconds(ended, client)
        self._keep(data)
        return seconds

    def _farm(self, *, is_cold: bool) -> Path:
        data, kept = self.work / "farm", self.work / "environments"
        data.mkdir()
        if is_cold:
            shutil.rmtree(kept, ignore_errors=True)
        if kept.exists():
            (data / "builder").mkdir()
            kept.rename(data / "builder" / "environments")
        return data

    def _keep(self, data: Path) -> None:
        (data / "builder" / "environments").rename(self.work / "environments")
        shutil.rmtree(data)


def ask(client: MasterClient, name: str) -> int:
    """Ask for a project; gives its job."""
    answer = client.request(BuildRequest(project=name, force=True))
    if answer.job is None:
        sys.exit(f"{name}: {answer.what or answer.reason}")
    return answer.job.job_id


def built(client: MasterClient, name: str, job_id: int) -> JobView:
    """Wait for a job; it must succeed."""
    while not (job := client.job(job_id)).state.is_final:
        time.sleep(0.25)
    if job.state is not JobState.BUILT:
        sys.exit(f"{name}: {job.build and job.build.reason} {job.build and job.build.evidence}")
    return job


def job_seconds(job: JobView, client: MasterClient) -> float:
    """From the lease to the wheel in the index, by the master's clock."""
    return span_seconds([job], client)


def span_seconds(jobs: Sequence[JobView], client: MasterClient) -> float:
    """From the first lease to the last wheel in the index, by the master's clock."""
    events = [event for job in jobs for event in client.events(job.job_id)]
    began = min(event.at for event in events if event.kind == "leased")
    return (max(event.at for event in events if event.kind == "built") - began).total_seconds()


def sandbox_s(work: Path) -> float:
    """What it costs to run nothing in the sandbox, more than to run it outside: the median."""
    with workshop(work / "sandbox") as shop:
        command = [str(shop.interpreter.path), "-I", "-c", ""]
        inside, outside = [], []
        for _ in range(_SANDBOX_RUNS):
            started = time.monotonic()
            shop.sandbox.check()
            inside.append(time.monotonic() - started)
            started = time.monotonic()
            subprocess.run(command, check=True)
            outside.append(time.monotonic() - started)
    return statistics.median(inside) - statistics.median(outside)


def idle_bytes(work: Path) -> int:
    """The most that a builder which has joined, and has nothing to do, has held of memory (VmHWM)."""
    data, member = work / "idle-master", work / "idle-builder"
    data.mkdir()
    with Standalone(data, Settings()) as farm:
        token = subprocess.run(
            [*NODE, "master", "token", "new", "--data", str(data)], capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        join = [
            *NODE,
            "builder",
            "join",
            farm.index_url.removesuffix("/simple/"),
            token,
            "--name",
            "idle",
            "--data",
            str(member),
        ]
        subprocess.run(join, check=True, capture_output=True)
        with subprocess.Popen([*NODE, "builder", "run", "--data", str(member)]) as process:
            time.sleep(_IDLE_S)
            status = Path(f"/proc/{process.pid}/status").read_text()
            process.terminate()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


NODE = (sys.executable, "-m", "piwheels_node.cli")


def show_queues(console: Console, bench: Bench, kinds: dict[str, list[str]], rounds: int) -> None:
    """Packages an hour by contender, for each kind, cold and warm, one slot and two."""
    table = Table(box=None, header_style="bold")
    titles = ("kind", "caches", "slots", *(f"{name}/h" for name in bench.names), "x pip", "x uv")
    for title in titles:
        table.add_column(title, justify="left" if title in {"kind", "caches"} else "right")
    for kind, projects in ((kind, names) for kind, names in kinds.items() if names):
        for is_cold in (True, False):
            for slots in SLOTS:
                seconds = {
                    name: statistics.median(
                        bench.queue(name, projects, slots, is_cold=is_cold) for _ in range(rounds)
                    )
                    for name in bench.names
                }
                ratios = [
                    f"{seconds[name] / seconds[HERE]:.2f}" if name in seconds else ""
                    for name in ("pip", "uv")
                ]
                rates = [f"{len(projects) / seconds[name] * 3600:,.0f}" for name in bench.names]
                row = (kind, "cold" if is_cold else "warm", str(slots), *rates, *ratios)
                print(*row, file=sys.stderr)
                table.add_row(*row)
    console.print(table)


def show_each(console: Console, bench: Bench, kinds: dict[str, list[str]], rounds: int) -> None:
    """Seconds and ratios by package, then the medians of the ratios."""
    projects = [*kinds["pure"], *kinds["C"]]
    measured = [bench.one_by_one(projects) for _ in range(rounds + 1)][1:]  # the first warms every cache
    times = {
        name: {key: statistics.median(one[name][key] for one in measured) for key in bench.names}
        for name in projects
    }
    table = Table(box=None, header_style="bold")
    for title in ("package", "kind", *bench.names, *(f"here/{name}" for name in bench.names[1:])):
        table.add_column(title, justify="left" if title in {"package", "kind"} else "right")
    for name, one in times.items():
        ratios = [f"{one[HERE] / one[other]:.2f}" for other in bench.names[1:]]
        seconds = (f"{one[key]:.2f} s" for key in bench.names)
        table.add_row(name, "C" if name in kinds["C"] else "pure", *seconds, *ratios)
    console.print(table)
    for kind, names in ((kind, names) for kind, names in kinds.items() if names):
        for other in bench.names[1:]:
            ratio = statistics.median(times[name][HERE] / times[name][other] for name in names)
            console.print(f"{kind}: median {ratio:.3f} of {other}'s time")


if __name__ == "__main__":
    main()
