# SPDX-License-Identifier: BSD-3-Clause
"""A real database of each kind, and short ways to fill it.

`database` is one on SQLite and one on PostgreSQL: tests that take it run on both. `tables` is a database
with one builder, one target and a maker of releases; everything goes through `Database.write`, as in the
master. `sqlite_database` is for what is true of SQLite only.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from piwheels_node.core.jobs import Priority
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    Builder,
    Counter,
    Event,
    Job,
    Project,
    PypiFile,
    Release,
    TargetRow,
)
from piwheels_node.master.jobs import queue

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TARGET = "cp311-linux_x86_64-debian12"
LEASE_S = 60.0


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """The file of a database without rows: copying it is quicker than 600 migrations."""
    path = tmp_path_factory.mktemp("database") / "master.db"
    Database.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request):
    """The URL of a database with tables and without rows, of each kind."""
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite_url")
    return request.getfixturevalue("new_postgres")()


@pytest.fixture
def sqlite_url(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "master.db")
    return f"sqlite:///{tmp_path}/master.db"


@pytest.fixture
def database(database_url):
    with Database.open(database_url) as opened:
        yield opened


@pytest.fixture
def sqlite_database(sqlite_url):
    with Database.open(sqlite_url) as opened:
        yield opened


@dataclass
class Tables:
    database: Database
    builder_id: int
    target_id: int

    def add_release(self, name="thing", version="1.0", files=()) -> int:
        """A release with an sdist; gives its id."""

        def work(session):
            project = session.scalar(select(Project).where(Project.name == name)) or Project(name=name)
            release = Release(project=project, version=version)
            session.add(release)
            for filename in (f"{name}-{version}.tar.gz", *files):
                session.add(PypiFile(release=release, filename=filename, url=f"files/{filename}"))
            session.flush()
            return release.id

        return self.database.write(work)

    def add_builder(self) -> int:
        """One more builder; gives its id."""

        def work(session):
            builder = Builder(name=f"pi-{secrets.token_hex(4)}", created_at=NOW)
            session.add(builder)
            session.flush()
            return builder.id

        return self.database.write(work)

    def add_job(
        self,
        name="thing",
        version="1.0",
        *,
        priority=Priority.BACKLOG,
        now=NOW,
        files=(),
        memory_class=0,
        packages=(),
    ) -> int:
        """A job that is ready; gives its id."""
        release_id = self.add_release(name, version, files)

        def work(session):
            release = session.get_one(Release, release_id)
            job, _ = queue.enqueue(
                session,
                release=release,
                target=session.get_one(TargetRow, self.target_id),
                sdist=release.files[0],
                priority=priority,
                now=now,
                memory_class=memory_class,
                packages=packages,
            )
            return job.id

        return self.database.write(work)

    def claim(
        self, now=NOW, targets=(TARGET,), lease_s=LEASE_S, *, memory_bytes=None, builder_id=None, layers=()
    ) -> Job | None:
        """Lease a job as `pi`, or as another builder."""

        def work(session):
            claimed = queue.claim(
                session,
                builder_id=self.builder_id if builder_id is None else builder_id,
                builder_name="pi",
                targets=targets,
                memory_bytes=memory_bytes,
                now=now,
                lease_s=lease_s,
                layers=layers,
            )
            return claimed and session.get_one(Job, claimed.job_id)

        return self.database.write(work)

    def job(self, job_id: int) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def events(self, job_id: int) -> list[str]:
        with self.database.read() as session:
            return list(session.scalars(select(Event.kind).where(Event.job_id == job_id).order_by(Event.id)))

    def counters(self) -> dict[str, int]:
        """Counters that are not 0."""
        with self.database.read() as session:
            return {row.name: row.value for row in session.scalars(select(Counter)) if row.value}


@pytest.fixture
def tables(database):
    def work(session):
        builder = Builder(name="pi", created_at=NOW)
        target = TargetRow(name=TARGET, created_at=NOW)
        session.add_all([builder, target])
        session.flush()
        return builder.id, target.id

    return Tables(database, *database.write(work))


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
