# SPDX-License-Identifier: BSD-3-Clause
"""A real PostgreSQL for tests: one cluster per run (and worker of xdist), a database of its own per test.

It is started by the first test that wants it. Where PostgreSQL is not installed, those tests fail and say so.
`new_postgres` gives the URL of a database that has the tables, and no rows.
"""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from postgres import Cluster

from piwheels_node.master.database.engine import Database

_TEMPLATE = "tables"


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """The cluster that tests share: do not stop it (`own_cluster`)."""
    with tempfile.TemporaryDirectory(prefix="pg-data-") as directory:
        os.chmod(directory, 0o755)
        with Cluster(Path(directory) / "cluster") as cluster:
            url = cluster.create_database(_TEMPLATE)
            Database.open(url).close()
            yield cluster


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture(scope="session")
def _spare() -> list[str]:
    """Databases that no test uses now: emptying one is thirty times quicker than making it."""
    return []


@pytest.fixture
def new_postgres(
    postgres_cluster: Cluster, _numbers: Iterator[int], _spare: list[str]
) -> Iterator[Callable[[], str]]:
    """Call it for the URL of a database with tables and without rows, which is the test's own."""
    used: list[str] = []

    def make() -> str:
        if _spare:
            name = _spare.pop()
        else:
            name = f"test_{next(_numbers)}"
            _do(postgres_cluster, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        used.append(name)
        return postgres_cluster.url(name)

    yield make
    for name in used:
        _empty(postgres_cluster, name)
    _spare.extend(used)


@pytest.fixture
def bare_postgres(postgres_cluster: Cluster, _numbers: Iterator[int]) -> Iterator[str]:
    """The URL of a new database without tables."""
    name = f"bare_{next(_numbers)}"
    _do(postgres_cluster, f"CREATE DATABASE {name}")
    yield postgres_cluster.url(name)
    _do(postgres_cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _second_cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="pg-data-") as directory:
        os.chmod(directory, 0o755)
        with Cluster(Path(directory) / "cluster", synchronous_commit="on") as cluster:
            yield cluster


class OwnCluster:
    """A cluster that a test may stop and start; its databases are dropped after the test."""

    def __init__(self, cluster: Cluster, numbers: Iterator[int]) -> None:
        self._cluster = cluster
        self._numbers = numbers
        self._made: list[str] = []
        self._runs = True

    def create_database(self, name: str) -> str:
        """Make a database without tables, and give its URL."""
        self._made.append(f"{name}_{next(self._numbers)}")
        return self._cluster.create_database(self._made[-1])

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it as `Cluster.stop` does."""
        self._cluster.stop(how)
        self._runs = False

    def start(self) -> None:
        """Start it again."""
        if not self._runs:
            self._cluster.start()
            self._runs = True

    def clean(self) -> None:
        """Leave it as the next test wants it."""
        self.start()
        for name in self._made:
            _do(self._cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own_cluster(_second_cluster: Cluster, _numbers: Iterator[int]) -> Iterator[OwnCluster]:
    """A cluster that this test alone uses now, and may stop and start."""
    own = OwnCluster(_second_cluster, _numbers)
    yield own
    own.clean()


def _do(cluster: Cluster, statement: str) -> None:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)


def _empty(cluster: Cluster, name: str) -> None:
    """Make a database as it was when it was made, whoever is still connected."""
    with psycopg.connect(cluster.url(name), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        connection.execute("SET session_replication_role = replica")  # foreign keys are not looked at
        tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
        sequences = "SELECT quote_ident(sequencename) FROM pg_sequences WHERE last_value IS NOT NULL"
        todo = [
            f"DELETE FROM {table}"
            for (table,) in connection.execute(tables).fetchall()
            if table != "alembic_version"
        ]
        todo += [
            f"ALTER SEQUENCE {sequence} RESTART" for (sequence,) in connection.execute(sequences).fetchall()
        ]
        if todo:
            connection.execute("; ".join(todo))
