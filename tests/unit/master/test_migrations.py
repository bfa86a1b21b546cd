# SPDX-License-Identifier: BSD-3-Clause
"""Migrations make exactly the tables of the models, once, and never touch a newer database."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, select, text

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.errors import StorageError
from piwheels_node.master.database import migrations
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.migrations import upgrade
from piwheels_node.master.database.models import Builder, Job, Model


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "master.db"
    Database.open(f"sqlite:///{found}").close()
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    """The URL of a database without tables, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/master.db"
    return request.getfixturevalue("bare_postgres")


def engine_of(url):
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def statements(path):
    """What SQLite says the tables and indexes are; the columns and constraints of a table in no order."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
    ).fetchall()
    connection.close()
    return {name: parts(sql) for name, sql in rows}


def parts(sql):
    """A column that was added later is on the line of the one before it, after all constraints."""
    head, _, body = " ".join(sql.split()).partition("(")
    return [head.strip(), *sorted(re.split(r", (?![^(]*\))", body.removesuffix(")").strip()))]


def test_the_migrations_make_what_the_models_say(empty_url):
    Database.open(empty_url).close()
    engine = engine_of(empty_url)
    with engine.connect() as connection, warnings.catch_warnings():
        # SQLAlchemy cannot read an index with an expression back: the next tests compare those.
        warnings.filterwarnings("ignore", ".*expression-based index")
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": lambda _object, name, *_: name not in READ_BACK_BADLY,
            },
        )
        assert compare_metadata(context, Model.metadata) == []
    engine.dispose()


READ_BACK_BADLY = {"ix_job_ready", "ix_project_prefix", "ix_pypi_project_prefix"}


def test_postgresql_has_the_very_same_indexes_for_both(bare_postgres):
    Database.open(bare_postgres).close()
    engine = engine_of(bare_postgres)
    indexes = text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename != 'alembic_version'")

    with engine.begin() as connection:
        migrated = dict(connection.execute(indexes).all())
        Model.metadata.drop_all(connection)
        Model.metadata.create_all(connection)
        modelled = dict(connection.execute(indexes).all())
    engine.dispose()

    assert migrated == modelled
    assert migrated.keys() > READ_BACK_BADLY


def test_sqlite_has_the_very_same_statements_for_both(path, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/models.db")
    Model.metadata.create_all(engine)
    engine.dispose()

    assert statements(path) == statements(tmp_path / "models.db")
    assert "ix_job_ready" in statements(path)


def test_several_masters_that_start_at_once_migrate_once(empty_url):
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Database.open(empty_url), range(4)))
    for database in opened:
        with database.read() as session:
            assert session.execute(text("SELECT version_num FROM alembic_version")).all() == [
                (migrations.HEAD,)
            ]
        database.close()


def test_the_first_revision_becomes_the_newest_with_its_jobs_counted(empty_url):
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        command.upgrade(upgrade.config_for(connection), "0001")
        for statement in OLD_ROWS.split(";"):
            connection.execute(text(statement))
    engine.dispose()
    with Database.open(empty_url) as database, database.read() as session:
        counters = session.execute(text("SELECT name, value FROM counter ORDER BY name")).all()
        assert counters == [("jobs.failed", 1), ("jobs.ready", 2), ("jobs.ready.1", 2)]
        builder = session.get_one(Builder, 1)
        assert (builder.state, builder.mode, builder.slots) == (BuilderState.ACTIVE, Mode.RUN, 1)
        assert [job.memory_class for job in session.scalars(select(Job))] == [0, 0, 0]


OLD_ROWS = """
INSERT INTO project VALUES (1, 'p', 0);
INSERT INTO release SELECT n, 1, '1.' || n FROM (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3) AS three;
INSERT INTO pypi_file (id, release_id, filename, url) SELECT id, id, version, 'u' FROM release;
INSERT INTO builder (id, name, created_at) VALUES (1, 'pi', '2026-01-01 00:00:00.000000');
INSERT INTO target VALUES (1, 't', '2026-01-01 00:00:00.000000');
INSERT INTO job (id, release_id, target_id, sdist_id, state, priority, created_at, not_before_at, attempts,
                 losses)
  SELECT id, id, 1, id, CASE WHEN id = 3 THEN 'failed' ELSE 'ready' END, 0, '2026-01-01 00:00:00.000000',
         '2026-01-01 00:00:00.000000', 0, 0 FROM release;
