# SPDX-License-Identifier: BSD-3-Clause
"""Following all of PyPI, and planning it: how fast, how large, and what it costs everybody else.

    python benchmarks/plan.py --projects 736000 --data /var/tmp/plan

A made-up PyPI (`simulator.pypi`) serves the list and a page for each project, from a process of its own. They
are read over HTTP into a new database, as a master reads them the first time; then releases appear, a target
is new, and a builder claims jobs meanwhile. In the end the same question is asked as piwheels asks it each
hour. With `--data` the database stays; where the reading was interrupted, the next run goes on with it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from simulator.pypi import HugePyPI
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from piwheels_node.core.settings import PypiSettings
from piwheels_node.core.targets import Target
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Builder, BuilderTarget, PypiNote, PypiProject, TargetRow
from piwheels_node.master.jobs import queue
from piwheels_node.master.jobs.plan import plan_release
from piwheels_node.master.pypi import people, stored
from piwheels_node.master.pypi.follow import Follower, make_feed
from piwheels_node.master.pypi.index import PyPI

TARGET = "cp313-linux_armv7l-debian13"
OTHER = "cp311-linux_armv7l-debian12"
_NEVER_S = 1e9
_TELL_S = 30.0


@dataclass
class Reading:
    """How far the first reading has come, over all runs."""

    projects: int = 0
    releases: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    listed_s: float = 0.0
    peak_mib: float = 0.0
    is_done: bool = False


@dataclass
class World:
    """A database, and who follows the made-up PyPI."""

    database: Database
    pypi: HugePyPI
    client: PyPI = field(init=False)
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        settings = PypiSettings(follow="changelog", every_s=_NEVER_S, list_every_s=_NEVER_S, queue_max=10**9)
        self.client = PyPI(self.pypi.index_url)
        feed = make_feed(settings, self.client)
        assert feed is not None
        self.follower = Follower(self.database, self.client, feed, settings, lambda: datetime.now(UTC))

    def close(self) -> None:
        """Follow no more."""
        self.follower.close()
        self.client.close()

    def count(self, what: type[PypiNote | PypiProject]) -> int:
        """How many rows there are."""
        with self.database.read() as session:
            return session.scalar(select(func.count()).select_from(what)) or 0


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_all(world: World, reading: Reading, keep: Path) -> None:
    """The first reading, from wherever it is, to its end."""
    began, cpu = time.perf_counter(), time.process_time()
    before = reading.seconds, reading.cpu_s

    def note() -> None:
        reading.seconds = before[0] + time.perf_counter() - began
        reading.cpu_s = before[1] + time.process_time() - cpu
        reading.peak_mib = max(reading.peak_mib, peak_mib())
        reading.projects = world.count(PypiProject)
        keep.write_text(json.dumps(asdict(reading)))

    told = began
    while world.follower.turn() == 0.0 or world.count(PypiNote):
        if not reading.listed_s:
            reading.listed_s = time.perf_counter() - began
        if time.perf_counter() > told + _TELL_S:
            told = time.perf_counter()
            note()
            print(f"... {reading.projects} projects after {reading.seconds:.0f} s", flush=True)
    reading.is_done = True
    note()


def count_releases(database: Database) -> tuple[int, int]:
    """Releases, and bytes of documents: of a thousandth of all projects, times a thousand."""
    releases = size = 0
    with database.read() as session:
        for row in session.scalars(select(PypiProject).where(PypiProject.id % 1000 == 1)):
            releases += len(stored.read(row.name, row.listing).releases)
            size += len(row.listing or b"")
    return releases * 1000, size * 1000


def offer(database: Database, name: str) -> None:
    """A builder offers a target."""

    def work(session: Session) -> None:
        builder = session.scalars(select(Builder)).one_or_none()
        now = datetime.now(UTC)
        if builder is None:
            builder = Builder(name="pi", created_at=now, last_seen_at=now, memory_bytes=8 << 30)
            session.add(builder)
        target = session.scalar(select(TargetRow).where(TargetRow.name == name))
        if target is None:
            target = TargetRow(name=name, created_at=now)
            session.add(target)
            session.flush()
            session.add(
                BuilderTarget(builder_id=builder.id, target_id=target.id, environment_id="e", offered_at=now)
            )

    database.write(work)


def time_plans(database: Database, projects: int) -> list[float]:
    """Seconds that the plan of one release took, for releases of projects by chance."""
    chance, target, taken = random.Random(2), Target.parse(TARGET), []
    for _ in range(2000):
        with database.read() as session:
            row = session.get(PypiProject, chance.randrange(1, projects + 1))
        releases = stored.read(row.name, row.listing).releases if row else {}
        if releases:
            files = releases[chance.choice(list(releases))]
            started = time.perf_counter()
            plan_release(files, [target])
            taken.append(time.perf_counter() - started)
    return taken


def time_changes(world: World, times: int) -> list[float]:
    """Seconds from asking for changes, of which there is one, to its job being there to be claimed."""
    ready: list[float] = []

    def hear(topic: str) -> None:
        if topic.startswith("ready:"):
            ready.append(time.perf_counter())

    world.database.subscribe(hear)
    chance, taken = random.Random(), []  # other projects in each run: their first releases are forgotten
    for _ in range(times):
        world.pypi.release(chance.randrange(world.pypi.projects))
        ready.clear()
        world.follower._ask_at = 0.0  # noqa: SLF001 - it is time
        started = time.perf_counter()
        world.follower.turn()
        assert ready, "a release was not planned"
        taken.append(ready[0] - started)
    return taken


def claim_while(database: Database, work: Callable[[], Any]) -> list[float]:
    """Seconds that claims took while something else happened, each 10 ms after the one before."""
    done, claims = threading.Event(), []

    def take(session: Session) -> object:
        now = datetime.now(UTC)
        return queue.claim(
            session,
            builder_id=1,
            builder_name="pi",
            targets=[TARGET],
            memory_bytes=8 << 30,
            now=now,
            lease_s=3600,
        )

    def claim() -> None:
        while not done.wait(0.01):
            started = time.perf_counter()
            database.write(take)
            claims.append(time.perf_counter() - started)

    thread = threading.Thread(target=claim)
    thread.start()
    work()
    done.set()
    thread.join()
    return sorted(claims)


def walk(world: World, seconds: float) -> None:
    """Plan for targets that are new, for some seconds or to the end."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until and world.follower.turn() == 0.0:
        pass


