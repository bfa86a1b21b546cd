# SPDX-License-Identifier: BSD-3-Clause
"""Migrations make exactly the tables of the models, once, and never touch a newer database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import warnings

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from piwheels_node.core.errors import StorageError
from piwheels_node.master.database import migrations
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.migrations import upgrade
from piwheels_node.master.database.models import Model


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "master.db"
    Database.open(f"sqlite:///{found}").close()
    return found


def statements(path):
    """What SQLite says the tables and indexes are, without the order of constraints in a table."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
    ).fetchall()
    connection.close()
    return {
        name: sorted(line.strip().rstrip(",") for line in sql.replace(" (\n", " \n").splitlines())
        for name, sql in rows
    }


def test_the_migrations_make_what_the_models_say(path):
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection, warnings.catch_warnings():
        # SQLAlchemy cannot read an index with an expression back: the next test compares that one.
        warnings.filterwarnings("ignore", ".*expression-based index")
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": lambda _object, name, *_: name != "ix_job_ready",
            },
        )
        assert compare_metadata(context, Model.metadata) == []
    engine.dispose()


def test_sqlite_has_the_very_same_statements_for_both(path, tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/models.db")
    Model.metadata.create_all(engine)
    engine.dispose()

    assert statements(path) == statements(tmp_path / "models.db")
    assert "ix_job_ready" in statements(path)


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


def test_a_newer_database_is_refused_with_a_hint_and_left_alone(path):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="newer piwheels-node") as caught:
        Database.open(f"sqlite:///{path}")

    assert "upgrade piwheels-node" in str(caught.value)
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def half(connection, where):
        connection.exec_driver_sql("CREATE TABLE job (id INTEGER)")
        raise StorageError("no", where=where)

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "to_head", half)
        with pytest.raises(StorageError, match="no"):
            Database.open(f"sqlite:///{tmp_path}/master.db")

    Database.open(f"sqlite:///{tmp_path}/master.db").close()


def test_a_directory_with_a_percent_sign_is_no_trouble(tmp_path):
    (tmp_path / "100%").mkdir()
    Database.open(f"sqlite:///{tmp_path}/100%/master.db").close()
    assert (tmp_path / "100%" / "master.db").stat().st_size > 0
