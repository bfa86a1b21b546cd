# SPDX-License-Identifier: BSD-3-Clause
"""Planning over many projects: how large they are as stored, how long a plan takes, how fast a walk is.

    python benchmarks/plan.py --projects 736000

Projects are drawn with shares as PyPI's: 29 of 100 have one release, the mean is 11; a quarter has wheels
only, most a pure wheel beside the sdist, one of twelve is compiled. A walk plans them for one target, while
jobs are claimed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import resource
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from piwheels_node.core.settings import PypiSettings
from piwheels_node.core.targets import Target
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Builder, BuilderTarget, PypiProject, TargetRow
from piwheels_node.master.jobs import queue
from piwheels_node.master.jobs.plan import plan_release
from piwheels_node.master.pypi import notes, people, stored
from piwheels_node.master.pypi.feeds import List
from piwheels_node.master.pypi.follow import Follower
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.listing import ProjectFiles, read_listing

TARGET = "cp313-linux_armv7l-debian13"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
COMPILED = [
    f"cp3{minor}-cp3{minor}-{platform}"
    for minor in (11, 12, 13)
    for platform in ("win_amd64", "macosx_11_0_arm64", "manylinux_2_17_x86_64.manylinux2014_x86_64")
]
ONE_RELEASE, NO_WHEEL, IS_COMPILED, NO_SDIST = 0.29, 0.2, 0.28, 0.34
"""Shares of projects; the last of those that have a pure wheel."""

_CHUNK = 2000


def project(number: int, chance: random.Random) -> ProjectFiles:
    """A project as PyPI might have it."""
    releases = 1 if chance.random() < ONE_RELEASE else min(2 + int(chance.expovariate(1 / 13)), 2000)
    draw = chance.random()
    wheels = [] if draw < NO_WHEEL else COMPILED if draw < IS_COMPILED else ["py3-none-any"]
    has_sdist = draw < IS_COMPILED or chance.random() > NO_SDIST
    newest = NOW - timedelta(days=chance.expovariate(1 / 900))
    files = []
    for place in range(releases):
        stem = f"thing_{number}-0.{place}.0"
        at = (newest - timedelta(days=20 * (releases - place - 1))).isoformat()
        names = [f"{stem}.tar.gz"] if has_sdist else []
        for name in names + [f"{stem}-{tags}.whl" for tags in wheels]:
            sha = hashlib.sha256(name.encode()).hexdigest()
            url = f"http://127.0.0.1/packages/{sha[:2]}/{sha[2:4]}/{sha[4:]}/{name}"
            more = {"hashes": {"sha256": sha}, "size": len(name) * 997, "requires-python": ">=3.8"}
            files.append({"filename": name, "url": url, "upload-time": at, **more})
    return read_listing(f"thing-{number}", "http://127.0.0.1/simple/", {"files": files})


def fill(database: Database, number: int) -> tuple[int, list[float]]:
    """Store so many projects; gives the number of releases, and seconds of plans of single releases."""
    chance = random.Random(1)
    releases, plans, target = 0, [], Target.parse(TARGET)
    for begin in range(0, number, _CHUNK):
        rows = []
        for at in range(begin, min(begin + _CHUNK, number)):
            one = project(at, chance)
            grouped = one.releases
            releases += len(grouped)
            version = max(grouped)
            started = time.perf_counter()
            plan_release(grouped[version], [target])
            plans.append(time.perf_counter() - started)
            rows.append(
                {
                    "name": one.name,
                    "serial": at,
                    "status": "active",
                    "listing": stored.write(one),
                    "newest_at": stored.newest_at(one),
                    "read_at": NOW,
                }
            )
        database.write(lambda session: session.execute(insert(PypiProject), rows) and None)  # noqa: B023
    return releases, plans


def offer(database: Database) -> None:
    """A builder offers the target, and the list was read."""

    def work(session) -> None:  # noqa: ANN001
        session.add_all([Builder(name="pi", created_at=NOW), TargetRow(name=TARGET, created_at=NOW)])
        session.flush()
        session.add(BuilderTarget(builder_id=1, target_id=1, environment_id="e", offered_at=NOW))
        notes.move(session, NOW, list_at=NOW.isoformat(), serial=1)

    database.write(work)


def walk(database: Database, seconds: float) -> tuple[int, float, list[float]]:
    """Walk for some seconds; gives how many turns, the seconds, and how long claims took meanwhile."""
    settings = PypiSettings(follow="list", every_s=1e9, queue_max=10**9)
    pypi = PyPI("http://127.0.0.1:9/simple/")
    follower = Follower(database, pypi, List(pypi), settings, lambda: NOW)
    follower._ask_at = float("inf")  # noqa: SLF001 - nobody is asked
    done, claims = threading.Event(), []

    def take(session):  # noqa: ANN001, ANN202
        return queue.claim(
            session,
            builder_id=1,
            builder_name="pi",
            targets=[TARGET],
            memory_bytes=None,
            now=NOW,
            lease_s=60,
        )

    def claim() -> None:
        while not done.wait(0.01):
            started = time.perf_counter()
            database.write(take)
            claims.append(time.perf_counter() - started)

    thread = threading.Thread(target=claim)
    thread.start()
    turns, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds and follower.turn() == 0.0:
        turns += 1
    took = time.perf_counter() - started
    done.set()
    thread.join()
    follower.close()
    pypi.close()
    return turns, took, claims


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--projects", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "plan.db")
        with Database.open(f"sqlite:///{path}") as database:
            started = time.perf_counter()
            releases, plans = fill(database, wanted.projects)
            took = time.perf_counter() - started
            offer(database)
            turns, walked_s, claims = walk(database, wanted.seconds)
            with database.read() as session:
                (view,) = people.sync_view(session, PypiSettings()).walks
        size = path.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{wanted.projects} projects, {releases} releases; drawn and stored: {releases / took:.0f} releases/s"
    )
    print(f"database {size / 1e6:.0f} MB after the walk; peak memory {peak / 1024:.0f} MiB")
    print(f"plan of one release: median {statistics.median(plans) * 1e6:.0f} us")
    print(
        f"walk: {view.projects / walked_s:.0f} projects/s, {view.jobs / walked_s:.0f} jobs/s, {turns} turns"
    )
    if claims:
        claims.sort()
        print(
            f"claims meanwhile: median {statistics.median(claims) * 1e3:.1f} ms,"
            f" 99 % below {claims[int(0.99 * len(claims))] * 1e3:.1f} ms, of {len(claims)}"
        )


if __name__ == "__main__":
    main()
