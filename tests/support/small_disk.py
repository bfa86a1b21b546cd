# SPDX-License-Identifier: BSD-3-Clause
"""Run in a mount namespace of its own, on a disk of a few MB: a farm whose database fills it.

    python small_disk.py sqlite|postgresql DISK ELSEWHERE

DISK is where the small disk is; what is to survive goes to ELSEWHERE. Prints what was seen as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from pathlib import Path

import httpx
from fix_master import FarmOfOne
from fix_pypi import HomeMadePyPI
from postgres import Cluster
from sqlalchemy import func, select

from piwheels_node.core.errors import NodeError
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import Heartbeat
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Counter, Job, Wheel

_SO_LONG_S = 90


class Ballast:
    """A file that takes all the space there is."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "ballast"

    def fill(self) -> None:
        with self._path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(64 << 10))
        with self._path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x")

    def drop(self) -> None:
        self._path.unlink()


def tried(call):
    """What came of a call: the name of an error, and what it says."""
    try:
        call()
    except NodeError as error:
        return [type(error).__name__, error.what]
    return ["worked", ""]


def fill_up(farm, ballast):
    """Ask for more and more, on a disk that is full; gives what the first refusal says."""
    deadline = time.monotonic() + _SO_LONG_S
    for number in range(10_000):
        ballast.fill()
        farm.add_sdist(f"more{number}")
        said = tried(lambda number=number: farm.ask(f"more{number}"))
        if said[0] != "worked":
            return said
        if time.monotonic() > deadline:
            break
    return ["worked", "for ever"]


def look(farm, wheel):
    """What people and their tools see now."""
    pages = ["/api/v1/status", "/simple/old/", f"/files/old/{wheel.name}"]
    return [httpx.get(f"{farm.url}{page}", trust_env=False, timeout=20).status_code for page in pages]


def account(url):
    """True where the counters say what the rows say."""
    with Database.open(url) as database, database.read() as session:
        counters = {row.name: row.value for row in session.scalars(select(Counter))}
        states = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
        wheels = session.scalar(select(func.count()).select_from(Wheel))
    jobs = {f"jobs.{state.value}": many for state, many in states}
    kept = {name: counters[name] for name in counters if name.count(".") == 1 and name.startswith("jobs.")}
    return {name: value for name, value in kept.items() if value} == jobs and counters["wheels"] == wheels


def story(farm, ballast, seen, revive):
    wheel = farm.publish("old")
    look(farm, wheel)
    lease = farm.leased("held")
    path = farm.wheel("held")
    beat = Heartbeat(token=lease.token, step=Step.BUILD)
    seen["refused"] = fill_up(farm, ballast)
    seen["meanwhile"] = look(farm, wheel)
    ballast.drop()
    revive()
    deadline = time.monotonic() + _SO_LONG_S
    while (said := tried(lambda: farm.builder.heartbeat(lease, beat)))[0] != "worked":
        if time.monotonic() > deadline:
            raise SystemExit(f"it never came back: {said}")
        time.sleep(0.1)
    seen["report"] = farm.hand_in(lease, path).outcome.value
    farm.add_sdist("afterwards")
    seen["afterwards"] = tried(lambda: farm.ask("afterwards"))


def main(kind: str, disk: Path, elsewhere: Path) -> None:
    ballast, seen = Ballast(disk), {}
    with contextlib.ExitStack() as closing:
        pypi = HomeMadePyPI()
        closing.callback(pypi.close)
        settings = {"lease_s": 300.0, "min_free_bytes": 0, "requests_per_s": 1000.0}
        if kind == "sqlite":
            data = disk
            url, revive = f"sqlite:///{data}/database.sqlite", lambda: None
        else:
            data = elsewhere / "master"
            cluster = closing.enter_context(Cluster(disk / "cluster", fsync=True))
            url, revive = cluster.create_database("farm"), cluster.revive
            settings["database"] = url
        farm = FarmOfOne(data, pypi, **settings)
        try:
            story(farm, ballast, seen, revive)
        finally:
            farm.close()
        seen["counters are right"] = account(url)
        if kind == "sqlite":
            with contextlib.closing(sqlite3.connect(data / "database.sqlite")) as connection:
                seen["check"] = connection.execute("PRAGMA integrity_check").fetchone()[0]
        else:
            seen["check"] = cluster.run("pg_amcheck", "--install-missing", "--all") or "ok"
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
