# SPDX-License-Identifier: BSD-3-Clause
"""Following many mixed events of a troublesome PyPI, killed again and again: is the end what it should be?

    python benchmarks/follow.py --events 100000 --kills 50 --engine postgresql

A home-made PyPI (`tests/support/fix_changes.py`) plays a change log with deletions, yanks, renames,
quarantine and malformed names, answers with errors, cut off or with old pages, and lets events become visible
late. A follower in a process of its own is killed (SIGKILL) at random moments and started again. In the end
its database is compared, project by project and job by job, with that of a first reading. Exit code 1 where
they differ.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from fix_changes import LivingPyPI
from postgres import Cluster
from sqlalchemy import func, select

from piwheels_node.core.jobs import JobState
from piwheels_node.core.settings import PypiSettings
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    Builder,
    BuilderTarget,
    Job,
    PlanNote,
    Project,
    PypiFile,
    PypiNote,
    PypiProject,
    Release,
    TargetRow,
    Walk,
)
from piwheels_node.master.pypi import notes
from piwheels_node.master.pypi.follow import Follower, make_feed
from piwheels_node.master.pypi.index import PyPI

TARGET = "cp311-linux_x86_64-debian12"
FASTER = 1000
"""So many times as fast as the world is the follower's clock: what waits for hours comes in seconds."""

Jobs = set[tuple[str, str, str]]


def clock(begun: float) -> datetime:
    """A time that runs fast from 2026 on."""
    return datetime(2026, 12, 1, tzinfo=UTC) + timedelta(seconds=(time.time() - begun) * FASTER)


def follow(url: str, index_url: str, kind: str, begun: float) -> None:
    """The follower's process: for ever, or until it is killed."""
    settings = PypiSettings(follow=kind, timeout_s=5, every_s=0.05, queue_max=10**9)
    pypi = PyPI(index_url, timeout_s=5, retry_delay_s=0)
    with Database.open(url) as database:
        follower = Follower(database, pypi, make_feed(settings, pypi), settings, lambda: clock(begun))
        while True:
            time.sleep(min(follower.turn(), 0.02))


class Process:
    """A follower that can be killed."""

    def __init__(self, url: str, index_url: str, kind: str, begun: float) -> None:
        self._words = [sys.executable, __file__, "--child", url, index_url, kind, str(begun)]
        self.start()

    def start(self) -> None:
        """Begin, or begin again."""
        self._process = subprocess.Popen(self._words, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Without a chance to finish anything."""
        self._process.kill()
        self._process.wait()


def prepare(url: str) -> None:
    """A database with a builder."""

    def fill(session) -> None:  # noqa: ANN001
        now = datetime.now(UTC)
        session.add_all([Builder(name="pi", created_at=now), TargetRow(name=TARGET, created_at=now)])
        session.flush()
        session.add(BuilderTarget(builder_id=1, target_id=1, environment_id="e", offered_at=now))

    with Database.open(url) as database:
        database.write(fill)


@contextmanager
def two_databases(engine: str) -> Iterator[tuple[str, str]]:
    """The URLs of two empty ones: for who is killed, and for a first reading."""
    with tempfile.TemporaryDirectory() as place:
        if engine == "sqlite":
            yield f"sqlite:///{place}/followed.db", f"sqlite:///{place}/scratch.db"
        else:
            Path(place).chmod(0o755)
            with Cluster(Path(place, "cluster")) as cluster:
                yield cluster.create_database("followed"), cluster.create_database("scratch")


def wait_for_end(database: Database, living: LivingPyPI, limit_s: float) -> None:
    """Until nothing is left to be read or planned."""
    deadline = time.monotonic() + limit_s
    quiet = 0
    while quiet < 3:  # noqa: PLR2004 - several looks in a row
        time.sleep(0.5)
        with database.read() as session:
            left = sum(
                session.scalar(select(func.count()).select_from(one)) or 0 for one in (PypiNote, PlanNote)
            )
            walks = session.scalars(select(Walk.done_at)).all()
            serial = notes.position(session)["serial"]
        is_done = not left and serial == living.serial and all(walks) and walks
        quiet = quiet + 1 if is_done else 0
        if time.monotonic() > deadline:
            raise SystemExit(f"it does not end: {left} left, serial {serial} of {living.serial}")


def state(database: Database) -> tuple[dict[str, tuple[str, int, bytes | None]], Jobs]:
    """What is known of PyPI, and what is queued."""
    with database.read() as session:
        projects = {
            row.name: (row.status, row.serial, row.listing)
            for row in session.scalars(select(PypiProject))
            if row.status != "deleted"
        }
        rows = session.execute(
            select(Project.name, Release.version, PypiFile.filename)
            .join(Release, Release.project_id == Project.id)
            .join(Job, Job.release_id == Release.id)
            .join(PypiFile, Job.sdist_id == PypiFile.id)
            .where(Job.state == JobState.READY)
        )
        return projects, {(name, version, filename) for name, version, filename in rows}


def run(events: int, kills: int, projects: int, seed: int, engine: str = "sqlite") -> int:
    """Everything; gives the exit code."""
    with two_databases(engine) as urls:
        return compare(events, kills, projects, seed, *urls)


def compare(  # noqa: PLR0917 - as `run`
    events: int, kills: int, projects: int, seed: int, followed: str, scratch: str
) -> int:
    """The same, with the URLs of two empty databases."""
    begun = time.time()
    chance = random.Random(seed)
    living = LivingPyPI(seed, most_projects=projects)
    living.trouble, living.lateness, living.is_behind = 0.05, 0.1, 0.05
    prepare(followed)
    prepare(scratch)
    process = Process(followed, living.index_url, "changelog", begun)
    for _ in range(kills):
        living.happen(events // kills)
        time.sleep(chance.uniform(0.3, 1.5))
        process.kill()
        process.start()
    living.settle()
    living.happen(1)
    with Database.open(followed) as database:
        wait_for_end(database, living, 600)
        process.kill()
        after_s = time.time() - begun
        mine = state(database)
    process = Process(scratch, living.index_url, "list", begun)
    with Database.open(scratch) as database:
        wait_for_end(database, living, 600)
        process.kill()
        wanted = state(database)
    living.close()
    same = mine == wanted
    print(f"{len(living.log)} events, {kills} kills, {after_s:.0f} s, {len(living.requests)} requests")
    print(
        f"projects {len(mine[0])}, jobs {len(mine[1])}; a first reading: {len(wanted[0])}, {len(wanted[1])}"
    )
    print("the same, byte by byte" if same else f"DIFFERENT: {differences(mine, wanted)}")
    return 0 if same else 1


def differences(mine: tuple, wanted: tuple) -> list[object]:
    """The first few."""
    names = {name for name in mine[0].keys() | wanted[0].keys() if mine[0].get(name) != wanted[0].get(name)}
    return [*sorted(names)[:5], *sorted(mine[1] ^ wanted[1])[:5]]


def main() -> int:
    """From the command line."""
    if sys.argv[1:2] == ["--child"]:
        url, index_url, kind, begun = sys.argv[2:]
        follow(url, index_url, kind, float(begun))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--projects", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    wanted = parser.parse_args()
    return run(wanted.events, wanted.kills, wanted.projects, wanted.seed, wanted.engine)


if __name__ == "__main__":
    sys.exit(main())
