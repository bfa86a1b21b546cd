# SPDX-License-Identifier: BSD-3-Clause
"""How fast the queue hands out jobs, and whether that depends on how long it is.

A synthetic queue of each size is filled by SQL. Then 32 threads, each a builder of one target with 4 GiB,
claim, send a heartbeat and finish, with every job's build row, events and counters, through the functions
that the API uses (`master.queue`) and a commit that survives a power cut. Besides: the status figures, and
how long it takes until a changed release is in the queue, against the way of piwheels: its view of what
is to be built, a full anti-join of versions and ABIs, rebuilt on our tables.

    python benchmarks/claims.py --sizes 10000 1000000 --engines sqlite postgresql
    python benchmarks/claims.py --sizes 8234245 --engines postgresql --masters 3

The sizes are releases in the queue; PostgreSQL is a cluster of its own, with fsync. (Not called queue.py:
Python's own module of that name would not be found any more.)
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter as Bag
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from packaging.version import Version
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from piwheels_node.core.jobs import JobState, Outcome, Priority, Step
from piwheels_node.master import views
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import PypiFile, TargetRow
from piwheels_node.master.jobs import queue, requests
from piwheels_node.master.pypi.listing import ListedFile, ProjectFiles

TARGETS = ("cp39-linux_armv7l-debian11", "cp311-linux_armv7l-debian12", "cp313-linux_armv7l-debian13")
CLIENTS = 32
LEASE_S = 900.0
MEMORY_BYTES = 4 << 30
KINDS = ("claim", "heartbeat", "finish")

_FILL = """
INSERT INTO project (id, name, serial)
  SELECT n, 'project-' || n, 0 FROM {range} WHERE n <= {size} / 11 + 1;
INSERT INTO release (id, project_id, version)
  SELECT n, n / 11 + 1, '1.' || (n % 11) FROM {range};
INSERT INTO pypi_file (id, release_id, filename, url)
  SELECT n, n, 'project_' || n || '.tar.gz', 'https://files.example/' || n FROM {range};
INSERT INTO job (id, release_id, target_id, sdist_id, state, memory_class, priority,
                 created_at, not_before_at, attempts, losses)
  SELECT n, n, n % 3 + 1, n, CASE WHEN n % 10 = 0 THEN 'built' ELSE 'ready' END,
         CASE WHEN n % 20 < 17 THEN 0 WHEN n % 20 < 19 THEN 1 ELSE 3 END,
         CASE WHEN n % 97 = 0 THEN 300 WHEN n % 5 = 0 THEN 100 ELSE 0 END,
         {now}, {now}, 0, 0 FROM {range};
INSERT INTO build (id, job_id, builder_id, attempt, started_at, duration_s, outcome)
  SELECT n, n, 1, 1, {now}, 2.0, 'built' FROM {range} WHERE n % 10 = 0;
INSERT INTO wheel (id, build_id, release_id, filename, sha256, size_bytes, metadata_sha256, published_at)
  SELECT n, n, n, 'project_' || n || '-1-py3-none-any.whl', '', 1, '', {now} FROM {range} WHERE n % 10 = 0;
INSERT INTO counter (name, value)
  SELECT 'jobs.' || state, COUNT(*) FROM job GROUP BY state;
INSERT INTO counter (name, value)
  SELECT 'jobs.ready.' || target_id, COUNT(*) FROM job WHERE state = 'ready' GROUP BY target_id
