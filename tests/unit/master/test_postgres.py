# SPDX-License-Identifier: BSD-3-Clause
"""PostgreSQL: several masters on one database, and a database that goes away and comes back."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
from collections import Counter as Bag
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import psycopg
import pytest
from fix_database import LEASE_S, NOW, TARGET, Tables
from sqlalchemy import bindparam, event, func, make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from test_engine import hold
from test_writer import bump, put

from piwheels_node.core.errors import ContendedError, NodeError, SettingsError, StorageError, UnavailableError
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import OfferedTarget
from piwheels_node.master.database import postgres
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Builder, Counter, Job, TargetRow
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs import leases, queue


@pytest.fixture
def url(new_postgres):
    return new_postgres()


@pytest.fixture
def database(url):
    with Database.open(url) as opened:
        yield opened


@pytest.fixture
def tables(database):
    return fill(database)


def fill(database):
    def work(session):
        builder, target = Builder(name="pi", created_at=NOW), TargetRow(name=TARGET, created_at=NOW)
        session.add_all([builder, target])
        session.flush()
        return builder.id, target.id

    return Tables(database, *database.write(work))


def value(database, name):
    with database.read() as session:
        return session.scalar(select(Counter.value).where(Counter.name == name))


def until(true, seconds=60.0):
    """Wait until something is true; gives how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it never came true"
        time.sleep(0.01)
    return time.monotonic() - began


def insert_late(words, pause_s):
    """A piece whose INSERT fails, of which it hears when the next statement goes, or only after that."""
    statement = Statement(text(f"INSERT INTO counter SELECT {words} FROM pg_sleep({pause_s})"))
    return lambda session: session.fast(statement, {})


def through_session(session):
    session.add(Counter(name="other", value=1))


def through_session_and_on(session):
    with suppress(DBAPIError):
        session.scalars(select(Counter)).all()


@pytest.mark.parametrize("pause_s", [0, 0.1])
@pytest.mark.parametrize("words", ["'n', 0", "'m', NULL"])
@pytest.mark.parametrize("after", [through_session, through_session_and_on])
def test_what_a_statement_complains_of_late_harms_no_other_piece_of_the_batch(
    database, after, words, pause_s
):
    database.write(put("n"))
    go_on = hold(database)[0]
    before, wrong, right = (database.submit(work) for work in (bump("n"), insert_late(words, pause_s), after))
    go_on.set()

    with pytest.raises(IntegrityError):
        wrong.result(60)
    before.result(60)
    right.result(60)
    assert value(database, "n") == 1
    assert value(database, "other") == (1 if after is through_session else None)


@pytest.mark.parametrize("after", [through_session, through_session_and_on])
def test_a_piece_hears_of_its_own_late_error_and_not_of_what_follows_from_it(database, after):
    insert = insert_late("'m', NULL", 0.1)

    def work(session):
        insert(session)
        after(session)

    with pytest.raises(IntegrityError):
        database.write(work)


def kill_connections(url, of="piwheels-node"):
    """End the server's side of all connections of masters, as a restart or a firewall would."""
    with psycopg.connect(url, autocommit=True, application_name="killer") as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database()",
            [of],
        )


# What a URL means


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_usual_spellings_of_a_url_are_understood(url, scheme):
    with Database.open(url.replace("postgresql", scheme, 1)) as database:
        database.write(put("n"))


def test_another_driver_is_refused(url):
    with pytest.raises(SettingsError, match="psycopg 3 only"):
        Database.open(url.replace("postgresql", "postgresql+asyncpg", 1))


def test_without_psycopg_it_is_said_what_to_install(url, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match="not installed") as caught:
        Database.open(url)
    assert "python3-psycopg" in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://farm:s3cret@127.0.0.1:1/farm",
        "postgresql://farm:s3cret@host.invalid/farm",
        "postgresql://127.0.0.1:1/farm?user=farm&password=s3cret",
        "postgresql+pg8000://farm:s3cret@127.0.0.1/farm",
        "oracle://farm:s3cret@127.0.0.1/farm",
        "postgresql://farm:s3cret@127.0.0.1:port/farm",
    ],
)
def test_no_error_ever_shows_the_password(wrong):
    with pytest.raises((UnavailableError, SettingsError)) as caught:
        Database.open(wrong)
    error = caught.value
    while error is not None:
        assert "s3cret" not in f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__


def test_a_database_that_is_not_there_is_said_so(postgres_cluster):
    with pytest.raises(NodeError, match='database "nowhere" does not exist') as caught:
        Database.open(postgres_cluster.url("nowhere"))
    assert caught.value.where.endswith("/nowhere")


