# SPDX-License-Identifier: BSD-3-Clause
"""A fleet of simulated builders against real masters: what does it cost, and is anything lost?

    benchmarks/fleet.py --builders 300 --jobs 5000 --faults 1 --engine postgresql --masters 3
    benchmarks/fleet.py --builders 500 --idle

Builders are light clients of the real API over real connections; masters are processes of their own. Job
lengths are those of a real farm times `--scale`. Builders are killed, connections cut, reports sent twice, a
person pauses builders and cancels jobs, and, of several masters, one is killed now and then. When all jobs
have ended the account is made (`simulator.account`): exit code 1 where it does not close.

`--idle` measures what a farm costs that has long jobs in hand, and one that waits for jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from simulator import account
from simulator.builder import Shared, SimulatedBuilder
from simulator.faults import Faults
from simulator.fill import Keys, builder_name, fill
from simulator.masters import Load, MasterProcess, family_cpu_s
from simulator.wire import Figures, Link, LinkError
from simulator.world import World

_LOOK_S = 0.5
_GRACE_S = 1.0
_MOST_ERRORS = 20
_ENDS = ("built", "failed", "quarantined", "cancelled")


@dataclass
class Farm:
    """Masters, their database and their directory."""

    data: Path
    database: str
    keys: Keys
    masters: list[MasterProcess]
    cluster: Any = None
    "PostgreSQL, where there is one (`postgres.Cluster` of the tests)."

    def deadlocks(self) -> int:
        """How often PostgreSQL had to end a transaction for another one's sake."""
        if self.cluster is None:
            return 0
        log: str = (self.cluster.directory / "log").read_text(errors="replace")
        return log.count("deadlock detected")

    def errors(self) -> list[str]:
        """The last lines of all masters that tell of errors."""
        lines = [line for master in self.masters for line in master.log().splitlines()]
        return [line for line in lines if line.startswith(("ERROR", "CRITICAL"))][-_MOST_ERRORS:]

    def load(self) -> Load:
        """CPU of all masters so far."""
        return Load(time.monotonic(), sum(master.cpu_s() for master in self.masters))

    def database_load(self) -> Load:
        """CPU of PostgreSQL so far."""
        return Load(time.monotonic(), family_cpu_s(self.cluster.pid) if self.cluster else 0.0)


@dataclass
class Run:
    """What a run gave."""

    seconds: float = 0.0
    ended: dict[str, int] = field(default_factory=dict)
    in_time: bool = False
    master_cpu: float = 0.0
    database_cpu: float = 0.0
    own_cpu: float = 0.0
    memory_bytes: int = 0
    masters_killed: int = 0
    deadlocks: int = 0
    status_s: list[float] = field(default_factory=list)


def main() -> None:
    """Run as the options say; exit code 1 where the account does not close."""
    options = options_of(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # masters end with us
    if options.idle:
        _print(
            {"busy": _live_only(options, 2 * options.builders), "waiting": _live_only(options, 0)}, options
        )
        return
    world = World(options.seed, options.jobs, options.scale, options.failures)
    with farm_of(options, world) as farm:
        shared = shared_by(options, world, farm)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            run = runner.run(drive(farm, shared, options))
        made = account.close(
            farm.database, farm.data, options.jobs, shared.ledger, master=str(farm.masters[0].address)
        )
        if not run.in_time:
            made.complaints.insert(0, f"the jobs have not ended within {options.timeout:g} s: {run.ended}")
        _print(_results(options, run, shared, made, farm.errors()), options)
        if options.keep:
            print(f"kept: {farm.data.parent}", file=sys.stderr)
    sys.exit(0 if made.closes else 1)


def _live_only(options: argparse.Namespace, jobs: int) -> dict[str, Any]:
    """Figures of a farm whose builders have jobs of hours in hand, or none at all where there are no jobs."""
    world = World(options.seed, jobs, scale=3600.0, failures=0.0)
    with farm_of(options, world) as farm:
        shared = shared_by(options, world, farm)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_idle(farm, shared, options.seconds))


def shared_by(options: argparse.Namespace, world: World, farm: Farm) -> Shared:
    """What the builders of a run have in common."""
    addresses = [master.address for master in farm.masters]
    faults = Faults().times(options.faults)
    return Shared(world, faults, addresses, options.lease, options.poll, farm.keys.operator)