"""
"""One release of ten is built already; the others wait."""

_PIWHEELS = """
SELECT COUNT(*), MAX(position) FROM (
  SELECT release_id, ROW_NUMBER() OVER (PARTITION BY target_id ORDER BY release_id) AS position FROM (
    SELECT release_id, MIN(target_id) AS target_id FROM (
      SELECT release.id AS release_id, target.id AS target_id FROM release CROSS JOIN target
      EXCEPT{all} SELECT release_id, target_id FROM (
        SELECT wheel.release_id, target.id AS target_id FROM wheel CROSS JOIN target
        WHERE wheel.filename LIKE '%-none-%'
        UNION ALL SELECT job.release_id, job.target_id FROM build JOIN job ON job.id = build.job_id
        WHERE NOT EXISTS (SELECT 1 FROM wheel WHERE wheel.build_id = build.id)) AS done
    ) AS missing GROUP BY release_id
  ) AS next
) AS queue
"""
"""The view `builds_pending` of piwheels: each version and ABI, less what was tried; the lowest ABI first."""


@dataclass
class Result:
    """What was measured at one size; times in ms."""

    engine: str
    size: int
    masters: int
    fill_s: float = 0.0
    cycles: int = 0
    seconds: float = 0.0
    cpu_us: float = 0.0
    double: int = 0
    wrong_counters: int = 0
    p50_ms: dict[str, float] = field(default_factory=dict)
    p99_ms: dict[str, float] = field(default_factory=dict)
    most_ms: dict[str, float] = field(default_factory=dict)
    status_ms: float = 0.0
    change_ms: float = 0.0
    piwheels_ms: float | None = None

    @property
    def rate(self) -> float:
        """Cycles a second."""
        return self.cycles / self.seconds


@dataclass
class Share:
    """What the clients of one master did."""

    claimed: list[int] = field(default_factory=list)
    cpu_s: float = 0.0
    times_s: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


def main() -> None:
    """Measure everything in turn, and print."""
    options = _options()
    console = Console(stderr=options.json)
    results = []
    for engine in options.engines:
        for size in options.sizes:
            with database_of(engine, options.dir) as url:
                results.append(measure(url, engine, size, options, console))
    if options.json:
        print(json.dumps([asdict(one) | {"cycles_per_s": one.rate} for one in results], indent=2))
    else:
        console.print(table_of(results))
        for line in comparisons(results):
            console.print(line)
    if any(one.double or one.wrong_counters for one in results):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument(
        "--engines", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"]
    )
    parser.add_argument(
        "--masters", type=int, default=1, help="processes with 32 clients among them (PostgreSQL)"
    )
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each measurement takes")
    parser.add_argument(
        "--no-piwheels", action="store_true", help="leave the comparison out: it takes minutes"
    )
    parser.add_argument("--dir", default="/var/tmp", help="where to work; 8.2 million releases take 8 GB")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


@contextmanager
def database_of(engine: str, directory: str) -> Iterator[str]:
    """The URL of an empty database with its tables."""
    with tempfile.TemporaryDirectory(prefix="piwheels-node-claims-", dir=directory) as made:
        path = Path(made)
        path.chmod(0o755)
        if engine == "sqlite":
            url = f"sqlite:///{path / 'master.db'}"
            Database.open(url).close()
            yield url
            return
        sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
        from postgres import Cluster  # noqa: PLC0415 - found only now

        with Cluster(path / "cluster", fsync=True, shared_buffers="1GB", max_wal_size="4GB") as cluster:
            url = cluster.create_database("claims")
            Database.open(url).close()
            yield url


def measure(url: str, engine: str, size: int, options: argparse.Namespace, console: Console) -> Result:
    """Fill a database, and measure everything on it."""
    result = Result(engine, size, options.masters if engine == "postgresql" else 1)
    began = time.perf_counter()
    fill(url, size)
    result.fill_s = time.perf_counter() - began
    console.print(f"{engine}: {size:,} releases filled in {result.fill_s:.0f} s", highlight=False)
    shares = cycles(url, result.masters, options.clients, options.seconds, result)
    claimed = Bag(job_id for share in shares for job_id in share.claimed)
    result.double = sum(often - 1 for often in claimed.values())
    for kind in KINDS:
        times = sorted(one for share in shares for one in share.times_s[kind])
        result.p50_ms[kind] = 1000 * statistics.median(times)
        result.p99_ms[kind] = 1000 * times[int(0.99 * len(times))]
        result.most_ms[kind] = 1000 * times[-1]
    with Database.open(url) as database:
        result.wrong_counters = wrong_counters(database)
        result.status_ms = status_ms(database)
        result.change_ms = change_ms(database)
        if not options.no_piwheels:
            result.piwheels_ms = piwheels_ms(database)
    return result


def fill(url: str, size: int) -> None:
    """Fill the tables, with nothing switched on that a queue needs and a copy does not."""
    is_sqlite = url.startswith("sqlite")
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    numbers = (
        f"(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {size}) SELECT n FROM r)"
        if is_sqlite
        else f"(SELECT n FROM generate_series(1, {size}) AS n) AS r"
    )
    now = "'2026-11-22 12:00:00.000000'" if is_sqlite else "TIMESTAMPTZ '2026-11-22 12:00:00Z'"
    before = (
        ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -500000")
        if is_sqlite
        else ("SET session_replication_role = replica", "SET synchronous_commit = off")  # no foreign keys
    )
    with engine.connect() as connection:
        for statement in before:
            connection.execute(text(statement))
        for number, name in enumerate(TARGETS, 1):
            connection.exec_driver_sql(
                f"INSERT INTO target (id, name, created_at) VALUES ({number}, '{name}', {now})"
            )
        for number in range(1, CLIENTS + 1):
            connection.exec_driver_sql(
                f"INSERT INTO builder (id, name, created_at) VALUES ({number}, 'pi-{number}', {now})"
            )
        for statement in _FILL.format(range=numbers, size=size, now=now).split(";"):
            connection.execute(text(statement))
        for table in (
            () if is_sqlite else ("project", "release", "pypi_file", "job", "build", "wheel", "builder")
        ):
            connection.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )
        for statement in ("ANALYZE",) if is_sqlite else ("VACUUM ANALYZE", "CHECKPOINT"):
            connection.execute(text(statement))
    engine.dispose()


def cycles(url: str, masters: int, clients: int, seconds: float, result: Result) -> list[Share]:
    """Let clients claim and finish jobs, spread over so many masters."""
    began = time.time() + (3.0 if masters > 1 else 0.0)
    until = began + seconds
    if masters == 1:
        shares = [one_master(url, range(1, clients + 1), began, until)]
    else:
        parts = [range(1 + number, clients + 1, masters) for number in range(masters)]
        with ProcessPoolExecutor(masters, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(one_master, url, part, began, until) for part in parts]
            shares = [future.result() for future in futures]
    result.cycles = sum(len(share.claimed) for share in shares)
    result.seconds = time.time() - began
    result.cpu_us = 1e6 * sum(share.cpu_s for share in shares) / max(result.cycles, 1)
    return shares


def one_master(url: str, builders: range, began: float, until: float) -> Share:
    """One process with its database object, and a thread for each builder."""
    share, lock = Share(), threading.Lock()
    cpu = time.process_time()
    with Database.open(url) as database, ThreadPoolExecutor(len(builders)) as pool:
        time.sleep(max(0.0, began - time.time()))
        for mine in pool.map(lambda builder: one_client(database, builder, until), builders):
            with lock:
                share.claimed += mine.claimed
                for kind in KINDS:
                    share.times_s[kind] += mine.times_s[kind]
    share.cpu_s = time.process_time() - cpu
    return share


def one_client(database: Database, builder: int, until: float) -> Share:
    """Claim, beat and finish until the time is over."""
    share = Share()
    target = TARGETS[builder % len(TARGETS)]

    def claim(session: Session) -> queue.Claimed | None:
        return queue.claim(
            session,
            builder_id=builder,
            builder_name=f"pi-{builder}",
            targets=[target],
            memory_bytes=MEMORY_BYTES,
            now=datetime.now(UTC),
            lease_s=LEASE_S,
        )

    while time.time() < until:
        began = time.perf_counter()
        job = database.write(claim)
        if job is None:
            break
        claimed_at = time.perf_counter()
        database.write(lambda session, job=job: beat(session, job, builder))
        beaten_at = time.perf_counter()
        database.write(lambda session, job=job: finish(session, job, builder))
        ended_at = time.perf_counter()
        share.claimed.append(job.job_id)
        moments = (began, claimed_at, beaten_at, ended_at)
        for kind, start, end in zip(KINDS, moments, moments[1:], strict=False):
            share.times_s[kind].append(end - start)
    return share


def beat(session: Session, job: queue.Claimed, builder: int) -> None:
    """What a heartbeat does to the queue."""
    queue.heartbeat(session, job.job_id, job.token, builder, Step.BUILD, datetime.now(UTC), LEASE_S)


def finish(session: Session, job: queue.Claimed, builder: int) -> None:
    """What the report of a build does to the queue."""
    now = datetime.now(UTC)
    held = queue.held_job(session, job.job_id, job.token, now, builder)
    build = queue.add_build(
        session,
        job_id=held.id,
        builder_id=builder,
        attempt=held.attempts,
        started_at=held.leased_at,
        duration_s=2.0,
        outcome=Outcome.BUILT,
        environment_id="bench",
        environment={"environment_id": "bench", "python": "3.13", "release": "debian13", "requirements": []},
        steps=[{"step": "build", "duration_s": 2.0}],
    )
    queue.finish(session, held, state=JobState.BUILT, now=now, build=build)


def wrong_counters(database: Database) -> int:
    """How many counters are not what counting gives."""
    with database.read() as session:
        kept = dict(session.execute(text("SELECT name, value FROM counter WHERE name LIKE 'jobs.%'")).all())
        true = dict(session.execute(text("SELECT 'jobs.' || state, COUNT(*) FROM job GROUP BY state")).all())
        lanes = (
            "SELECT 'jobs.ready.' || target_id, COUNT(*) FROM job WHERE state = 'ready' GROUP BY target_id"
        )
        true |= dict(session.execute(text(lanes)).all())
    return sum(kept.get(name, 0) != true.get(name, 0) for name in kept.keys() | true.keys())


def status_ms(database: Database) -> float:
    """The status of the whole farm: the median of 20."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        with database.read() as session:
            views.status(session, datetime.now(UTC))
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def change_ms(database: Database) -> float:
    """A release that is new on PyPI reaches the queue: the median of 200, one after the other."""
    times = []
    for number in range(200):
        name, version = f"changed-{number}", Version("1.0")
        file = ListedFile(f"changed_{number}-1.0.tar.gz", f"https://files.example/c{number}", version, None)
        project = ProjectFiles(name, (file,))

        def work(session: Session, project: ProjectFiles = project, version: Version = version) -> int:
            release = requests.store_release(session, project, version)
            session.flush()
            target = session.get_one(TargetRow, 1)
            sdist = session.scalars(select(PypiFile).where(PypiFile.release_id == release.id)).one()
            now = datetime.now(UTC)
            job, _ = queue.enqueue(
                session, release=release, target=target, sdist=sdist, priority=Priority.RELEASED, now=now
            )
            return job.id

        began = time.perf_counter()
        database.write(work)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def piwheels_ms(database: Database) -> float:
    """The same by rebuilding the whole queue, as piwheels does."""
    with database.read() as session:
        is_sqlite = session.get_bind().dialect.name == "sqlite"
        began = time.perf_counter()
        session.execute(text(_PIWHEELS.format(all="" if is_sqlite else " ALL"))).one()
        return 1000 * (time.perf_counter() - began)