def test_options_of_the_url_are_kept(url):
    options = "&options=-c%20search_path%3Dpublic&application_name=mine"
    with Database.open(url + options) as database, database.read() as session:
        assert session.execute(text("SHOW application_name")).scalar() == "mine"
        assert session.execute(text("SHOW search_path")).scalar() == "public"
        assert session.execute(text("SHOW timezone")).scalar() == "UTC"


# What errors mean


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("53100", StorageError, "disk of the database is full"),
        ("58030", StorageError, "cannot read or write its disk"),
        ("XX001", StorageError, "damaged"),
        ("42501", StorageError, "may not use"),
        ("53300", UnavailableError, "no connection left"),
        ("53200", UnavailableError, "no memory left"),
        ("55P03", ContendedError, "holds a row"),
        ("40P01", ContendedError, "locking the same rows"),
        ("57014", UnavailableError, "cancel"),
        ("08006", UnavailableError, "cannot be reached"),
    ],
)
def test_errors_of_postgresql_are_told_in_words(database, code, kind, words):
    raises = text(f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{code}'; END $$")
    with pytest.raises(kind, match=words):
        database.write(lambda session: session.execute(raises))
    with pytest.raises(kind, match=words), database.read() as session:
        session.execute(raises)
    database.write(put("works on"))


def test_more_readers_than_connections_is_an_answer_and_no_hang(url, monkeypatch):
    monkeypatch.setattr(postgres, "_WAIT_FOR_READER_S", 0.2)
    monkeypatch.setattr(postgres, "_MOST_READERS", postgres._READERS)
    with Database.open(url) as database:
        sessions = [database.read() for _ in range(postgres._READERS)]
        for session in sessions:
            session.__enter__().execute(text("SELECT 1"))
        with pytest.raises(UnavailableError, match="reads more at once"), database.read() as more:
            more.execute(text("SELECT 1"))
        for session in sessions:
            session.__exit__(None, None, None)


def test_a_text_with_a_nul_is_an_error_of_its_own_and_not_of_the_connection(tables):
    job_id = tables.add_job()
    with pytest.raises(DBAPIError):
        tables.database.write(put("a\0b"))
    with pytest.raises(DBAPIError):
        tables.database.write(lambda s: s.add(Builder(name="a\0b", created_at=NOW)))
    assert tables.claim().id == job_id


# Several masters


def race(url, number, clients, start):
    """A master: from `start` on its clients claim, beat and finish until nothing is left. Gives the jobs."""
    claimed = []

    def client(_):
        while True:
            job = database.write(
                lambda s: queue.claim(
                    s,
                    builder_id=1,
                    builder_name=f"master-{number}",
                    targets=[TARGET],
                    memory_bytes=None,
                    now=NOW,
                    lease_s=LEASE_S,
                )
            )
            if job is None:
                return
            claimed.append(job.job_id)
            database.write(lambda s, job=job: beat(s, job))
            database.write(lambda s, job=job: end(s, job))

    def beat(session, job):
        queue.heartbeat(session, job.job_id, job.token, 1, Step.BUILD, NOW, LEASE_S)

    def end(session, job):
        held = queue.held_job(session, job.job_id, job.token, NOW, 1)
        build = queue.add_build(
            session,
            job_id=held.id,
            builder_id=1,
            attempt=1,
            started_at=NOW,
            duration_s=1.0,
            outcome=Outcome.BUILT,
        )
        queue.finish(session, held, state=JobState.BUILT, now=NOW, build=build)

    with Database.open(url) as database, ThreadPoolExecutor(clients) as pool:
        start.wait(60)  # whoever comes late would find nothing left
        list(pool.map(client, range(clients)))
    return claimed


def test_three_masters_in_processes_give_each_job_once_and_count_exactly(url, tables):
    tables.database.write(lambda s: many_jobs(s, tables, 240))
    context = get_context("spawn")
    with context.Manager() as shared, ProcessPoolExecutor(3, mp_context=context) as pool:
        shares = list(pool.map(race, [url] * 3, range(3), [8] * 3, [shared.Barrier(3)] * 3))

    claimed = Bag(itertools.chain.from_iterable(shares))
    assert len(claimed) == 240
    assert set(claimed.values()) == {1}
    assert all(shares), "each master had some"
    assert tables.counters() == {"jobs.built": 240}
    with tables.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job).where(Job.state == JobState.BUILT)) == 240
        assert session.execute(text("SELECT COUNT(*) FROM build")).scalar() == 240
        assert session.execute(text("SELECT COUNT(*) FROM event WHERE kind = 'leased'")).scalar() == 240


