# SPDX-License-Identifier: BSD-3-Clause
"""What a PyPI may do wrong, and the strange things that it does right: each has one outcome.

Whatever is wrong with one project, the others are followed.
"""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from fix_changes import MALFORMED
from fix_database import TARGET
from fix_follow import Followed, add_builder
from sqlalchemy import select

from piwheels_node.master.database.models import PypiNote, PypiProject
from piwheels_node.master.pypi import notes


@pytest.fixture
def farm(sqlite_database, living):
    """A follower of a PyPI that has one project without trouble."""
    add_builder(sqlite_database, TARGET)
    living.add("good", "good-1.0.tar.gz")
    farm = Followed(sqlite_database, living)
    yield farm
    farm.stop()


def names(farm):
    return {name for name, _, _ in farm.state()[1]}


def status(farm, name):
    with farm.database.read() as session:
        return session.scalar(select(PypiProject.status).where(PypiProject.name == name))


def waits(farm):
    """Projects that are to be asked about again, and how often they were."""
    with farm.database.read() as session:
        return {note.name: note.tries for note in session.scalars(select(PypiNote))}


def turn(farm, times=1):
    for _ in range(times):
        farm.clock.now += timedelta(hours=7)
        farm.follower._ask_at = 0.0
        farm.follower._pypi._rest_until = 0.0
        farm.follower.turn()


@pytest.mark.parametrize("version", MALFORMED)
def test_a_version_that_is_none_is_left_out_and_the_others_are_built(farm, living, version):
    living.add("odd", "odd-1.0.tar.gz")
    living.projects["odd"].strange.append(version)
    living.add("odd", f"odd-{version}.tar.gz")
    farm.settle()

    assert {row for row in farm.state()[1] if row[0] == "odd"} == {("odd", "1.0", "odd-1.0.tar.gz")}


@pytest.mark.parametrize("name", ["", "-", "a" * 201, "bad name", "<b>bold</b>", "../../etc", "ä", "a\0b"])
def test_a_name_that_is_none_is_never_asked_about(farm, living, name):
    living.tell(name, "create")
    farm.settle()

    assert names(farm) == {"good"}
    assert {path for path in living.requests if path.startswith("/simple/")} == {
        "/simple/",
        "/simple/good/",
    }


def test_a_name_of_200_characters_is_one(farm, living):
    name = "a" * 200
    living.add(name, f"{name}-1.0.tar.gz")
    farm.settle()

    assert names(farm) == {"good", name}


@pytest.mark.parametrize(
    "more",
    [
        {"hashes": 7},
        {"hashes": {"sha256": "x"}},
        {"hashes": {}},
        {"url": "javascript:x"},
        {"url": "http://h/" + "x" * 2000},
        {"url": None},
    ],
)
def test_a_file_that_nobody_could_verify_or_fetch_is_not_built(farm, living, more):
    living.add("odd", "odd-1.0.tar.gz", **more)
    farm.settle()

    assert names(farm) == {"good"}


@pytest.mark.parametrize(
    "more",
    [
        {"requires-python": ">=three"},
        {"requires-python": 7},
        {"size": -1},
        {"size": "large"},
        {"upload-time": "yesterday"},
        {"upload-time": 7},
        {"yanked": None},
        {"requires-python": "\ud800\0" * 400},
    ],
)
def test_metadata_that_says_nothing_keeps_nothing_from_being_built(farm, living, more):
    living.add("odd", "odd-1.0.tar.gz", **more)
    farm.settle()

    assert names(farm) == {"good", "odd"}


@pytest.mark.parametrize("fault", ["429", "500", "503", "truncate", "cut", "close", "garbage"])
def test_a_page_that_cannot_be_had_is_asked_for_later_and_the_others_meanwhile(farm, living, fault):
    living.add("odd", "odd-1.0.tar.gz")
    living.faults["/simple/odd/"] = fault
    turn(farm, 3)
    assert names(farm) == {"good"}
    assert waits(farm).keys() == {"odd"}

    living.faults.clear()
    farm.settle()
    assert names(farm) == {"good", "odd"}