def table_of(results: list[Result]) -> Table:
    """All figures, a column for each run."""
    table = Table(title="claim + heartbeat + finish", show_header=False)
    table.add_column()
    for _ in results:
        table.add_column(justify="right")

    def add(name: str, value: Callable[[Result], str]) -> None:
        table.add_row(name, *map(value, results))

    add("database", lambda one: one.engine)
    add("releases", lambda one: f"{one.size:,}")
    add("masters", lambda one: str(one.masters))
    add("cycles/s", lambda one: f"{one.rate:,.0f}")
    for kind in KINDS:
        add(
            f"{kind} p50 / p99 / max ms",
            lambda one, kind=kind: (
                f"{one.p50_ms[kind]:.1f} / {one.p99_ms[kind]:.1f} / {one.most_ms[kind]:.0f}"
            ),  # type: ignore[misc]
        )
    add("CPU of masters and clients, µs a cycle", lambda one: f"{one.cpu_us:.0f}")
    add("claimed twice", lambda one: str(one.double))
    add("wrong counters", lambda one: str(one.wrong_counters))
    add("status of the farm ms", lambda one: f"{one.status_ms:.1f}")
    add("a change reaches the queue ms", lambda one: f"{one.change_ms:.2f}")
    add("the way of piwheels ms", lambda one: "-" if one.piwheels_ms is None else f"{one.piwheels_ms:,.0f}")
    return table


def comparisons(results: list[Result]) -> Iterator[str]:
    """The ratios that matter."""
    for engine in dict.fromkeys(one.engine for one in results):
        mine = sorted((one for one in results if one.engine == engine), key=lambda one: one.size)
        least, most = mine[0], mine[-1]
        if most.size > least.size:
            ratio = most.rate / least.rate
            yield f"{engine}: {most.size:,} against {least.size:,} releases: {ratio:.2f} of the rate"
        for one in mine:
            if one.piwheels_ms is not None:
                yield (
                    f"{engine}, {one.size:,} releases: a change reaches the queue in {one.change_ms:.2f} ms,"
                    f" the way of piwheels takes {one.piwheels_ms / one.change_ms:,.0f} times as long"
                )


if __name__ == "__main__":
    main()