def many_jobs(session, tables, often):
    session.execute(text("INSERT INTO project (id, name, serial) VALUES (1, 'p', 0)"))
    session.execute(text(f"INSERT INTO release SELECT n, 1, n FROM generate_series(1, {often}) AS n"))
    session.execute(
        text("INSERT INTO pypi_file (id, release_id, filename, url) SELECT id, id, id, '' FROM release")
    )
    session.execute(
        text(
            "INSERT INTO job (release_id, target_id, sdist_id, state, priority, created_at, not_before_at,"
            f" attempts, losses) SELECT n, {tables.target_id}, n, 'ready', n % 3, now(), now(), 0, 0"
            f" FROM generate_series(1, {often}) AS n"
        )
    )
    queue.count(session, "jobs.ready", often)
    queue.count(session, f"jobs.ready.{tables.target_id}", often)


def test_the_last_job_is_found_though_another_master_is_taking_the_best_one(url, tables):
    """What the first look finds is locked by the other transaction: the second look passes over it."""
    best, last = tables.add_job("a", memory_class=1, priority=300), tables.add_job("b")
    with psycopg.connect(url) as other:
        other.execute("SELECT id FROM job WHERE id = %s FOR UPDATE", [best])
        assert tables.claim(memory_bytes=1 << 30).id == last
        assert tables.claim(memory_bytes=1 << 30) is None
        other.rollback()
    assert tables.claim(memory_bytes=1 << 30).id == best


def test_a_deadlock_between_two_masters_is_run_again_by_itself(url, database):
    with Database.open(url) as other:
        for name in ("a", "b"):
            database.write(put(name))
        meeting, runs = threading.Barrier(2), []

        def both(first, second):
            attempts = itertools.count()

            def work(session):
                bump(first)(session)
                runs.append(first)
                if next(attempts) == 0:
                    meeting.wait(10)
                return bump(second)(session)

            return work

        futures = [database.submit(both("a", "b")), other.submit(both("b", "a"))]
        for future in futures:
            future.result(20)
    assert len(runs) >= 3
    assert (value(database, "a"), value(database, "b")) == (2, 2)


# Announcements


def test_a_row_that_two_masters_add_at_the_same_moment_is_there_once_and_both_go_on(url, tables):
    offered = [OfferedTarget(name="cp313-linux_x86_64-debian13", environment_id="env-1")]
    added, go_on, runs = threading.Event(), threading.Event(), []

    def first(session):
        leases.register(session, tables.builder_id, offered, None, NOW)
        session.flush()
        added.set()
        assert go_on.wait(10)

    def second(session):
        runs.append(1)
        return leases._target_id(session, offered[0].name, NOW)

    with Database.open(url) as other:
        one = tables.database.submit(first)
        assert added.wait(10)
        two = other.submit(second)  # it does not see the row, adds it, and waits for the one that was first
        until(lambda: runs)
        time.sleep(0.2)
        assert not two.done()
        go_on.set()
        one.result(10)

        with other.read() as session:
            names = select(TargetRow.id).where(TargetRow.name == offered[0].name)
            assert session.scalars(names).all() == [two.result(10)]
    assert len(runs) > 1


def test_what_one_master_announces_the_others_hear_within_a_second_and_each_once(url, tables):
    with Database.open(url) as other:
        here, there = [], []
        tables.database.subscribe(here.append)
        other.subscribe(there.append)
        tables.add_job()
        tables.add_job("two")
        took = until(lambda: len(there) == 2)
        other.write(lambda s: [queue.announce(s, "orders") for _ in range(2)])
        until(lambda: len(here) == 4)
        time.sleep(0.1)

    topic = f"ready:{TARGET}"
    assert here == [topic, topic, "orders", "orders"]
    assert there == here
    assert took < 15


def test_nothing_is_announced_of_work_that_fails(url, database):
    with Database.open(url) as other:
        heard = []
        other.subscribe(heard.append)

        def fail(session):
            queue.announce(session, "never")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            database.write(fail)
        database.write(lambda s: queue.announce(s, "after"))
        until(lambda: heard)
    assert heard == ["after"]


