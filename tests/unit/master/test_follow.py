# SPDX-License-Identifier: BSD-3-Clause
"""Following a PyPI that changes: whatever goes wrong, the end is what a first reading would give."""

from __future__ import annotations

import contextlib
import random
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from fix_database import NOW, TARGET
from fix_follow import SETTINGS, Clock, Followed, add_builder
from sqlalchemy import select

from piwheels_node.core.errors import NodeError, SettingsError
from piwheels_node.core.jobs import JobState
from piwheels_node.core.settings import PypiSettings
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    BuilderTarget,
    Job,
    Project,
    PypiNote,
    Release,
    TargetRow,
)
from piwheels_node.master.jobs import queue
from piwheels_node.master.pypi import notes
from piwheels_node.master.pypi.follow import Follower, make_feed
from piwheels_node.master.pypi.index import PyPI


@pytest.fixture
def scratch(tmp_path, living, empty_database):
    """What a first reading of the same PyPI gives."""
    shutil.copy(empty_database, tmp_path / "scratch.db")
    with Database.open(f"sqlite:///{tmp_path}/scratch.db") as database:
        add_builder(database, TARGET)

        def read():
            farm = Followed(database, living, replace(SETTINGS, follow="list"))
            farm.settle()
            farm.stop()
            return farm.state()

        yield read


def test_the_end_is_what_a_first_reading_gives_though_everything_goes_wrong(followed, living, scratch):
    living.trouble, living.lateness, living.is_behind = 0.2, 0.2, 0.1
    chance = random.Random(7)
    for number in range(30):
        living.happen(20)
        living.serial_shown = living.serial - 50 if number % 5 == 4 else None
        for _ in range(3):
            followed.clock.now += timedelta(seconds=30)
            followed.follower._ask_at = 0.0
            with contextlib.suppress(NodeError):
                followed.follower.turn()
        if chance.random() < 0.3:  # the process is killed, and another begins
            followed.pypi.close()
            followed.clock.now += timedelta(minutes=2)
            followed.start()
    living.settle()
    living.happen(1)
    followed.settle()

    projects, jobs = followed.state()
    wanted_projects, wanted_jobs = scratch()
    assert len(wanted_projects) > 10
    assert len(wanted_jobs) > 10
    assert {name: row[0] for name, row in projects.items()} == {
        name: row[0] for name, row in wanted_projects.items()
    }
    assert projects == wanted_projects
    assert jobs == wanted_jobs


def test_a_watched_project_is_planned_and_others_are_not(database, living):
    add_builder(database, TARGET)
    living.add("wanted", "wanted-1.0.tar.gz")
    living.add("wanted", "wanted-2.0.tar.gz")
    living.add("wanted", "wanted-2.0-py3-none-any.whl")
    living.add("other", "other-1.0.tar.gz")
    farm = Followed(database, living, replace(SETTINGS, follow="watch", watch="Wanted, absent"))
    farm.settle()

    assert farm.state()[1] == {("wanted", "1.0", "wanted-1.0.tar.gz")}
    asked = len(living.requests)
    farm.settle()
    farm.stop()
    assert not {"/pypi", "/simple/", "/simple/other/"} & set(living.requests)
    assert len(living.requests) - asked <= 8  # a round or two, of two projects


def test_a_new_target_is_planned_for_everything_newest_first_as_its_queue_has_room(followed, living):
    for number in range(60):
        living.add(f"p{number}", f"p{number}-1.0.tar.gz")
        living.add(f"p{number}", f"p{number}-1.0-cp311-cp311-win_amd64.whl")
    followed.settle()
    before = len(followed.state()[1])
    target_id = followed.database.write(join)
    followed.follower._walker._settings = replace(SETTINGS, queue_max=25)
    for _ in range(5):
        followed.follower.turn()

    assert before == 60
    assert {name for name, _ in jobs_for(followed, target_id)} == {
        f"p{number}" for number in range(35, 60)
    }  # the newest, as many as there is room for


