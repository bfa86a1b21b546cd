# SPDX-License-Identifier: BSD-3-Clause
"""What screens cost a master: each question of the dashboard, over HTTP, at 3, 30 and 300 builders.

A database of each kind is filled by SQL with builds, jobs that wait, and the projects of PyPI; a real master
serves it on loopback. Each question is asked as the screens ask it, `--times` times: how long the answer
takes, how many bytes it has, and how long the client takes to make messages of it.

    python benchmarks/dashboard.py --builds 1000000 --engines sqlite postgresql
    python benchmarks/dashboard.py --plans          also what the database does for each
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from claims import database_of
from rich.console import Console
from rich.table import Table
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine

from piwheels_node.client import MasterClient
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Priority
from piwheels_node.core.settings import MasterSettings, Settings
from piwheels_node.master.running.service import Master

TARGETS = (
    "cp311-linux_armv7l-debian12",
    "cp313-linux_armv7l-debian13",
    "cp313-linux_aarch64-debian13",
    "cp39-linux_armv7l-debian11",
)
DAYS = 400
_SECONDS = DAYS * 86400

_BUILDS = """
INSERT INTO project (id, name, serial) SELECT n, 'project-' || n, 0 FROM {range} WHERE n <= {total} / 10 + 1;
INSERT INTO release (id, project_id, version) SELECT n, n / 10 + 1, '1.' || (n % 10) FROM {range};
INSERT INTO pypi_file (id, release_id, filename, url)
  SELECT n, n, 'project_' || n || '.tar.gz', 'https://files.example/' || n FROM {range};
INSERT INTO job (id, release_id, target_id, sdist_id, state, memory_class, priority,
                 created_at, not_before_at, blocked_on_id, attempts, losses)
  SELECT n, n, n % 4 + 1, n,
         CASE WHEN n > {builds} THEN CASE WHEN n % 500 = 0 THEN 'delayed' WHEN n % 500 = 1 THEN 'blocked'
                                          ELSE 'ready' END
              WHEN n % 11 = 0 THEN 'failed' ELSE 'built' END,
         CASE WHEN n % 20 < 17 THEN 0 WHEN n % 20 < 19 THEN 1 ELSE 3 END,
         CASE WHEN n % 97 = 0 THEN 300 WHEN n % 5 = 0 THEN 100 ELSE 0 END,
         {now}, {now}, CASE WHEN n > {builds} AND n % 500 = 1 THEN n - 1 END, 0, 0 FROM {range};
INSERT INTO build (id, job_id, builder_id, attempt, started_at, duration_s, outcome, reason, captured)
  SELECT n, n, n % 3 + 1, 1, {then}, 2.0,
         CASE WHEN n % 11 = 0 THEN 'failed' ELSE 'built' END,
         CASE WHEN n % 11 <> 0 THEN NULL WHEN n % 2 = 0 THEN 'missing-header' WHEN n % 3 = 0 THEN 'timeout'
              WHEN n % 1001 = 0 THEN 'rust-too-old' ELSE 'compiler-error' END,
         CASE WHEN n % 22 = 0 THEN 'ffi.h' END
  FROM {range} WHERE n <= {builds};
INSERT INTO build_count (day, target_id, result, builds, newest_build_id)
  SELECT {day}, job.target_id, coalesce(build.reason, build.outcome), count(*), max(build.id)
  FROM build JOIN job ON job.id = build.job_id GROUP BY 1, 2, 3;
INSERT INTO hour_count (hour, built, failed)
  SELECT {hour}, count(*) - count(reason), count(reason) FROM build GROUP BY 1;
INSERT INTO builder_count (day, builder_id, built, failed)
  SELECT {day}, builder_id, count(*) - count(reason), count(reason) FROM build GROUP BY 1, 2;
INSERT INTO counter (name, value) SELECT 'jobs.' || state, count(*) FROM job GROUP BY state;
INSERT INTO counter (name, value)
  SELECT 'jobs.ready.' || target_id, count(*) FROM job WHERE state = 'ready' GROUP BY target_id;