def test_what_strangers_say_on_the_channel_is_not_believed(url, database):
    heard = []
    database.subscribe(heard.append)
    with psycopg.connect(url, autocommit=True) as stranger:
        for said in ("", "x", "a b c", "someone 1 orders"):
            stranger.execute("SELECT pg_notify('piwheels_node', %s)", [said])
    until(lambda: heard)
    assert heard == ["orders"]


# A database that goes away


def test_a_connection_that_was_cut_between_two_batches_is_made_again_unnoticed(url, database):
    database.write(put("n"))
    for _ in range(3):
        kill_connections(url)
        database.write(bump("n"))
        kill_connections(url)
        assert value(database, "n") is not None
    assert value(database, "n") == 3


def test_a_connection_that_is_cut_in_a_batch_has_it_run_again_once(url, database):
    database.write(put("n"))
    runs = []

    def cut(session):
        runs.append(1)
        bump("n")(session)
        if len(runs) == 1:
            kill_connections(url)
        return bump("n")(session)

    assert database.write(cut) == 2
    assert len(runs) == 2


def test_a_connection_that_is_always_cut_ends_in_an_answer(url, database):
    runs = []

    def cut(session):
        runs.append(1)
        session.execute(text("SELECT 1"))
        kill_connections(url)
        session.execute(text("SELECT 1"))

    with pytest.raises(UnavailableError, match=r"cannot be reached|shutting down"):
        database.write(cut)
    assert len(runs) == 2
    database.write(put("works again"))


def test_where_the_answer_to_a_commit_is_lost_that_is_said_and_nothing_runs_twice(url, database):
    database.write(put("n"))
    runs = []
    event.listen(database._writing, "commit", lambda _: kill_connections(url), once=True)

    def work(session):
        runs.append(1)
        return bump("n")(session)

    with pytest.raises(UnavailableError, match="may have happened, or not"):
        database.write(work)
    assert len(runs) == 1
    assert database.write(bump("n")) == 1, "here it had not"


def test_a_cluster_that_stops_and_starts_again_is_waited_for(own_cluster):
    url = own_cluster.create_database("farm")
    with Database.open(url) as database, Database.open(url) as other:
        heard = []
        other.subscribe(heard.append)
        database.write(put("n", 7))
        lookup = database.lookup(select(Counter.value).where(Counter.name == bindparam("of")))
        assert lookup(of="n") == 7

        own_cluster.stop()
        for _ in range(2):
            with pytest.raises(UnavailableError):
                database.write(bump("n"))
            with pytest.raises(UnavailableError), database.read() as session:
                session.execute(text("SELECT 1"))
            with pytest.raises(UnavailableError):
                lookup(of="n")
        with pytest.raises(UnavailableError):
            Database.open(url)
        own_cluster.start()

        assert database.write(bump("n")) == 8
        assert value(database, "n") == 8
        until(lambda: answers(lookup))
        until(lambda: "*" in heard)
        database.write(lambda s: queue.announce(s, "orders"))
        until(lambda: "orders" in heard)


def answers(lookup):
    try:
        return lookup(of="n") == 8
    except UnavailableError:
        return False


def test_a_question_asked_often_outlives_a_restart_at_once_where_it_was_not_asked_meanwhile(own_cluster):
    url = own_cluster.create_database("farm")
    with Database.open(url) as database:
        database.write(put("n", 8))
        lookup = database.lookup(select(Counter.value).where(Counter.name == bindparam("of")))
        own_cluster.stop()
        own_cluster.start()
        assert lookup(of="n") == 8


def test_a_crash_of_the_cluster_keeps_what_was_answered(own_cluster):
    """SIGQUIT is as a power cut for PostgreSQL; the kernel, which has all that was not synced, lives on."""
    url = own_cluster.create_database("farm")
    with Database.open(url) as database:
        database.write(put("n", 7))
        own_cluster.stop(signal.SIGQUIT)
        own_cluster.start()
        assert value(database, "n") == 7
        assert database.write(bump("n")) == 8


def test_close_does_not_wait_for_a_database_that_is_away(own_cluster):
    database = Database.open(own_cluster.create_database("farm"))
    lookup = database.lookup(select(Counter.value).where(Counter.name == bindparam("of")))
    own_cluster.stop()
    with pytest.raises(UnavailableError):
        lookup(of="n")
    began = time.monotonic()
    database.close()
    assert time.monotonic() - began < 15
    own_cluster.start()


def test_where_says_host_and_name_and_no_more():
    where = postgres.where(make_url("postgresql://farm:s3cret@db.example:5433/farm?sslpassword=x"))
    assert where == "postgresql://db.example:5433/farm"