def options_of(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--builders", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--engine", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument(
        "--masters", type=int, default=1, help="several need postgresql; one is killed at random"
    )
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds between kills of masters")
    parser.add_argument(
        "--faults", type=float, default=0.0, help="0: none, 1: the usual shares, 2: twice those"
    )
    parser.add_argument("--failures", type=float, default=0.1, help="share of releases that cannot be built")
    parser.add_argument("--scale", type=float, default=0.01, help="length of a job against a real one")
    parser.add_argument("--lease", type=float, help="seconds that a lease lasts; 5, with --idle 45")
    parser.add_argument("--poll", type=float, default=15.0, help="seconds that a builder waits for a job")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds until all jobs must have ended")
    parser.add_argument("--idle", action="store_true", help="measure builders that only live")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long --idle measures")
    parser.add_argument("--dir", type=Path, default=None, help="where to work; else a temporary directory")
    parser.add_argument(
        "--keep", action="store_true", help="keep everything where the account does not close"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    options.lease = options.lease or (45.0 if options.idle else 5.0)
    if options.masters > 1 and options.engine != "postgresql":
        parser.error("several masters need --engine postgresql")
    return options


@contextmanager
def farm_of(options: argparse.Namespace, world: World) -> Iterator[Farm]:
    """Masters that run on a database that is filled."""
    with ExitStack() as stack:
        where = Path(
            tempfile.mkdtemp(dir=options.dir, prefix="fleet-")
            if options.keep
            else stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir, prefix="fleet-"))
        )
        where.chmod(0o755)
        data = where / "master"
        data.mkdir()
        database, cluster = f"sqlite:///{data / 'database.sqlite'}", None
        if options.engine == "postgresql":
            sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
            from postgres import Cluster  # noqa: PLC0415 - found only now

            cluster = stack.enter_context(Cluster(where / "cluster", fsync=True))
            database = cluster.create_database("fleet")
        keys = fill(database, data, world, options.builders)
        settings = {
            "master.lease_s": str(options.lease),
            "master.retry_delay_s": str(options.lease / 10),
            "master.requests_per_s": "1000",  # simulated builders are faster than any Pi
            "pypi.index_url": "http://127.0.0.1:9/simple/",
        }
        named = "" if options.engine == "sqlite" else database
        masters = [MasterProcess(data, named, settings) for _ in range(options.masters)]
        for master in masters:
            stack.callback(master.stop)
            master.start()
        yield Farm(data, database, keys, masters, cluster)


async def drive(farm: Farm, shared: Shared, options: argparse.Namespace) -> Run:
    """Let the fleet build until all jobs have ended, or the time is over."""
    run = Run()
    began, database_began, own_began = farm.load(), farm.database_load(), time.process_time()
    tasks = [asyncio.create_task(builder.run()) for builder in _builders(farm, shared)]
    if len(farm.masters) > 1:
        chance = random.Random(options.seed)
        tasks.append(asyncio.create_task(_kill_masters(farm.masters, options.kill_every, chance)))
    try:
        await _until_ended(farm, shared, run, tasks, options)
    finally:
        run.seconds = time.monotonic() - began.at
        run.master_cpu = farm.load().share_since(began)
        run.database_cpu = farm.database_load().share_since(database_began)
        run.own_cpu = (time.process_time() - own_began) / run.seconds
        await asyncio.sleep(_GRACE_S)  # what is being answered is heard
        shared.over.set()
        await asyncio.gather(*shared.visits)
        await _end(tasks)
    run.memory_bytes = max(master.peak_bytes for master in farm.masters)
    run.deadlocks = farm.deadlocks()
    run.masters_killed = sum(master.killed for master in farm.masters)
    for master in farm.masters:
        if not master.pid:
            await asyncio.to_thread(master.start)
    return run


async def _until_ended(
    farm: Farm, shared: Shared, run: Run, tasks: list[asyncio.Task[None]], options: argparse.Namespace
) -> None:
    """Look at the status twice a second, until all jobs have ended or the time is over."""
    reader = Link(shared.addresses, Figures())
    deadline = time.monotonic() + options.timeout
    while time.monotonic() < deadline and not run.in_time:
        await asyncio.sleep(_LOOK_S)
        for task in tasks:
            if task.done():
                task.result()  # a builder never ends by itself: this raises
        for master in farm.masters:
            master.look()
        asked = time.monotonic()
        try:
            answer = await reader.call("status", "GET", "/api/v1/status", wait_s=10)
        except LinkError:
            continue
        run.status_s.append(time.monotonic() - asked)
        jobs = (answer.json() or {}).get("jobs", {})
        run.ended = {state: number for state, number in jobs.items() if number}
        if sum(jobs.get(state, 0) for state in _ENDS) >= options.jobs:
            run.in_time = True
    reader.abort()