INSERT INTO counter (name, value) VALUES ('wheels.bytes', 1000000000),
  ('wheels.abi.none', 900000), ('wheels.abi.cp311', 60000), ('wheels.platform.any', 900000);
INSERT INTO pypi_project (name, serial, status, newest_at, read_at, listing)
  SELECT 'project-' || n, n, 'active', {now}, {now}, {blob} FROM {names}
"""

_BUILDERS = """
INSERT INTO builder_target (builder_id, target_id, environment_id, offered_at)
  SELECT id, id % 4 + 1, 'e', {now} FROM builder WHERE id > {before};
UPDATE job SET state = 'leased', lease_token = 'xxxxxxxxxxxxxxxx', leased_at = {now},
    lease_until_at = {later}, step = 'build',
    builder_id = id - {builds} WHERE id > {builds} + {before} AND id <= {builds} + {builders};
INSERT INTO builder_count (day, builder_id, built, failed)
  SELECT days.day, builder.id, 90, 10 FROM builder, (SELECT DISTINCT day FROM build_count) AS days
  WHERE builder.id > {before} AND builder.id > 3
"""

_MACHINE = (
    '{"fingerprint": "' + "0" * 64 + '", "model": "Raspberry Pi 4 Model B Rev 1.5", '
    '"os": "Raspbian GNU/Linux 13 (trixie)", "kernel": "6.12", "cores": 4, "memory_bytes": 4000000000}'
)
_HEALTH = (
    '{"at": "2026-11-22T12:00:00Z", "load_1m": 3.91, "memory_available_bytes": 1234567890, '
    '"disk_free_bytes": 23456789012, "temperature_c": 61.3, "throttled": false, "undervoltage": false}'
)


@dataclass
class Cost:
    """What one question cost; times in ms, medians."""

    path: str
    ms: list[float] = field(default_factory=list)
    client_ms: list[float] = field(default_factory=list)
    size_bytes: list[int] = field(default_factory=list)


def questions(builds: int) -> dict[str, Callable[[MasterClient], Any]]:
    """What the screens ask."""
    middle = builds // 2
    return {
        "farm": lambda c: c.farm(),
        "farm, with rows": lambda c: c.farm(rows=True),
        "farm, with the first rows": lambda c: c.farm(rows=True, first=24),
        "builders, in full": lambda c: c.builders(),
        "builder": lambda c: c.builder("pi-2"),
        "builds": lambda c: c.builds(),
        "builds of a builder": lambda c: c.builds(builder="pi-2"),
        "builds of a builder, page 1000": lambda c: c.builds(builder="pi-2", before=middle),
        "builds of a builder that has none": lambda c: c.builds(builder="pi-none"),
        "builds of a project": lambda c: c.builds(project="project-7"),
        "builds of a target": lambda c: c.builds(target=TARGETS[1]),
        "builds that failed": lambda c: c.builds(outcome=Outcome.FAILED),
        "builds of a rare reason": lambda c: c.builds(reason=FailureReason.RUST_TOO_OLD),
        "builds, all conditions": lambda c: c.builds(
            builder="pi-3", target=TARGETS[0], outcome=Outcome.FAILED, reason=FailureReason.TIMEOUT
        ),
        "build": lambda c: c.build(middle),
        "queue": lambda c: c.queue(),
        "queue of a target": lambda c: c.queue_of(TARGETS[1]),
        "queue of a lane": lambda c: c.queue_of(TARGETS[1], Priority.BACKLOG),
        "failures, a week": lambda c: c.failures(),
        "failed builds": lambda c: c.failed_builds(FailureReason.MISSING_HEADER),
        "statistics, 30 days": lambda c: c.statistics(),
        "hours, 7 days": lambda c: c.hours(168),
        "builder statistics": lambda c: c.builder_statistics(),
        "search, beginning": lambda c: c.search("project-12"),
        "search, part, common": lambda c: c.search("ject-1234"),
        "search, not there": lambda c: c.search("nothing-of-this"),
        "whoami": lambda c: c.who_am_i(),
    }


def fill(engine: Engine, builds: int, waiting: int, names: int) -> None:
    """Builds of 400 days by three builders, jobs that wait, and names of PyPI."""
    dialect = _words(engine)
    numbers = dialect["numbers"]
    words = {
        **dialect,
        "builds": builds,
        "total": builds + waiting,
        "range": numbers(builds + waiting),
        "names": numbers(names),
        "then": dialect["then"](builds),
    }
    _run(engine, [*dialect["before"], *_targets(dialect["now"])])
    add_builders(engine, builds, 0, 3, leases=False)
    _run(engine, _BUILDS.format(**words).split(";"))
    _run(engine, dialect["after"])


def add_builders(engine: Engine, builds: int, before: int, builders: int, *, leases: bool = True) -> None:
    """More builders, each with a job in hand."""
    dialect = _words(engine)
    now = dialect["now"]
    rows = ", ".join(
        f"({one}, 'pi-{one}', {now}, {now}, {now}, '{_MACHINE}', '{_HEALTH}', '1.0')"
        for one in range(before + 1, builders + 1)
    )
    columns = "id, name, created_at, last_seen_at, health_at, machine, health, version"
    words = {**dialect, "builds": builds, "before": before, "builders": builders}
    if rows:
        _run(engine, [f"INSERT INTO builder ({columns}) VALUES {rows}"])
    if leases:
        _run(engine, _BUILDERS.format(**words).split(";"))
        _run(engine, dialect["after"][:1])


def _targets(now: str) -> list[str]:
    return [
        f"INSERT INTO target (id, name, created_at) VALUES ({number}, '{name}', {now})"
        for number, name in enumerate(TARGETS, 1)
    ]


def _words(engine: Engine) -> dict[str, Any]:
    """How each kind of database says it."""
    if engine.dialect.name == "sqlite":
        moment = "strftime('%Y-%m-%d %H:%M:%S.000000', 'now'{})"
        return {
            "numbers": lambda most: (
                f"(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {most})"
                " SELECT n FROM r)"
            ),
            "now": moment.format(""),
            "later": moment.format(", '+1 day'"),
            "then": lambda builds: moment.format(
                f", '-' || CAST(({builds} - n) * {_SECONDS}.0 / {builds} AS INTEGER) || ' seconds'"
            ),
            "day": "substr(started_at, 1, 10)",
            "hour": "replace(substr(started_at, 1, 13), ' ', 'T')",
            "blob": "zeroblob(400)",
            "before": ["PRAGMA synchronous = OFF", "PRAGMA cache_size = -500000"],
            "after": ["ANALYZE"],
        }
    return {
        "numbers": lambda most: f"(SELECT n FROM generate_series(1, {most}) AS n) AS r",
        "now": "now()",
        "later": "now() + interval '1 day'",
        "then": lambda builds: f"now() - ({builds} - n) * {_SECONDS}.0 / {builds} * interval '1 second'",
        "day": "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
        "hour": "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24')",
        "blob": "decode(repeat('00', 400), 'hex')",
        "before": ["SET session_replication_role = replica", "SET synchronous_commit = off"],
        "after": ["VACUUM ANALYZE", "CHECKPOINT"],
    }


def _run(engine: Engine, statements: list[str]) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def measure(url: str, builds: int, times: int, costs: dict[str, Cost]) -> None:
    """Ask everything, and note what it cost."""
    seen: list[httpx.Response] = []
    with MasterClient(url) as client:
        hooks = client._client.event_hooks  # noqa: SLF001 - what it measures is the client's own wire
        client._client.event_hooks = {**hooks, "response": [seen.append]}  # noqa: SLF001
        for name, ask in questions(builds).items():
            ask(client)
            whole, wire = [], []
            for _ in range(times):
                seen.clear()
                began = time.perf_counter()
                ask(client)
                whole.append(1000 * (time.perf_counter() - began))
                wire.append(1000 * seen[0].elapsed.total_seconds())
            cost = costs.setdefault(name, Cost(str(seen[0].url.raw_path.decode())))
            cost.ms.append(statistics.median(wire))
            cost.client_ms.append(statistics.median(whole) - statistics.median(wire))
            cost.size_bytes.append(seen[0].num_bytes_downloaded)


def plans(master: Master, url: str, builds: int, console: Console) -> None:
    """What the database does for each question: its statements, and how it runs them."""
    said: list[tuple[str, Any]] = []
    engine = master._database._reading  # noqa: SLF001 - the very one that answers
    listener = lambda *told: said.append((told[2], told[3]))  # noqa: E731 - to be taken away again
    with MasterClient(url) as client:
        for name, ask in questions(builds).items():
            event.listen(engine, "before_cursor_execute", listener)
            ask(client)
            event.remove(engine, "before_cursor_execute", listener)
            console.rule(name)
            for statement, values in said:
                _explain(engine, statement, values, console)
            said.clear()


def _explain(engine: Engine, statement: str, values: Any, console: Console) -> None:
    if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
        return
    verb = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN (ANALYZE, BUFFERS)"
    with engine.connect() as connection:
        lines = [str(row[-1]) for row in connection.exec_driver_sql(f"{verb} {statement}", values)]
    console.print(" ".join(statement.split())[:300], style="bold", markup=False, highlight=False)
    for line in lines:
        console.print(f"    {line}", markup=False, highlight=False)


def run(kind: str, options: argparse.Namespace, console: Console) -> None:
    """Everything on one kind of database."""
    with database_of(kind, options.dir) as where, TemporaryDirectory(dir=options.dir) as data:
        engine = create_engine(
            where.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
        )
        began = time.perf_counter()
        fill(engine, options.builds, options.waiting, options.names)
        console.print(f"{kind}: filled in {time.perf_counter() - began:.0f} s", highlight=False)
        costs: dict[str, Cost] = {}
        before = 0
        for builders in options.builders:
            add_builders(engine, options.builds, max(before, 3), builders)
            before = builders
            settings = Settings(master=MasterSettings(database=where, lease_s=1e6))
            master = Master(Path(data), settings)
            url = master.start()
            try:
                measure(url, options.builds, options.times, costs)
                if options.plans and builders == options.builders[-1]:
                    plans(master, url, options.builds, console)
            finally:
                master.stop()
        engine.dispose()
        console.print(table_of(kind, options, costs))


def table_of(kind: str, options: argparse.Namespace, costs: dict[str, Cost]) -> Table:
    """A row for each question."""
    title = f"{kind}, {options.builds:,} builds, {options.waiting:,} jobs wait, {options.names:,} projects"
    table = Table(title=title)
    many = " / ".join(map(str, options.builders))
    for name in ("question", f"ms at {many} builders", "client ms", "bytes"):
        table.add_column(name, justify="left" if name == "question" else "right")
    for name, cost in costs.items():
        table.add_row(
            name,
            " / ".join(f"{one:.1f}" for one in cost.ms),
            " / ".join(f"{one:.1f}" for one in cost.client_ms),
            " / ".join(f"{one:,}" for one in cost.size_bytes),
        )
    return table


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite"])
    parser.add_argument("--builders", type=int, nargs="+", default=[3, 30, 300])
    parser.add_argument("--builds", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=200_000, help="jobs that wait")
    parser.add_argument("--names", type=int, default=700_000, help="projects of PyPI")
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--plans", action="store_true", help="show what the database does for each question")
    parser.add_argument("--dir", default="/var/tmp", help="where to work")
    options = parser.parse_args()
    console = Console()
    for kind in options.engines:
        run(kind, options, console)


if __name__ == "__main__":
    main()
