# SPDX-License-Identifier: BSD-3-Clause
"""A real PostgreSQL for tests: one cluster per run (and worker of xdist), a database of its own per test.

It is started by the first test that wants it. Where PostgreSQL is not installed, those tests fail and say so.
`new_postgres` gives the URL of a database that has the tables, and no rows.
"""

from __future__ import annotations

import itertools
import os
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


@pytest.fixture
def new_postgres(postgres_cluster: Cluster, _numbers: Iterator[int]) -> Iterator[Callable[[], str]]:
    """Call it for the URL of a new database with tables; they are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{next(_numbers)}"
        _do(postgres_cluster, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        made.append(name)
        return postgres_cluster.url(name)

    yield make
    for name in made:
        _do(postgres_cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def bare_postgres(postgres_cluster: Cluster, _numbers: Iterator[int]) -> Iterator[str]:
    """The URL of a new database without tables."""
    name = f"bare_{next(_numbers)}"
    _do(postgres_cluster, f"CREATE DATABASE {name}")
    yield postgres_cluster.url(name)
    _do(postgres_cluster, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster for this test alone, which may stop and start it."""
    with tempfile.TemporaryDirectory(prefix="pg-data-") as directory:
        os.chmod(directory, 0o755)
        with Cluster(Path(directory) / "cluster") as cluster:
            yield cluster


def _do(cluster: Cluster, statement: str) -> None:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)
