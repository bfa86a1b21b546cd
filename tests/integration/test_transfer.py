# SPDX-License-Identifier: BSD-3-Clause
"""Moving a master from SQLite to PostgreSQL: all of it, or nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from click.testing import CliRunner
from fix_command import clean_environ, until
from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, LargeBinary, String, insert, select

from piwheels_node.cli.migrate import command as migrate_command
from piwheels_node.core.errors import NodeError, StorageError, UnavailableError, UsageError
from piwheels_node.core.settings import MasterSettings, PypiSettings, Settings
from piwheels_node.master.database import transfer as transfer_module
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import EnumValue, Model, Project, UtcDateTime
from piwheels_node.master.database.transfer import transfer
from piwheels_node.master.running import directory
from piwheels_node.master.running.service import Master

TABLES = Model.metadata.sorted_tables
ROWS = 7
"""Of each table, so that some are larger than the chunks of the tests."""

TEXTS = [
    "",
    "plain",
    "tab\tline\nreturn\r",
    "back\\slash \\N \\.",
    "'quotes\" %s {}",
    "ü 💡 \u202e 中",
    "x" * 10_000,
]
TIMES = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
THINGS = [{}, {"ä": [1, 2.5, None, True, {"\x00": "\ud83d\ude00 \x01"}]}, {"big": 2**70, "small": 1e-300}]


def text_of(column, number):
    wanted = TEXTS[number % len(TEXTS)]
    if column.primary_key or column.unique:
        wanted += f"{'Aa_-é'[number % 5]}{number}"
    return wanted[-column.type.length :]


def number_of(column, number):
    most = 2**63 if isinstance(column.type, BigInteger) else 2**31
    return number + 1 if column.primary_key else [0, most - 1, -most, 1][number % 4]


def time_of(_column, number):
    return TIMES[number] if number < len(TIMES) else datetime(2026, 1, 1, 1, 2, 3, number, tzinfo=UTC)


def number_of_other_row(column, number):
    (key,) = column.foreign_keys
    if key.column.table is column.table:  # that row comes later
        return number + 2 if number < ROWS - 1 and number % 2 else None
    return number + 1


MAKERS = {
    EnumValue: lambda column, number: list(column.type.kind)[number % len(column.type.kind)],
    UtcDateTime: time_of,
    JSON: lambda _column, number: THINGS[number % len(THINGS)],
    Boolean: lambda _column, number: bool(number % 2),
    Integer: number_of,
    Double: lambda _column, number: [0.0, -1.5, 1e308, 5e-324, 0.1, float("inf")][number % 6],
    String: text_of,
    LargeBinary: lambda _column, number: bytes([number, 0, 92, 255]) * number,
}


def value_of(column, number):
    """A value of the column's type, as awkward as it may be; another one for each row."""
    if column.foreign_keys:
        return number_of_other_row(column, number)
    if column.nullable and number % 3 == 2:
        return None
    return next(make for kind, make in MAKERS.items() if isinstance(column.type, kind))(column, number)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """An SQLite file with rows in every table."""
    place = tmp_path_factory.mktemp("filled")

    def fill(session):
        # Foreign keys are looked at in the end: a row names one that comes later.
        session.connection().exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for table in TABLES:
            for number in range(ROWS):
                row = {column.name: value_of(column, number) for column in table.columns}
                session.connection().execute(insert(table).values(row))

    with Database.open(directory.sqlite_url(place)) as database:
        database.write(fill)
    return place / directory.DATABASE


@pytest.fixture
def data(tmp_path, filled):
    """The data directory of a stopped master."""
    place = tmp_path / "data"
    place.mkdir()
    shutil.copy(filled, place / directory.DATABASE)
    return place


@pytest.fixture
def target(postgres_cluster, request):
    """The URL of a database without tables."""
    name = f"transfer_{os.getpid()}_{abs(hash(request.node.nodeid))}"
    url = postgres_cluster.create_database(name)
    yield url
    with psycopg.connect(postgres_cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def rows_of(url):
    """Everything that a database has, by table."""
    with Database.open(url) as database, database.read() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(*table.columns))), key=repr)
            for table in TABLES
        }


def tables_of(url):
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()


def spoil(data, statement, *values):
    """Write to the SQLite file what the program never would."""
    connection = sqlite3.connect(data / directory.DATABASE, isolation_level=None)
    connection.execute(statement, values)
    connection.close()


def test_every_row_of_every_table_arrives_as_it_was(data, target, monkeypatch):
    monkeypatch.setattr(transfer_module, "CHUNK_ROWS", 3)
    before = rows_of(directory.sqlite_url(data))
    said = []
    moved = transfer(data, target, lambda *news: said.append(news))

    assert moved.rows == {table.name: ROWS for table in TABLES}
    assert rows_of(target) == before
    total = ROWS * len(TABLES)
    assert [news for news in said if news[2] == total] == [
        ("copy", TABLES[-1].name, total, total),
        ("compare", TABLES[-1].name, total, total),
    ]