def test_a_project_that_a_walk_has_not_come_to_is_planned_whole_where_a_new_upload_moves_it(followed, living):
    for number in range(60):
        living.add(f"p{number}", f"p{number}-1.0.tar.gz")
        living.add(f"p{number}", f"p{number}-1.0-cp311-cp311-win_amd64.whl")
    followed.settle()
    target_id = followed.database.write(join)
    followed.follower._walker._settings = replace(SETTINGS, queue_max=25)
    for _ in range(5):
        followed.follower.turn()
    assert ("p10", "1.0") not in jobs_for(followed, target_id)

    living.add("p10", "p10-2.0.tar.gz")
    living.add("p10", "p10-2.0-cp311-cp311-win_amd64.whl")
    for _ in range(5):
        followed.clock.now += timedelta(hours=7)
        followed.follower._ask_at = 0.0
        followed.follower.turn()
    followed.follower._walker._settings = SETTINGS
    followed.settle()

    assert jobs_for(followed, target_id) == {(f"p{number}", "1.0") for number in range(60)} | {("p10", "2.0")}


def join(session):
    """A builder offers a target that nobody offered before."""
    target = TargetRow(name="cp313-linux_armv7l-debian13", created_at=NOW)
    session.add(target)
    session.flush()
    session.add(BuilderTarget(builder_id=1, target_id=target.id, environment_id="e", offered_at=NOW))
    return target.id


def jobs_for(followed, target_id):
    """Names and versions of a target's jobs."""
    with followed.database.read() as session:
        rows = session.execute(
            select(Project.name, Release.version)
            .join(Release, Release.project_id == Project.id)
            .join(Job, Job.release_id == Release.id)
            .where(Job.target_id == target_id)
        )
        return {(name, version) for name, version in rows}


def test_one_of_several_masters_follows_and_another_takes_over(followed, living):
    other = Followed(followed.database, living)
    followed.follower.turn()
    living.add("foo", "foo-1.tar.gz")
    assert other.follower.turn() > 1
    with followed.database.read() as session:
        assert session.scalars(select(PypiNote)).all() == []
    followed.follower.close()
    other.settle()
    other.stop()

    assert other.state()[1] == {("foo", "1", "foo-1.tar.gz")}


def test_without_a_change_log_the_list_is_read_more_often(followed, living):
    followed.settle()
    living.has_changelog = False
    living.add("foo", "foo-1.tar.gz")
    followed.settle()  # it learns that there is none
    followed.settle()

    assert "foo" in followed.state()[0]


def test_an_old_list_does_not_move_the_serial_back_and_one_of_another_world_does(followed, living):
    living.add("foo", "foo-1.tar.gz")
    followed.settle()
    serial = living.serial

    def position():
        with followed.database.read() as session:
            return notes.position(session)["serial"]

    assert position() == serial
    living.serial_shown = serial - 200
    followed.clock.now += timedelta(days=2)
    followed.settle()
    assert position() == serial
    followed.database.write(lambda session: notes.move(session, NOW, serial=serial + 500_000))
    followed.clock.now += timedelta(days=2)
    followed.settle()
    assert position() == serial


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"follow": "always"}, "pypi.follow"),
        ({"follow": "watch"}, "pypi.watch"),
        ({"scope": "some"}, "pypi.scope"),
    ],
)
def test_settings_that_make_no_sense_are_refused(sqlite_database, settings, where):
    pypi = PyPI("http://127.0.0.1:9/simple/")
    settings = PypiSettings(**{"follow": "list", **settings})
    with pytest.raises(SettingsError) as error:
        Follower(sqlite_database, pypi, make_feed(settings, pypi), settings, Clock())
    pypi.close()
    assert error.value.where == where


def test_what_came_of_one_target_decides_what_is_built_for_the_next(database, living):
    first, second = "cp311-linux_x86_64-debian12", "cp313-linux_x86_64-debian13"
    add_builder(database, first, second)
    living.add("foo", "foo-1.tar.gz")
    farm = Followed(database, living)
    farm.settle()

    def targets(state):
        with database.read() as session:
            wanted = select(TargetRow.name).join(Job, Job.target_id == TargetRow.id).where(Job.state == state)
            return session.scalars(wanted).all()

    assert targets(JobState.READY) == [first]
    database.write(
        lambda session: queue.finish(
            session, session.scalars(select(Job)).one(), state=JobState.FAILED, now=farm.clock()
        )
    )
    farm.settle()
    farm.stop()
    assert targets(JobState.READY) == [second]