INSERT INTO counter VALUES ('jobs.ready', 2), ('jobs.failed', 1)
"""


def test_builds_and_wheels_that_are_there_already_are_counted_for_screens(empty_url):
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        command.upgrade(upgrade.config_for(connection), "0006")
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET TIME ZONE 'UTC'"))
        for statement in OLD_BUILDS.split(";"):
            connection.execute(text(statement))
    engine.dispose()
    with Database.open(empty_url) as database, database.read() as session:
        hours = session.execute(text("SELECT hour, built, failed FROM hour_count ORDER BY hour")).all()
        assert hours == [("2026-01-01T00", 1, 1), ("2026-01-02T23", 1, 0)]
        days = session.execute(text("SELECT day, builder_id, built, failed FROM builder_count")).all()
        assert sorted(days) == [("2026-01-01", 1, 1, 1), ("2026-01-02", 1, 1, 0)]
        wheels = text("SELECT name, value FROM counter WHERE name LIKE 'wheels.%' ORDER BY name")
        assert session.execute(wheels).all() == [
            ("wheels.abi.abi3", 1),
            ("wheels.platform.linux_armv6l.linux_armv7l", 1),
        ]


OLD_BUILDS = """
INSERT INTO project VALUES (1, 'p', 0, NULL);
INSERT INTO release VALUES (1, 1, '1.0'), (2, 1, '1.1');
INSERT INTO pypi_file (id, release_id, filename, url) SELECT id, id, version, 'u' FROM release;
INSERT INTO builder (id, name, created_at) VALUES (1, 'pi', '2026-01-01 00:00:00.000000');
INSERT INTO target VALUES (1, 't', '2026-01-01 00:00:00.000000');
INSERT INTO job (id, release_id, target_id, sdist_id, state, priority, created_at, not_before_at, attempts,
                 losses)
  SELECT id, id, 1, id, 'built', 0, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', 1, 0
  FROM release;
INSERT INTO build (id, job_id, builder_id, attempt, started_at, duration_s, outcome, reason) VALUES
  (1, 1, 1, 1, '2026-01-01 00:00:00.000000', 1.0, 'failed', 'timeout'),
  (2, 1, 1, 2, '2026-01-01 00:59:59.999999', 1.0, 'built', NULL),
  (3, 2, 1, 1, '2026-01-02 23:00:00.000000', 1.0, 'built', NULL);
INSERT INTO wheel (id, build_id, release_id, filename, sha256, size_bytes, metadata_sha256, published_at,
                   withdrawn_at) VALUES
  (1, 2, 1, 'p-1.0-cp38-abi3-linux_armv6l.linux_armv7l.whl', '', 1, '', '2026-01-01 01:00:00.000000', NULL),
  (2, 3, 2, 'p-1.1-py3-none-any.whl', '', 1, '', '2026-01-02 23:00:00.000000', '2026-01-03 00:00:00.000000')
"""


def test_opening_again_changes_nothing_and_needs_no_alembic(path):
    before = path.read_bytes()
    code = (
        "import sys; from piwheels_node.master.database.engine import Database;"
        f"Database.open('sqlite:///{path}').close(); sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

    assert path.read_bytes() == before


def test_the_newest_revision_is_the_one_that_opening_looks_for(path):
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert ScriptDirectory.from_config(upgrade.config_for(connection)).get_heads() == [migrations.HEAD]
    engine.dispose()


def test_a_newer_database_is_refused_with_a_hint_and_left_alone(empty_url):
    Database.open(empty_url).close()
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="newer piwheels-node") as caught:
        Database.open(empty_url)

    assert "upgrade piwheels-node" in str(caught.value)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(empty_url, monkeypatch):
    def half(connection, where):
        connection.exec_driver_sql("CREATE TABLE job (id INTEGER)")
        raise StorageError("no", where=where)

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "to_head", half)
        with pytest.raises(StorageError, match="no"):
            Database.open(empty_url)

    Database.open(empty_url).close()


def test_another_programs_tables_are_refused_and_kept(empty_url):
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE photo (id INTEGER)"))
    with pytest.raises(StorageError, match="another program"):
        Database.open(empty_url)

    assert inspect(engine).get_table_names() == ["photo"]
    engine.dispose()


def test_a_directory_with_a_percent_sign_is_no_trouble(tmp_path):
    (tmp_path / "100%").mkdir()
    Database.open(f"sqlite:///{tmp_path}/100%/master.db").close()
    assert (tmp_path / "100%" / "master.db").stat().st_size > 0
