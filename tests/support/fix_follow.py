# SPDX-License-Identifier: BSD-3-Clause
"""A follower of a PyPI on loopback (`fix_changes`), turned by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fix_database import NOW, TARGET
from sqlalchemy import select

from piwheels_node.core.jobs import JobState
from piwheels_node.core.settings import PypiSettings
from piwheels_node.master.database.models import (
    Builder,
    BuilderTarget,
    Job,
    Project,
    PypiFile,
    PypiNote,
    PypiProject,
    Release,
    TargetRow,
    Walk,
)
from piwheels_node.master.pypi.follow import Follower, make_feed
from piwheels_node.master.pypi.index import PyPI

SETTINGS = PypiSettings(follow="changelog", timeout_s=5, every_s=0.000001)


class Clock:
    """A clock that only moves when told to."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Followed:
    """A database with a builder, and a follower of a living PyPI."""

    def __init__(self, database, living, settings=SETTINGS, timeout_s=5):
        self._timeout_s = timeout_s
        self.database = database
        self.living = living
        self.clock = Clock()
        self.settings = settings
        self.start()

    def start(self):
        self.pypi = PyPI(self.living.index_url, timeout_s=self._timeout_s, retry_delay_s=0)
        feed = make_feed(self.settings, self.pypi)
        self.follower = Follower(self.database, self.pypi, feed, self.settings, self.clock)

    def stop(self):
        self.follower.close()
        self.pypi.close()

    def settle(self, turns=200):
        """Turn until nothing is left to do."""
        for _ in range(turns):
            self.clock.now += timedelta(hours=7)  # whatever waits for its time
            self.follower._ask_at = 0.0
            wait_s = self.follower.turn()
            with self.database.read() as session:
                left = session.scalars(select(PypiNote.name)).all()
                walks = session.scalars(select(Walk)).all()
            if wait_s and not left and (not walks or all(walk.done_at for walk in walks)):
                return
        raise AssertionError(f"it never ends: {left}, {walks}")

    def state(self):
        """What is known of PyPI, and which jobs wait."""
        with self.database.read() as session:
            projects = {
                row.name: (row.status, row.serial, row.listing)
                for row in session.scalars(select(PypiProject))
                if row.status != "deleted"
            }
            jobs = {
                tuple(row)
                for row in session.execute(
                    select(Project.name, Release.version, PypiFile.filename)
                    .join(Release, Release.project_id == Project.id)
                    .join(Job, Job.release_id == Release.id)
                    .join(PypiFile, Job.sdist_id == PypiFile.id)
                    .where(Job.state == JobState.READY)
                )
            }
        return projects, jobs


def add_builder(database, *targets):
    def work(session):
        builder = Builder(name="pi", created_at=NOW)
        session.add(builder)
        session.flush()
        for name in targets:
            target = TargetRow(name=name, created_at=NOW)
            session.add(target)
            session.flush()
            session.add(
                BuilderTarget(builder_id=builder.id, target_id=target.id, environment_id="e", offered_at=NOW)
            )

    database.write(work)


@pytest.fixture
def followed(database, living):
    add_builder(database, TARGET)
    farm = Followed(database, living)
    yield farm
    farm.stop()
