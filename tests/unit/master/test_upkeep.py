# SPDX-License-Identifier: BSD-3-Clause
"""What a master does by itself: it goes on whatever fails, and says so once."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest
from fix_database import LEASE_S, NOW, later

from piwheels_node.core.errors import ContendedError, StorageError, UnavailableError
from piwheels_node.core.jobs import JobState
from piwheels_node.core.settings import Settings
from piwheels_node.master.database.models import Builder, Job
from piwheels_node.master.jobs import queue
from piwheels_node.master.running import upkeep
from piwheels_node.master.running.upkeep import Upkeep, renew_after_start, renew_leases


@pytest.fixture
def quick(monkeypatch):
    """Rounds that follow each other without rest."""
    for name in ("_WAKE_EVERY_S", "_MOST_REAP_S", "_CLEAN_EVERY_S", "_AGAIN_S"):
        monkeypatch.setattr(upkeep, name, 0.01)


class Here:
    """What the upkeep works with; `answer` says what each write does."""

    def __init__(self, answer):
        self.settings = Settings()
        self.database = SimpleNamespace(awrite=self._write)
        self.store = SimpleNamespace(clean=lambda now: self.rounds.append("clean"))
        self.rounds = []
        self._answer = answer

    async def _write(self, work):
        return self._answer(self, work)

    @staticmethod
    def now():
        return NOW


def run(here, until, seconds=5):
    """Let the upkeep run until something holds."""

    async def running():
        upkeep_ = Upkeep(here)
        task = asyncio.ensure_future(upkeep_.run())
        deadline = asyncio.get_running_loop().time() + seconds
        while not until(upkeep_):
            assert not task.done(), task
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(running())


def complaints(caplog):
    return [record.message.splitlines()[0] for record in caplog.records if record.levelno >= logging.ERROR]


def test_rows_that_other_masters_hold_are_no_outage(quick):
    rounds = []

    def contended(_here, _work):
        rounds.append(1)
        raise ContendedError("other masters keep locking the same rows")

    seen = []
    run(Here(contended), lambda upkeep_: seen.append(upkeep_.is_away) or len(rounds) > 20)

    assert not any(seen)


def test_an_outage_is_said_once_however_many_rounds_it_lasts(quick, caplog):
    rounds = []

    def away(_here, _work):
        rounds.append(1)
        raise UnavailableError(f"in other words each time: {len(rounds)}")

    run(Here(away), lambda upkeep_: upkeep_.is_away and len(rounds) > 20)

    assert len(complaints(caplog)) == 1
    assert "in other words each time: 1" in complaints(caplog)[0]
    assert not any(record.exc_info for record in caplog.records)


def test_a_loop_that_fails_by_our_own_mistake_shows_its_traceback_once_and_the_others_go_on(quick, caplog):
    def answer(here, work):
        here.rounds.append(work)
        raise ZeroDivisionError("our mistake")

    here = Here(answer)
    run(here, lambda upkeep_: here.rounds.count("clean") > 5 and len(here.rounds) > 30)

    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_full_disk_does_not_close_the_api(quick, caplog):
    def full(here, _work):
        here.rounds.append("full")
        raise StorageError("the disk of the database is full")

    here = Here(full)
    run(here, lambda upkeep_: here.rounds.count("full") > 10 and not upkeep_.is_away)

    assert len(complaints(caplog)) == 1


def test_when_the_database_is_back_leases_are_renewed_before_anything_is_reaped(quick, monkeypatch):
    done = []
    monkeypatch.setattr(upkeep, "renew_leases", lambda *_: done.append("renew") or 0)
    monkeypatch.setattr(queue, "reap", lambda *_: done.append("reap") or [])
    monkeypatch.setattr(queue, "wake", lambda *_: 0)

    def answer(here, work):
        here.rounds.append(1)
        if len(here.rounds) < 5:
            raise UnavailableError("away")
        return work(None)

    run(Here(answer), lambda upkeep_: not upkeep_.is_away and done.count("reap") > 3)

    assert done.count("renew") == 1
    assert done.index("renew") < done.index("reap")


def lease_of(tables, job_id):
    return tables.job(job_id).lease_until_at


def test_leases_that_were_good_when_builders_were_last_heard_begin_anew(tables):
    tables.add_job("over")
    tables.add_job("good")
    over = tables.claim(lease_s=10).id
    good = tables.claim(lease_s=LEASE_S).id
    tables.add_job("ready")
    back = later(1000)
    renewed = tables.database.write(lambda session: renew_leases(session, later(20), back, LEASE_S))

    assert renewed == 1
    assert lease_of(tables, good) == later(1000 + LEASE_S)
    assert lease_of(tables, over) == later(10)
    assert tables.database.write(lambda session: renew_leases(session, later(20), back, LEASE_S)) == 0


def test_a_lease_is_never_made_shorter(tables):
    tables.add_job("long")
    job_id = tables.claim(lease_s=5000).id
    tables.database.write(lambda session: renew_leases(session, NOW, later(1), LEASE_S))

    assert lease_of(tables, job_id) == later(5000)


def test_a_master_that_was_away_renews_what_was_good_when_it_last_heard_a_builder(tables):
    tables.add_job("good")
    job_id = tables.claim(lease_s=LEASE_S).id

    def start(session):
        return renew_after_start(session, later(3600), LEASE_S)

    assert tables.database.write(start) == 0  # it has never heard of anybody
    tables.database.write(
        lambda session: setattr(session.get_one(Builder, tables.builder_id), "last_seen_at", later(30))
    )
    assert tables.database.write(start) == 1
    assert lease_of(tables, job_id) == later(3600 + LEASE_S)
    with tables.database.read() as session:
        assert session.get_one(Job, job_id).state is JobState.LEASED