async def _kill_masters(masters: list[MasterProcess], every_s: float, chance: random.Random) -> None:
    """Kill one of several masters every few seconds, and start it again."""
    while True:
        await asyncio.sleep(every_s * chance.uniform(0.5, 1.5))
        victim = chance.choice(masters)
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        await asyncio.to_thread(victim.start)


async def _idle(farm: Farm, shared: Shared, seconds: float) -> dict[str, Any]:
    empty_bytes = farm.masters[0].look()
    builders = _builders(farm, shared)
    tasks: list[asyncio.Task[None]] = []
    try:
        for builder in builders:  # not all at one moment: machines of a farm do not keep step
            tasks.append(asyncio.create_task(builder.run()))
            await asyncio.sleep(shared.poll_s / len(builders))
        await asyncio.sleep(shared.poll_s)
        shared.figures.took_s.clear()  # coming is not what is measured
        began, database_began, asked = farm.load(), farm.database_load(), shared.figures.requests
        while time.monotonic() - began.at < seconds:
            await asyncio.sleep(_LOOK_S)
            for master in farm.masters:
                master.look()
        return {
            "builders": len(builders),
            "with a job": sum(attempt.alive_until > time.monotonic() for attempt in shared.ledger.attempts),
            "requests_per_s": round((shared.figures.requests - asked) / seconds, 1),
            "master_cpu": round(farm.load().share_since(began), 4),
            "database_cpu": round(farm.database_load().share_since(database_began), 4),
            "memory_mib": max(master.peak_bytes for master in farm.masters) >> 20,
            "memory_without_builders_mib": empty_bytes >> 20,
            "heartbeat_ms": _quantiles(shared.figures.took_s["heartbeat"]),
            "complaints": [f"{count} times: {what}" for what, count in shared.ledger.wrong.items()],
        }
    finally:
        await _end(tasks)


def _builders(farm: Farm, shared: Shared) -> list[SimulatedBuilder]:
    """The fleet, not yet at work."""
    return [
        SimulatedBuilder(number, builder_name(number), key, shared)
        for number, key in enumerate(farm.keys.builders, 1)
    ]


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
            raise ended


def _results(
    options: argparse.Namespace, run: Run, shared: Shared, made: account.Account, errors: list[str]
) -> dict[str, Any]:
    figures = shared.figures
    jobs = sum(run.ended.get(state, 0) for state in _ENDS)
    return {
        "engine": options.engine,
        "masters": options.masters,
        "builders": options.builders,
        "jobs": options.jobs,
        "seed": options.seed,
        "seconds": round(run.seconds, 1),
        "jobs_per_s": round(jobs / run.seconds, 1),
        "requests_per_s": round(figures.requests / run.seconds, 1),
        "master_cpu": round(run.master_cpu, 2),
        "database_cpu": round(run.database_cpu, 2),
        "simulator_cpu": round(run.own_cpu, 2),
        "master_memory_mib": run.memory_bytes >> 20,
        "masters_killed": run.masters_killed,
        "deadlocks": run.deadlocks,
        "ms": {kind: _quantiles(took) for kind, took in sorted(figures.took_s.items())}
        | {"status": _quantiles(run.status_s)},
        "answers": dict(sorted(figures.answers.items())),
        "lost_connections": figures.lost_connections,
        "faults": dict(sorted(shared.ledger.met.items())),
        "account": made.figures,
        "complaints": made.complaints,
        "examples": shared.ledger.examples,
        "errors": [] if made.closes else errors,
        "closes": made.closes,
    }


def _quantiles(took_s: list[float]) -> dict[str, float]:
    """Milliseconds: the median, and what 99 of 100 took at most."""
    if len(took_s) < 2:  # noqa: PLR2004 - quantiles are between numbers
        return {}
    cuts = statistics.quantiles(took_s, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1)}


def _print(results: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for key, value in results.items():
        if key in {"complaints", "examples", "errors"}:
            for line in account.shown(value):
                print(f"  {line}")
        elif isinstance(value, dict):
            print(f"{key}:")
            for name, one in value.items():
                print(f"  {name:34} {one}")
        else:
            print(f"{key:20} {value}")
    if "closes" in results:
        print("The account closes." if results["closes"] else "THE ACCOUNT DOES NOT CLOSE.")


if __name__ == "__main__":
    main()