def test_a_page_that_never_comes_holds_up_no_other(sqlite_database, living):
    add_builder(sqlite_database, TARGET)
    for name in ("first", "hanging", "last"):
        living.add(name, f"{name}-1.0.tar.gz")
    living.faults["/simple/hanging/"] = "hang"
    farm = Followed(sqlite_database, living, timeout_s=1.0)
    turn(farm, 2)
    assert names(farm) == {"first", "last"}
    assert waits(farm)["hanging"] > 0
    farm.stop()


@pytest.mark.parametrize("fault", ["429", "500", "503", "truncate", "cut", "close", "garbage"])
@pytest.mark.parametrize("path", ["/simple/", "/pypi"])
def test_a_feed_that_fails_moves_nothing_and_is_heard_later(farm, living, fault, path):
    farm.settle()
    with farm.database.read() as session:
        before = notes.position(session)["serial"]
    living.add("new", "new-1.0.tar.gz")
    living.faults[path] = fault
    if path == "/simple/":
        farm.database.write(lambda session: notes.move(session, farm.clock(), list_at=None))
    turn(farm)
    with farm.database.read() as session:
        assert notes.position(session)["serial"] in {before, living.serial if path == "/simple/" else before}
    assert status(farm, "good") == "active"  # a list that is cut off deletes nothing

    living.faults.clear()
    turn(farm, 3)
    farm.settle()
    assert names(farm) == {"good", "new"}


def test_who_is_told_to_wait_asks_nobody_meanwhile(farm, living):
    farm.settle()
    living.faults["/pypi"] = "503"
    farm.follower._ask_at = 0.0
    farm.follower.turn()
    farm.follower._pypi._rest_until += 60.0
    asked = len(living.requests)
    living.add("new", "new-1.0.tar.gz")
    farm.follower._ask_at = 0.0
    farm.follower.turn()

    assert len(living.requests) == asked


def test_a_serial_that_goes_back_a_little_is_a_cache_and_loses_nothing(farm, living):
    farm.settle()
    serial = living.serial
    living.serial_shown = serial - 300
    living.add("new", "new-1.0.tar.gz")
    farm.clock.now += timedelta(days=2)
    farm.settle()

    assert names(farm) == {"good", "new"}
    with farm.database.read() as session:
        assert notes.position(session)["serial"] >= serial


def test_a_serial_that_goes_far_back_is_another_world_and_is_believed(farm, living, caplog):
    farm.settle()
    farm.database.write(lambda session: notes.move(session, farm.clock(), serial=living.serial + 500_000))
    living.add("new", "new-1.0.tar.gz")
    farm.clock.now += timedelta(days=2)
    with caplog.at_level(logging.WARNING):
        farm.settle()

    assert "gone back" in caplog.text
    assert names(farm) == {"good", "new"}


def test_what_is_in_quarantine_is_not_built_until_it_is_free(farm, living):
    farm.settle()
    living.set_status("good", "quarantined")
    farm.settle()
    assert (names(farm), status(farm, "good")) == (set(), "quarantined")

    living.set_status("good", "active")
    farm.settle()
    assert (names(farm), status(farm, "good")) == ({"good"}, "active")


def test_what_is_archived_is_built_all_the_same(farm, living):
    living.set_status("good", "archived")
    farm.settle()

    assert (names(farm), status(farm, "good")) == ({"good"}, "archived")


def test_a_status_that_nobody_knows_means_nothing(farm, living):
    living.set_status("good", "haunted")
    farm.settle()

    assert (names(farm), status(farm, "good")) == ({"good"}, "active")


@pytest.mark.parametrize("shown", ["GOOD", "Good", "go.od", "go_od"])
def test_a_name_in_another_spelling_is_another_project_only_where_it_is(farm, living, shown):
    farm.settle()
    living.projects["good"].shown = shown
    if shown.lower() != "good":  # a rename: the old name is gone
        living.projects["go-od"] = living.projects.pop("good")
        living.tell("good", "remove project")
        living.add("go-od", "go_od-1.0.tar.gz")
    else:
        living.touch("good", "rename")
    farm.settle()

    assert names(farm) == ({"good"} if shown.lower() == "good" else {"go-od"})


def test_what_is_deleted_and_made_anew_is_built_from_the_new_file(farm, living):
    farm.settle()
    living.remove("good")
    farm.settle()
    assert (names(farm), status(farm, "good")) == (set(), "deleted")

    living.add("good", "good-1.0.zip")
    farm.settle()
    assert farm.state()[1] == {("good", "1.0", "good-1.0.zip")}