def walked(database: Database, name: str) -> tuple[int, int]:
    """Projects and jobs of the walk for a target so far."""
    with database.read() as session:
        walks = people.sync_view(session, PypiSettings()).walks
    return next(((one.projects, one.jobs) for one in walks if one.target == name), (0, 0))


_PIWHEELS = """
CREATE TABLE version (id INTEGER PRIMARY KEY, released INTEGER);
CREATE TABLE abi (abi TEXT PRIMARY KEY);
CREATE TABLE build (id INTEGER PRIMARY KEY, version INTEGER, abi TEXT);
CREATE TABLE file (build INTEGER PRIMARY KEY, abi TEXT);
INSERT INTO abi VALUES ('cp39'), ('cp311'), ('cp313');
WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {releases})
  INSERT INTO version SELECT n, (n * 7919) % 1000003 FROM n;
INSERT INTO build SELECT id, id, 'cp39' FROM version WHERE id % 66;
INSERT INTO file SELECT id, CASE WHEN id % 12 THEN 'none' ELSE abi END FROM build WHERE id % 9;
CREATE INDEX build_version ON build (version);
"""
"""Versions of which nearly all were built once, eleven of twelve for all, and one of nine without success."""

_PENDING = """
SELECT COUNT(*), MAX(position) FROM (
  SELECT version, ROW_NUMBER() OVER (PARTITION BY abi ORDER BY released) AS position FROM (
    SELECT version, MIN(abi) AS abi FROM (
      SELECT version.id AS version, abi.abi AS abi FROM version CROSS JOIN abi
      EXCEPT SELECT version, abi FROM (
        SELECT build.version, abi.abi FROM build JOIN file ON file.build = build.id CROSS JOIN abi
        WHERE file.abi = 'none'
        UNION ALL SELECT build.version, COALESCE(file.abi, build.abi)
        FROM build LEFT JOIN file ON file.build = build.id WHERE file.abi IS NULL OR file.abi <> 'none')
    ) GROUP BY version
  ) AS next JOIN version ON version.id = next.version)
"""
"""What piwheels asks each hour: versions times ABIs, less what was tried; the lowest ABI, oldest first."""