def test_the_sqlite_file_is_left_as_it_was(data, target):
    before = (data / directory.DATABASE).read_bytes()
    transfer(data, target)

    assert (data / directory.DATABASE).read_bytes() == before
    assert {path.name for path in data.iterdir()} <= {
        "lock",
        directory.DATABASE,
        f"{directory.DATABASE}-wal",
        f"{directory.DATABASE}-shm",
    }


def test_new_rows_get_the_next_numbers(data, target):
    transfer(data, target)
    with Database.open(target) as database:

        def add(session):
            project = Project(name="another")
            session.add(project)
            session.flush()
            return project.id

        assert database.write(add) == ROWS + 1


def test_a_master_goes_on_with_what_was_moved(tmp_path, pypi, target):
    data = tmp_path / "master"
    settings = Settings(pypi=PypiSettings(index_url=pypi.index_url))
    with Master(data, settings) as master:
        key = master.create_key("operator")
    transfer(data, target)
    moved = Settings(pypi=settings.pypi, master=MasterSettings(database=target))

    with Master(data, moved) as master:
        assert master.knows_key("operator", key)


def test_what_a_crash_left_in_the_write_ahead_log_is_copied_too(data, target):
    program = (
        "import os, sys\n"
        "from piwheels_node.master.database.engine import Database\n"
        "from piwheels_node.master.database.models import Project\n"
        "Database.open(sys.argv[1]).write(lambda session: session.add(Project(name='late')))\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program, directory.sqlite_url(data)], check=False)
    assert (data / f"{directory.DATABASE}-wal").stat().st_size > 0

    assert transfer(data, target).rows["project"] == ROWS + 1


MISFITS = [
    ("UPDATE project SET name = ? WHERE id = 3", "y" * 201, "name has 201 characters, and 200", "id 3"),
    ("UPDATE project SET name = ? WHERE id = 3", "a\0b", "name has a NUL", "table project, id 3"),
    ("UPDATE project SET name = CAST(? AS TEXT) WHERE id = 3", b"\xff\xfe", "name is not UTF-8", "id 3"),
    ("UPDATE project SET name = ? WHERE id = 3", b"bytes", "name is no text", "table project, id 3"),
    ("UPDATE project SET serial = ? WHERE id = 2", "many", "serial is no whole number", "id 2"),
    ("UPDATE job SET attempts = ? WHERE id = 2", 2**31, "attempts is 2147483648", "table job, id 2"),
    ("UPDATE job SET state = ? WHERE id = 2", "lost", "state 'lost' is not a valid", "table job, id 2"),
    ("UPDATE job SET created_at = ? WHERE id = 2", "yesterday", "created_at Invalid iso", "id 2"),
    ("UPDATE job SET created_at = ? WHERE id = 2", "2026-01-01 00:00:00+02:00", "with a zone", "id 2"),
    ("UPDATE flag SET value = ? WHERE name = 'plaina1'", "{", "value Expecting", "name 'plaina1'"),
    ("UPDATE flag SET value = ? WHERE name = 'plaina1'", "[NaN]", "NaN in it", "name 'plaina1'"),
    ("UPDATE join_token SET needs_approval = ? WHERE id = 2", 2, "neither true nor false", "id 2"),
    ("UPDATE build SET duration_s = ? WHERE id = 2", "long", "is no number", "table build, id 2"),
]


@pytest.mark.parametrize("misfit", MISFITS, ids=lambda one: one[2])
def test_a_row_that_does_not_fit_is_named_and_nothing_is_copied(data, target, misfit):
    statement, value, complaint, where = misfit
    spoil(data, statement, value)
    with pytest.raises(StorageError) as caught:
        transfer(data, target)

    assert complaint in caught.value.what
    assert where in caught.value.where
    assert tables_of(target) == []


def test_a_row_that_names_one_that_is_not_there_is_refused_by_postgresql(data, target):
    spoil(data, "UPDATE release SET project_id = 999 WHERE id = 1")
    with pytest.raises(StorageError, match="999") as caught:
        transfer(data, target)

    assert "release" in caught.value.what
    assert tables_of(target) == []


def test_a_copy_that_is_not_the_same_is_noticed_and_thrown_away(data, target, monkeypatch):
    honest = transfer_module._set_sequence

    def lie(connection, table):
        honest(connection, table)
        if table.name == "flag":
            connection.exec_driver_sql("UPDATE flag SET value = '{}' WHERE name = 'plaina1'")

    monkeypatch.setattr(transfer_module, "_set_sequence", lie)
    with pytest.raises(StorageError, match="not the same") as caught:
        transfer(data, target)

    assert "plaina1" in caught.value.where
    assert tables_of(target) == []


@pytest.mark.parametrize(
    "lie", ["DELETE FROM counter WHERE name = '{0}'", "INSERT INTO counter VALUES ('~', 1)"]
)
def test_a_row_more_or_less_is_noticed(data, target, monkeypatch, lie):
    last = max(row[0] for row in rows_of(directory.sqlite_url(data))["counter"])
    honest = transfer_module._set_sequence

    def change(connection, table):
        honest(connection, table)
        if table.name == "flag":
            connection.exec_driver_sql(lie.format(last.replace("'", "''").replace("%", "%%")))

    monkeypatch.setattr(transfer_module, "_set_sequence", change)
    with pytest.raises(StorageError, match="not the same"):
        transfer(data, target)


def test_a_target_with_rows_is_refused(data, new_postgres):
    url = new_postgres()
    with Database.open(url) as database:
        database.write(lambda session: session.add(Project(name="mine")))
    with pytest.raises(StorageError, match="not empty: project"):
        transfer(data, url)


def test_a_target_that_has_the_tables_but_no_rows_is_fine(data, new_postgres):
    assert sum(transfer(data, new_postgres()).rows.values()) == ROWS * len(TABLES)


def test_the_database_of_another_program_is_refused(data, target):
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs (id int)")
    with pytest.raises(StorageError, match="not empty: theirs"):
        transfer(data, target)


def test_a_master_that_runs_is_not_moved(data, target):
    with directory.hold(data, shared=False), pytest.raises(NodeError, match=f"process {os.getpid()} serves"):
        transfer(data, target)


def test_a_database_of_another_version_is_not_moved(data, target):
    spoil(data, "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(StorageError, match="not those of this version"):
        transfer(data, target)


def test_a_database_with_other_tables_in_it_is_not_moved(data, target):
    spoil(data, "CREATE TABLE mine (id int)")
    with pytest.raises(StorageError, match="mine"):
        transfer(data, target)


def test_a_file_that_is_no_database_is_not_moved(data, target):
    (data / directory.DATABASE).write_bytes(b"rubbish" * 1000)
    with pytest.raises(StorageError, match="cannot be read"):
        transfer(data, target)


def test_a_directory_without_a_master_is_not_moved(tmp_path, target):
    with pytest.raises(NodeError, match="no master's database"):
        transfer(tmp_path, target)
    assert not list(tmp_path.iterdir())


def test_a_target_that_does_not_answer_is_unavailable(data):
    with pytest.raises(UnavailableError, match="cannot be reached"):
        transfer(data, "postgresql://farm@127.0.0.1:1/farm")


@pytest.mark.parametrize("url", ["sqlite:////tmp/other.db", "mysql://farm@host/farm", "nonsense"])
def test_other_kinds_of_databases_are_refused(data, url):
    with pytest.raises(NodeError) as caught:
        transfer(data, url)
    assert caught.value.exit_code == UsageError.exit_code


def test_a_command_that_is_killed_leaves_the_target_empty(data, target):
    with Database.open(directory.sqlite_url(data)) as database:
        rows = [{"name": f"p{number}", "serial": 0} for number in range(20_000)]
        database.write(lambda session: session.execute(insert(Project), rows))
    words = [sys.executable, "-c", "from piwheels_node.cli.migrate import command; command()"]
    child = subprocess.Popen([*words, target, "--data", str(data)], env=clean_environ())
    with psycopg.connect(target, autocommit=True) as connection:
        others = "SELECT query FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        name = connection.info.dbname

        def running():
            return [query for (query,) in connection.execute(others, [name])]

        until(lambda: any(query.startswith("COPY") for query in running()), "the copy")
        child.send_signal(signal.SIGKILL)
        child.wait()
        until(lambda: not running(), "the end of its connections")

    assert tables_of(target) == []
    assert transfer(data, target).rows["project"] == ROWS + 20_000


def test_the_command_says_what_to_put_into_the_settings(data, target):
    said = CliRunner().invoke(migrate_command, [target, "--data", str(data)])

    assert said.exit_code == 0
    assert f"{ROWS * len(TABLES)} rows of {len(TABLES)} tables" in said.stdout
    assert f'[master]\n    database = "{target}"' in said.stdout


def test_the_command_says_it_in_json(data, target):
    said = CliRunner().invoke(migrate_command, [target, "--data", str(data), "--json"])

    assert json.loads(said.stdout)["rows"]["wheel"] == ROWS


def test_the_help_has_an_example():
    said = CliRunner().invoke(migrate_command, ["--help"]).stdout

    assert "Example: piwheels-node master migrate-to postgresql://" in " ".join(said.split())


def test_times_stay_the_same_instants(data, target):
    transfer(data, target)
    with psycopg.connect(target) as connection:
        (found,) = connection.execute("SELECT created_at FROM job WHERE id = 5").fetchone()

    assert found - datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=UTC) == timedelta(0)
