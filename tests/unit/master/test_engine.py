# SPDX-License-Identifier: BSD-3-Clause
"""The database: what a writer's result means, and what a failure takes with it."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from piwheels_node.core.errors import SettingsError, StorageError
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Counter, Event


def add_counter(name, value=0):
    def work(session):
        counter = Counter(name=name, value=value)
        session.add(counter)
        session.flush()
        return counter

    return work


def names(database):
    with database.read() as session:
        return list(session.scalars(select(Counter.name).order_by(Counter.name)))


def hold(database):
    """Stop the writer in the middle of a piece of work; set the event to let it go on."""
    entered, go_on = threading.Event(), threading.Event()

    def work(_session):
        entered.set()
        assert go_on.wait(10)

    future = database.submit(work)
    assert entered.wait(10)
    return go_on, future


def test_a_result_is_usable_after_the_commit(database):
    counter = database.write(add_counter("one", 7))

    assert (counter.name, counter.value) == ("one", 7)
    assert names(database) == ["one"]


def test_work_that_raises_undoes_itself_and_nothing_else_of_its_batch(database):
    go_on, _ = hold(database)
    before = database.submit(add_counter("before"))

    def fail(session):
        add_counter("half")(session)
        raise ValueError("no")

    failed = database.submit(fail)
    twice = database.submit(
        lambda s: (add_counter("x")(s), s.execute(text("INSERT INTO counter VALUES ('x', 1)")))
    )
    after = database.submit(add_counter("after"))
    go_on.set()

    assert before.result(10).name == "before"
    assert after.result(10).name == "after"
    with pytest.raises(ValueError, match="no"):
        failed.result(10)
    with pytest.raises(IntegrityError):
        twice.result(10)
    assert names(database) == ["after", "before"]


def test_work_in_the_same_batch_does_not_change_what_earlier_work_gave_back(database):
    database.write(add_counter("n", 0))
    go_on, _ = hold(database)

    def add_one(session):
        counter = session.get_one(Counter, "n")
        counter.value += 1
        return counter

    futures = [database.submit(add_one) for _ in range(3)]
    go_on.set()

    assert [future.result(10).value for future in futures] == [1, 2, 3]


def test_waiting_work_shares_one_commit(database):
    commits = []
    event.listen(database._writing, "commit", commits.append)
    go_on, _ = hold(database)
    futures = [database.submit(add_counter(f"c{n}")) for n in range(50)]
    go_on.set()
    for future in futures:
        future.result(10)

    assert len(commits) == 2


def test_no_result_before_the_commit(database):
    """Whoever has the answer may tell it to the world: it must be on the disk by then."""
    for n in range(20):
        database.write(add_counter(f"c{n:02}"))
        assert len(names(database)) == n + 1


def test_a_reader_neither_waits_for_the_writer_nor_sees_half_of_its_work(database):
    database.write(add_counter("old"))
    entered, go_on = threading.Event(), threading.Event()

    def slow(session):
        add_counter("new")(session)
        entered.set()
        assert go_on.wait(10)

    future = database.submit(slow)
    assert entered.wait(10)
    assert names(database) == ["old"]
    go_on.set()
    future.result(10)
    assert names(database) == ["new", "old"]


def test_a_read_session_sees_one_state(database):
    with database.read() as session:
        assert session.scalars(select(Counter.name)).all() == []
        database.write(add_counter("new"))
        assert session.scalars(select(Counter.name)).all() == []


def test_a_read_session_cannot_write(database):
    with pytest.raises(StorageError, match="cannot be written"), database.read() as session:
        add_counter("x")(session)


def test_foreign_keys_are_enforced(database):
    with pytest.raises(IntegrityError):
        database.write(lambda s: s.execute(text("INSERT INTO event VALUES (1, 99, '2026-01-01', 'x', '{}')")))


def test_the_log_is_written_ahead_and_commits_are_synced(sqlite_database):
    with sqlite_database._reading.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert sqlite_database.write(lambda s: s.connection().exec_driver_sql("PRAGMA synchronous").scalar()) == 2


def test_the_writer_has_the_lock_before_it_reads(sqlite_database, tmp_path):
    """Else what it read could be old by the time it writes, and SQLite would refuse the write."""

    def work(session):
        session.scalars(select(Counter)).all()
        other = sqlite3.connect(tmp_path / "master.db", timeout=0, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
        finally:
            other.close()

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite_database.write(work)


def test_a_coroutine_can_write(database):
    async def many():
        return await asyncio.gather(*(database.awrite(add_counter(f"c{n}")) for n in range(10)))

    assert len(asyncio.run(many())) == 10


def test_a_coroutine_that_is_cancelled_while_its_work_waits_has_it_not_done(database):
    async def cancelled():
        go_on, _ = hold(database)
        task = asyncio.ensure_future(database.awrite(add_counter("never")))
        other = asyncio.ensure_future(database.awrite(add_counter("other")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        go_on.set()
        assert (await other).name == "other"
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert names(database) == ["other"]


def test_coroutines_of_several_loops_get_their_own_answers(database):
    async def many(prefix):
        done = await asyncio.gather(
            *(database.awrite(add_counter(f"{prefix}{n}")) for n in range(20)),
            database.awrite(lambda session: 1 / 0),
            return_exceptions=True,
        )
        return [one.name if isinstance(one, Counter) else type(one).__name__ for one in done]

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda prefix: asyncio.run(many(prefix)), "abc"))
    assert answers == [[*(f"{prefix}{n}" for n in range(20)), "ZeroDivisionError"] for prefix in "abc"]


def test_a_loop_that_has_closed_leaves_the_writer_at_work(database):
    async def leave():
        asyncio.ensure_future(database.awrite(add_counter("left")))  # noqa: RUF006 - it is left on purpose
        await asyncio.sleep(0)

    go_on, _ = hold(database)
    asyncio.run(leave())
    go_on.set()
    database.write(add_counter("after"))
    assert "after" in names(database)


def test_cancelled_work_is_not_done(database):
    go_on, _ = hold(database)
    cancelled = database.submit(add_counter("never"))
    assert cancelled.cancel()
    go_on.set()
    database.write(add_counter("other"))

    assert names(database) == ["other"]


def test_many_threads_write_and_nothing_is_lost(database):
    database.write(add_counter("sum"))

    def add_one(session):
        session.get_one(Counter, "sum").value += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: database.write(add_one), range(200)))
    with database.read() as session:
        assert session.get_one(Counter, "sum").value == 200


def test_a_full_disk_is_a_storage_error_and_the_database_stays_whole(sqlite_database):
    database = sqlite_database
    database.write(add_counter("before"))

    def fill(session):
        session.execute(text("PRAGMA max_page_count = 1"))  # as far as SQLite knows, the disk ends here
        for n in range(3000):
            session.execute(text("INSERT INTO counter VALUES (:name, 0)"), {"name": f"{n:060}"})

    with pytest.raises(StorageError, match="disk is full") as caught:
        database.write(fill)
    assert "free some disk" in str(caught.value)
    assert names(database) == ["before"]
    database.write(lambda s: s.execute(text("PRAGMA max_page_count = 1000000")))
    database.write(add_counter("after"))
    assert names(database) == ["after", "before"]


def test_where_the_database_gives_up_the_transaction_the_others_of_the_batch_run_again(sqlite_database):
    """SQLite does this on I/O errors: the savepoints are gone, and so is what was done before."""
    database = sqlite_database
    go_on, holder = hold(database)
    before = database.submit(add_counter("before"))

    def lose(session):
        session.connection().exec_driver_sql("ROLLBACK")
        raise ValueError("the reason")

    lost = database.submit(lose)
    after = database.submit(add_counter("after"))
    go_on.set()

    holder.result(10)  # a batch of its own
    with pytest.raises(ValueError, match="the reason"):
        lost.result(10)
    assert [before.result(10).name, after.result(10).name] == ["before", "after"]
    assert names(database) == ["after", "before"]


def test_a_commit_that_fails_goes_to_the_work_that_is_to_blame(sqlite_database):
    database = sqlite_database
    go_on, _ = hold(database)
    one = database.submit(add_counter("one"))

    def owe(session):
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        session.execute(text("INSERT INTO event VALUES (1, 99, '2026-01-01', 'x', '{}')"))

    other = database.submit(owe)
    go_on.set()

    with pytest.raises(IntegrityError):
        other.result(10)
    assert one.result(10).name == "one"
    assert names(database) == ["one"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_dies_leaves_nobody_waiting(database):
    go_on, _ = hold(database)

    def die(_session):
        raise SystemExit

    futures = [database.submit(add_counter("one")), database.submit(die), database.submit(add_counter("two"))]
    go_on.set()

    for future in futures:
        with pytest.raises(StorageError, match="died"):
            future.result(10)
    with pytest.raises(StorageError, match="closed"):
        database.write(add_counter("three"))
    assert names(database) == []


def test_work_that_waits_for_other_work_is_refused_and_does_not_hang(database):
    with pytest.raises(RuntimeError, match="pass the session on"):
        database.write(lambda _: database.write(add_counter("inner")))


def test_close_finishes_what_waits_and_then_takes_nothing(tmp_path):
    database = Database.open(f"sqlite:///{tmp_path}/master.db")
    go_on, _ = hold(database)
    waiting = [database.submit(add_counter(f"c{n}")) for n in range(300)]
    closer = threading.Thread(target=database.close)
    closer.start()
    go_on.set()
    closer.join(10)

    assert all(future.result(0).name for future in waiting)
    with pytest.raises(StorageError, match="closed"):
        database.write(add_counter("late"))
    database.close()


def test_the_file_can_be_read_by_its_owner_only(tmp_path):
    with Database.open(f"sqlite:///{tmp_path}/master.db") as database:
        database.write(add_counter("x"))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert modes == {0o600}


def test_what_was_answered_is_there_after_the_process_was_killed(tmp_path):
    """A copy of the files, taken without closing, is what a power cut leaves."""
    with Database.open(f"sqlite:///{tmp_path}/master.db") as database:
        database.write(add_counter("kept"))
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("master.db", "master.db-wal"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
    with Database.open(f"sqlite:///{copy}/master.db") as database:
        assert names(database) == ["kept"]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://farm/master", "master.db", ""])
def test_a_database_that_cannot_serve_is_refused(url):
    with pytest.raises(SettingsError):
        Database.open(url)


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(StorageError, match="cannot be opened") as caught:
        Database.open(f"sqlite:///{tmp_path}/none/master.db")
    assert f"{tmp_path}/none" in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path):
    path = tmp_path / "master.db"
    path.write_bytes(b"important " * 1000)
    with pytest.raises(StorageError, match="no database"):
        Database.open(f"sqlite:///{path}")

    assert path.read_bytes() == b"important " * 1000


def test_another_programs_database_is_refused_and_kept(tmp_path):
    path = tmp_path / "master.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photo (id INTEGER)")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="another program"):
        Database.open(f"sqlite:///{path}")


def test_a_damaged_database_is_a_storage_error(tmp_path):
    path = tmp_path / "master.db"
    Database.open(f"sqlite:///{path}").close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        Database.open(f"sqlite:///{path}")


def test_a_database_that_another_program_locks_is_named_so(tmp_path, monkeypatch):
    monkeypatch.setattr("piwheels_node.master.database.sqlite.BUSY_TIMEOUT_MS", 50)
    with Database.open(f"sqlite:///{tmp_path}/master.db") as database:
        other = sqlite3.connect(tmp_path / "master.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another process"):
            database.write(add_counter("x"))
        other.execute("ROLLBACK")
        other.close()
        database.write(add_counter("x"))


def test_an_error_of_the_statement_itself_stays_what_it_is(database):
    with pytest.raises(DBAPIError, match="nowhere"):
        database.write(lambda s: s.execute(text("SELECT * FROM nowhere")))
    with pytest.raises(DBAPIError, match="nowhere"), database.read() as session:
        session.execute(text("SELECT * FROM nowhere"))


def test_events_keep_their_order_and_time_zone(tables):
    job_id = tables.add_job()
    with tables.database.read() as session:
        found = session.scalars(select(Event).where(Event.job_id == job_id)).one()

    assert found.at.utcoffset().total_seconds() == 0
