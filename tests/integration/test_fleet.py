# SPDX-License-Identifier: BSD-3-Clause
"""A small fleet with faults closes its account on both engines; with something wrong it does not close."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import fleet
from simulator import account
from simulator.world import World

SMALL = ["--builders", "20", "--jobs", "100", "--lease", "4", "--scale", "0.002", "--timeout", "90", "--json"]
FLEET = Path(fleet.__file__)
COLUMNS = "job_id, builder_id, attempt, started_at, duration_s, outcome"
BUILT_JOB = "(select id from job where state = 'built' limit 1)"


def run_fleet(*words):
    """The figures of a run."""
    done = subprocess.run(
        [sys.executable, str(FLEET), *SMALL, *words], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.stdout, done.stderr
    results = json.loads(done.stdout)
    assert done.returncode == (0 if results["closes"] else 1)
    return results


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_fleet_with_faults_loses_nothing_and_doubles_nothing(engine):
    results = run_fleet("--engine", engine, "--faults", "3", "--seed", "11")

    assert results["complaints"] == [], results["examples"]
    assert results["closes"]
    assert sum(results["account"].get(state, 0) for state in ("built", "failed", "cancelled")) >= 90
    assert len(results["faults"]) >= 10
    assert {"paused", "cancelled"} <= results["faults"].keys()


def test_three_masters_of_which_one_is_killed_now_and_then_lose_nothing():
    results = run_fleet(
        "--engine", "postgresql", "--masters", "3", "--faults", "1", "--lease", "6", "--seed", "12"
    )

    assert results["complaints"] == [], results["examples"]
    assert results["masters_killed"] >= 1


@pytest.fixture(scope="module")
def settled():
    """A fleet without faults that has ended; its master still runs."""
    options = fleet.options_of(["--builders", "4", "--jobs", "24", "--scale", "0.002", "--poll", "1"])
    world = World(options.seed, options.jobs, options.scale)
    with fleet.farm_of(options, world) as farm:
        shared = fleet.shared_by(options, world, farm)
        run = asyncio.run(fleet.drive(farm, shared, options))
        assert run.in_time, run.ended
        yield farm, shared.ledger


@pytest.fixture
def copy(settled, tmp_path):
    """Makes the account of a copy of the settled farm, after SQL has done some harm to it."""
    farm, ledger = settled

    def make(harm):
        data = tmp_path / "copy"
        shutil.copytree(farm.data / "wheels", data / "wheels")
        with (
            contextlib.closing(sqlite3.connect(farm.data / "database.sqlite")) as source,
            contextlib.closing(sqlite3.connect(data / "database.sqlite")) as target,
        ):
            source.backup(target)
            target.executescript(harm)
        address = str(farm.masters[0].address)
        return account.close(f"sqlite:///{data}/database.sqlite", data, 24, ledger, master=address)

    return make


def test_the_account_of_a_farm_without_harm_closes(copy):
    assert copy("").complaints == []


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        ("delete from job where id = 3", "23 are there"),
        ("update job set lease_token = 'x' where id = 3", "its lease has leaked"),
        (f"update job set state = 'leased' where id = {BUILT_JOB}", "has not ended: leased"),
        (f"update job set state = 'failed' where id = {BUILT_JOB}", "is failed, with 1 builds that built"),
        (f"delete from event where kind = 'leased' and job_id = {BUILT_JOB}", "cannot follow where it is"),
        (f"delete from event where kind = 'built' and job_id = {BUILT_JOB}", "but its last event is"),
        (
            f"insert into event (job_id, at, kind, detail) values ({BUILT_JOB}, '2026-01-01', 'built', 1)",
            "'built' cannot follow where it is 'ended'",
        ),
        (
            f"insert into build ({COLUMNS}) values ({BUILT_JOB}, 1, 2, '2026-01-01', 1, 'built')",
            "with 2 builds that built",
        ),
        ("delete from wheel where id = 1", "has not one wheel"),
        ("update wheel set sha256 = 'ab' where id = 1", "other bytes than the database says"),
        ("update wheel set filename = 'x-1-py3-none-any.whl' where id = 1", "is not on the disk"),
        ("update build set builder_id = 1 + builder_id % 4 where outcome = 'built'", "not as recorded"),
        ("update counter set value = value + 1 where name = 'jobs.built'", "the counter jobs.built is"),
        ("update counter set value = value - 1 where name = 'wheels'", "the counter wheels is"),
        (
            "insert into counter (name, value) values ('jobs.ready.3000', 1)",
            "the counter jobs.ready.3000 is 1",
        ),
        (f"update job set state = 'cancelled' where id = {BUILT_JOB}", "nobody has cancelled it"),
        ("update builder set mode = 'pause' where id = 2", "pi-0002 does not run"),
    ],
)
def test_an_account_with_something_wrong_does_not_close(copy, harm, complaint):
    complaints = copy(harm).complaints

    assert any(complaint in one for one in complaints), complaints


def test_an_account_does_not_close_where_a_job_was_cancelled_and_goes_on(copy, settled, monkeypatch):
    ledger = settled[1]
    monkeypatch.setattr(ledger, "cancelled", {built_by(ledger).job_id})

    assert any("was cancelled, and is built" in one for one in copy("").complaints)


def built_by(ledger):
    """An attempt that built."""
    return next(one for one in ledger.attempts if one.told == "built")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"told": "failed"}, "and the builder was told 'failed'"),
        ({"told": "lost"}, "and the builder was told 'lost'"),
        ({"sha256": "cd" * 32}, "is built, and it is not"),
        ({"log": b"another"}, "the log is"),
    ],
)
def test_an_account_that_is_not_what_builders_were_told_does_not_close(copy, settled, changes, complaint):
    ledger = settled[1]
    attempt = built_by(ledger)
    before = dict(vars(attempt))
    vars(attempt).update(changes)
    try:
        complaints = copy("").complaints
    finally:
        vars(attempt).update(before)

    assert any(complaint in one for one in complaints), complaints