def time_piwheels(place: Path, releases: int) -> float:
    """Seconds for one plan in its way, on tables of so many versions."""
    path = place / "piwheels.db"
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    database.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _PIWHEELS.format(releases=releases)
    )
    started = time.perf_counter()
    database.execute(_PENDING).fetchall()
    took = time.perf_counter() - started
    database.close()
    path.unlink()
    return took


def median_and_most(seconds: list[float]) -> str:
    """Both of them, in ms."""
    ordered = sorted(seconds)
    most = ordered[int(0.99 * len(ordered))] if ordered else 0.0
    return (
        f"median {statistics.median(ordered) * 1e3:.2f} ms, 99 % below {most * 1e3:.2f} ms, of {len(ordered)}"
    )


def size_mb(path: Path) -> float:
    """The database with its write-ahead log."""
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")) / 1e6


def tell_reading(reading: Reading, releases: int) -> None:
    """Print how the first reading went."""
    rates = (
        f"{releases / reading.seconds:.0f} releases/s, {reading.projects / reading.seconds:.0f} projects/s"
    )
    print(f"first reading over HTTP: {reading.projects} projects, {releases / 1e6:.2f} million releases")
    print(f"  in {reading.seconds:.0f} s, of which the list {reading.listed_s:.0f} s: {rates}")
    print(
        f"  {reading.cpu_s / reading.seconds:.2f} cores, peak memory {reading.peak_mib:.0f} MiB", flush=True
    )


def measure(place: Path, projects: int, seconds: float) -> None:
    """Everything, printed as it comes."""
    path, keep = place / "plan.db", place / "reading.json"
    reading = Reading(**json.loads(keep.read_text())) if keep.exists() else Reading()
    with HugePyPI(projects) as pypi, Database.open(f"sqlite:///{path}") as database:
        world = World(database, pypi)
        if not reading.is_done:
            read_all(world, reading, keep)
        releases, documents = count_releases(database)
        tell_reading(reading, releases)
        mean = documents / releases
        print(
            f"database {size_mb(path):.0f} MB; documents {documents / 1e6:.0f} MB: {mean:.0f} bytes a release"
        )
        print(f"plan of one release: {median_and_most(time_plans(database, projects))}")
        offer(database, TARGET)
        changes = time_changes(world, 100)
        print(f"a change heard to a job claimable: {median_and_most(changes)}", flush=True)
        idle = claim_while(database, lambda: time.sleep(5))
        print(f"claims while nothing else happens: {median_and_most(idle)}")
        for name in (TARGET, OTHER):
            offer(database, name)
            before = walked(database, name)
            began = time.perf_counter()
            claims = claim_while(database, lambda: walk(world, seconds))
            took = time.perf_counter() - began
            projects_walked, jobs = (
                now - then for now, then in zip(walked(database, name), before, strict=True)
            )
            print(
                f"a target is new ({name}), {took:.0f} s: {projects_walked / took:.0f} projects/s,"
                f" {jobs / took:.0f} jobs/s\n  claims meanwhile: {median_and_most(claims)}",
                flush=True,
            )
        world.close()
        print(f"database then {size_mb(path):.0f} MB; peak memory of all {peak_mib():.0f} MiB")
    theirs = time_piwheels(place, releases)
    ours = statistics.median(changes)
    print(
        f"as piwheels does it, once an hour: {theirs:.1f} s for a plan of everything;"
        f" a change here {ours * 1e3:.1f} ms: {theirs / ours:.0f} times as long"
    )


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--projects", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each walk is watched")
    parser.add_argument("--data", type=Path, help="a directory to keep; else a new one")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        place = wanted.data or Path(fresh)
        place.mkdir(parents=True, exist_ok=True)
        measure(place, wanted.projects, wanted.seconds)


if __name__ == "__main__":
    main()
