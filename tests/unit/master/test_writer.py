# SPDX-License-Identifier: BSD-3-Clause
"""The writer: what goes past the session, what is gathered, and what a failure takes with it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from fix_database import NOW
from sqlalchemy import bindparam, column, insert, select, table, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from test_engine import add_counter, hold, names

from piwheels_node.core.errors import StorageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import EventKind, JobState, Outcome
from piwheels_node.master.database.models import Build, Builder, Counter, Event, Job
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs import queue

COUNTERS = Counter.__table__
PUT = Statement(insert(COUNTERS).values(name=bindparam("called"), value=bindparam("number")))
BUMP = Statement(
    update(COUNTERS)
    .where(COUNTERS.c.name == bindparam("called"))
    .values(value=COUNTERS.c.value + 1)
    .returning(COUNTERS.c.value)
)
ABSENT = Statement(select(table("nowhere", column("x")).c.x))


def put(name, number=0):
    return lambda session: session.fast(PUT, {"called": name, "number": number})


def bump(name):
    return lambda session: session.fast(BUMP, {"called": name})[0][0]


def test_a_fast_statement_gives_its_rows_and_is_committed(database):
    database.write(put("n", 6))

    assert database.write(bump("n")) == 7
    assert names(database) == ["n"]


def test_a_piece_that_fails_before_it_changes_anything_disturbs_nobody(database):
    database.write(put("n"))
    runs = []
    go_on, _ = hold(database)

    def other(session):
        runs.append(1)
        return bump("n")(session)

    def fail(session):
        session.fast(Statement(select(COUNTERS.c.name)), {})
        raise ValueError("no")

    before, failed, after = database.submit(other), database.submit(fail), database.submit(other)
    go_on.set()
    with pytest.raises(ValueError, match="no"):
        failed.result(10)
    assert (before.result(10), after.result(10)) == (1, 2)
    assert len(runs) == 2, "nothing ran twice"


def test_where_a_piece_fails_after_a_fast_change_the_others_run_again_without_it(database):
    database.write(put("n"))
    go_on, _ = hold(database)

    def fail(session):
        bump("n")(session)
        session.count("told", 1)
        raise ValueError("no")

    before, failed, after = (database.submit(work) for work in (bump("n"), fail, bump("n")))
    go_on.set()
    with pytest.raises(ValueError, match="no"):
        failed.result(10)
    assert (before.result(10), after.result(10)) == (1, 2)
    assert names(database) == ["n"]


def test_a_piece_that_hides_the_failure_of_a_fast_statement_fails_all_the_same(database):
    """On PostgreSQL its transaction is worth nothing any more, and the commit would not say so."""
    go_on, _ = hold(database)

    def hide(session):
        session.count("told", 1)
        with suppress(DBAPIError):
            session.fast(ABSENT, {})
        return "all is well"

    failed, after = database.submit(hide), database.submit(add_counter("after"))
    go_on.set()
    with pytest.raises(DBAPIError):
        failed.result(10)
    assert after.result(10).name == "after"
    assert names(database) == ["after"]


def test_a_fast_change_that_fails_is_the_piece_s_own_error(database):
    database.write(put("n"))
    go_on, _ = hold(database)
    before, failed, after = (database.submit(work) for work in (put("a"), put("n"), put("b")))
    go_on.set()

    with pytest.raises(IntegrityError):
        failed.result(10)
    before.result(10)
    after.result(10)
    assert names(database) == ["a", "b", "n"]


def test_what_the_session_holds_is_flushed_before_a_fast_statement(database):
    def work(session):
        session.add(Counter(name="n", value=1))
        return bump("n")(session)

    assert database.write(work) == 2


def test_a_mixed_piece_that_fails_after_a_savepoint_began_undoes_only_itself(database):
    database.write(put("n"))
    runs = []
    go_on, _ = hold(database)

    def other(session):
        runs.append(1)
        return bump("n")(session)

    def fail(session):
        session.get_one(Counter, "n")
        bump("n")(session)
        raise ValueError("no")

    before, failed, after = (database.submit(work) for work in (other, fail, other))
    go_on.set()
    with pytest.raises(ValueError, match="no"):
        failed.result(10)
    assert (before.result(10), after.result(10)) == (1, 2)
    assert len(runs) == 2


def test_counters_of_a_batch_are_added_up_and_those_of_a_failed_piece_left_out(database):
    go_on, _ = hold(database)

    def add(by):
        return lambda session: session.count("sum", by)

    def fail(session):
        session.count("sum", 1000)
        raise ValueError("no")

    futures = [database.submit(work) for work in (add(1), fail, add(20), add(300), add(0))]
    go_on.set()
    with pytest.raises(ValueError, match="no"):
        futures[1].result(10)
    futures[-1].result(10)
    with database.read() as session:
        assert session.get_one(Counter, "sum").value == 321


def test_changes_that_cancel_out_are_no_write(database):
    database.write(lambda session: (session.count("n", 1), session.count("n", -1)))

    assert names(database) == []


def test_events_keep_what_json_can_hold(tables):
    job_id = tables.add_job()
    detail = {"text": "ü\"'\\ %s {} \U0001f40d", "none": None, "list": [1, 2.5, True], "deep": {"a": []}}
    tables.database.write(lambda s: queue.record(s, job_id, EventKind.STEP, NOW, **detail))
    with tables.database.read() as session:
        found = session.scalars(select(Event).where(Event.kind == "step")).one()

    assert json.loads(json.dumps(found.detail)) == detail
    assert found.at == NOW


def test_an_event_of_a_job_that_is_not_there_is_its_pieces_own_error(tables):
    go_on, _ = hold(tables.database)
    good = tables.database.submit(lambda s: queue.count(s, "good", 1))
    bad = tables.database.submit(lambda s: queue.record(s, 10**6, EventKind.STEP, NOW))
    go_on.set()

    good.result(10)
    with pytest.raises(IntegrityError):
        bad.result(10)
    assert tables.counters() == {"good": 1}


def test_a_session_that_reads_can_neither_count_nor_claim(database):
    with database.read() as session, pytest.raises(TypeError, match=r"Database\.write"):
        queue.count(session, "n", 1)


def test_a_lease_can_be_looked_at_in_a_reading_session(tables):
    tables.add_job()
    job = tables.claim()
    with tables.database.read() as session:
        held = queue.held_job(session, job.id, job.lease_token, NOW, tables.builder_id)
        assert (held.id, held.state, held.leased_at) == (job.id, JobState.LEASED, NOW)
        assert queue.held(session, job.id, job.lease_token, NOW).target.name


def test_a_row_that_went_past_the_session_is_as_one_that_did_not(tables):
    """Types are converted on the way: enums, times, JSON, and what is missing is NULL."""
    tables.add_job()
    job = tables.claim()
    columns = {
        "job_id": job.id,
        "builder_id": tables.builder_id,
        "attempt": 1,
        "started_at": datetime(2026, 11, 22, 13, 14, 15, 678901, tzinfo=UTC),
        "duration_s": 1.25,
        "outcome": Outcome.FAILED,
        "reason": FailureReason.TIMEOUT,
        "environment": {"python": "3.13", "tools": {}},
        "steps": [{"step": "build", "duration_s": 1.0}],
        "peak_memory_bytes": 3 << 30,
    }
    build_id = tables.database.write(lambda s: queue.add_build(s, **columns))
    with tables.database.read() as session:
        row = session.get_one(Build, build_id)
        assert {name: getattr(row, name) for name in columns} == columns
        assert (row.captured, row.cpu_s, row.environment_id) == (None, None, None)
        assert session.get_one(Job, job.id).state is JobState.LEASED
    with pytest.raises(TypeError, match="no columns of a build"):
        tables.database.write(lambda s: queue.add_build(s, colour="red"))


def test_a_naive_time_is_refused_before_it_reaches_the_database(tables):
    tables.add_job()
    with pytest.raises(ValueError, match="without a zone"):
        tables.claim(now=datetime(2026, 11, 22))  # noqa: DTZ001 - that is the point
    assert tables.claim() is not None


def test_who_listens_badly_harms_nobody(database, caplog):
    heard = []

    def deaf(_topic):
        raise ValueError("deaf")

    database.subscribe(deaf)
    database.subscribe(heard.append)
    database.write(lambda session: session.announce("orders"))
    database.write(lambda session: session.announce("orders"))

    assert "nobody could be told" in caplog.text
    assert names(database) == []


def test_an_announcement_is_made_as_often_as_it_was_asked_for(database):
    heard = []
    database.subscribe(heard.append)
    go_on, _ = hold(database)
    futures = [database.submit(lambda session: session.announce("ready:x")) for _ in range(3)]
    go_on.set()
    for future in futures:
        future.result(10)

    assert heard == ["ready:x"] * 3


def test_pieces_that_only_go_past_the_session_share_one_and_know_nothing_of_each_other(database):
    seen, go_on = [], hold(database)[0]

    def work(session):
        seen.append((session, dict(session.info), session.tally.counters.total()))
        session.info["x"] = 1
        session.count("n", 1)

    futures = [database.submit(work) for _ in range(3)]
    go_on.set()
    for future in futures:
        future.result(10)
    assert len({session for session, *_ in seen}) == 1
    assert [rest for _, *rest in seen] == [[{}, 0]] * 3


def test_a_transaction_that_fails_and_nobody_is_told_of_is_not_committed(database):
    """What `COMMIT` does then is ROLLBACK on PostgreSQL, and says that all is well."""
    database.write(put("n"))

    def ruin(session):
        driver = session.get_bind().connection.driver_connection
        with suppress(Exception):
            driver.execute("ROLLBACK" if driver.__class__.__module__.startswith("sqlite3") else "SELECT 1/0")

    go_on = hold(database)[0]
    before, ruined = database.submit(bump("n")), database.submit(ruin)
    go_on.set()

    assert before.result(60) == 1
    with pytest.raises(StorageError):
        ruined.result(60)
    assert database.write(bump("n")) == 2


def test_the_writer_survives_work_from_many_threads_that_fails_in_every_way(database):
    """Whatever happens, each future gets an answer, and what succeeded is there once."""
    database.write(put("n"))

    def fail_late(session):
        bump("n")(session)
        raise ValueError("late")

    def fail_in_orm(session):
        session.add(Counter(name="n", value=1))

    def succeed_in_orm(session):
        session.get_one(Counter, "n").value += 1

    kinds = [bump("n"), fail_late, fail_in_orm, put("n"), succeed_in_orm]
    outcomes = []

    def client(number):
        for turn in range(10):
            try:
                database.write(kinds[(number + turn) % len(kinds)])
                outcomes.append(True)
            except (ValueError, IntegrityError):
                outcomes.append(False)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 100
    assert sum(outcomes) == 40
    with database.read() as session:
        assert session.get_one(Counter, "n").value == 40
        assert session.scalars(select(Builder)).all() == []


def test_builds_get_ids_of_their_own_whichever_way_they_are_made(tables):
    """On PostgreSQL ids are fetched ahead; other sessions, and work that fails, may use the same sequence."""
    tables.add_job()
    job = tables.claim()
    columns = {
        "job_id": job.id,
        "builder_id": tables.builder_id,
        "attempt": 1,
        "started_at": NOW,
        "duration_s": 1.0,
        "outcome": Outcome.FAILED,
    }

    def past(session):
        return [queue.add_build(session, **columns) for _ in range(40)]

    def through(session):
        build = Build(**columns)
        session.add(build)
        session.flush()
        return [build.id]

    def fail(session):
        queue.add_build(session, **columns)
        raise ValueError("no")

    made = []
    for work in (past, through, fail, past, through):
        with suppress(ValueError):
            made += tables.database.write(work)
    assert len(set(made)) == len(made) == 82
    with tables.database.read() as session:
        assert set(session.scalars(select(Build.id))) == set(made)
