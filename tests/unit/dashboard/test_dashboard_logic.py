# SPDX-License-Identifier: BSD-3-Clause
"""What the dashboard decides, without a screen: rows and their order, columns that fit, keys, pace, words."""

from __future__ import annotations

import threading
from datetime import timedelta
from queue import SimpleQueue

import pytest
from fake_farm import NOW

from piwheels_node.core.access import Access
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuilderRow
from piwheels_node.core.standing import Standing
from piwheels_node.dashboard import builders
from piwheels_node.dashboard.actions import ACTIONS, BY_NAME, MOVES, is_offered, on_page, shown
from piwheels_node.dashboard.builders import Shown, ShownRows
from piwheels_node.dashboard.deeds import BuilderName, JobName, Subject
from piwheels_node.dashboard.listing import Arrangement, Column, fitting
from piwheels_node.dashboard.polling import Asker, Pace, interval_for
from piwheels_node.dashboard.screens import PAGES
from piwheels_node.dashboard.words import Cell, ago, amount, elapsed, memory, number, share


def row(**more):
    return BuilderRow(**{"name": "pi-1", "state": BuilderState.ACTIVE, "is_up": True, **more})


# --- builders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "task"),
    [
        ({}, "idle"),
        ({"is_up": False}, "lost"),
        ({"state": BuilderState.PENDING}, "joined, waits for approval"),
        ({"state": BuilderState.REVOKED, "is_up": False}, "revoked"),
        ({"mode": Mode.PAUSE, "why": "its fan"}, "pause: its fan"),
        ({"paused_itself": "84 °C"}, "84 °C"),
        ({"undervoltage": True}, "its power supply is too weak"),
    ],
)
def test_how_a_builder_stands_is_told_in_words_and_in_a_sign(facts, task):
    one = Shown(row(**facts), NOW)

    assert builders.ARRANGEMENT.column("task").cell(one).words == task
    assert builders.ARRANGEMENT.column("state").cell(one) == builders.SIGNS[one.standing]
    assert len({sign.words for sign in builders.SIGNS.values()}) == len(Standing)


def test_builders_are_shown_as_the_master_orders_them_until_somebody_wants_it_otherwise():
    rows = ShownRows([row(name="pi-2"), row(name="pi-1"), row(name="pi-3")], NOW)

    def names(arrangement):
        return [one.row.name for one in arrangement.apply(rows)]

    assert names(builders.ARRANGEMENT) == ["pi-2", "pi-1", "pi-3"]
    assert names(builders.ARRANGEMENT.ordered("host")) == ["pi-1", "pi-2", "pi-3"]
    assert [one.row.name for one in rows[1:]] == ["pi-1", "pi-3"]


def test_faults_are_what_a_person_should_look_at():
    assert builders.is_fault(Shown(row(is_up=False), NOW))
    assert builders.is_fault(Shown(row(built=4, failed=6), NOW))
    assert not builders.is_fault(Shown(row(built=1, failed=3), NOW))
    assert not builders.is_fault(Shown(row(mode=Mode.PAUSE), NOW))


# --- tables --------------------------------------------------------------------------------------------

NUMBERS = Arrangement(
    (
        Column("name", "name", 4, lambda one: Cell(one[0]), lambda one: one[0]),
        Column("size", "size", 4, lambda one: Cell(str(one[1])), lambda one: one[1], falling=True, rank=1),
        Column("note", "note", 4, lambda one: Cell(""), rank=2, share=1),
    ),
    key=lambda one: one[0],
    text=lambda one: one[0],
    is_fault=lambda one: one[1] is None,
)
ROWS = [("b", 2), ("a", 9), ("d", None), ("c", 10)]


def names(arrangement):
    return "".join(name for name, _ in arrangement.apply(ROWS))


def test_rows_are_ordered_by_value_and_what_nobody_knows_is_last_either_way():
    assert names(NUMBERS) == "badc"
    assert names(NUMBERS.turned()) == "cdab"
    assert names(NUMBERS.ordered("size")) == "cabd"
    assert names(NUMBERS.ordered("size").ordered("size")) == "bacd"
    assert names(NUMBERS.ordered("note")) == "badc"


def test_the_next_order_goes_through_the_columns_that_are_shown():
    once = NUMBERS.ordered_next(["name", "size"])
    assert [once.ordered_by, once.ordered_next(["name", "size"]).ordered_by] == ["name", "size"]
    assert once.ordered_next(["name"]).ordered_by == ""


def test_a_filter_needs_all_its_words_in_any_case():
    assert names(NUMBERS.filtered("A")) == "a"
    assert names(NUMBERS.filtered("a b")) == ""
    assert names(NUMBERS.with_faults_toggled()) == "d"
    assert NUMBERS.filtered("x").with_faults_toggled().plain() == NUMBERS


@pytest.mark.parametrize(
    ("width", "shown_columns"), [(4, "name"), (8, "name"), (9, "name size"), (30, "name size note")]
)
def test_columns_come_by_rank_while_there_is_room_and_fill_it(width, shown_columns):
    fitted = fitting(NUMBERS.columns, width)

    assert " ".join(column.name for column, _ in fitted) == shown_columns
    if "note" in shown_columns:
        assert sum(size for _, size in fitted) + len(fitted) - 1 == width


# --- actions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_on_a_page_each_key_means_one_thing(page):
    keys = [key for action in on_page(page) for key in action.keys]

    assert len(keys) == len(set(keys))
    moves = {key for move in MOVES for key in move.keys}
    assert moves & set(keys) == set()


def test_an_action_has_a_name_of_its_own_and_a_sentence():
    assert len(BY_NAME) == len(ACTIONS)
    assert [one.name for one in ACTIONS if not one.sentence.endswith(".")] == []
    assert {page for one in ACTIONS for page in one.pages} <= set(PAGES)
    assert [shown(key) for key in ("slash", "ctrl+p", "enter", "K")] == ["/", "^p", "enter", "K"]


def test_deeds_are_for_operators_and_for_what_they_fit():
    job = JobName(1, "numpy", "2.3.1", "cp313", JobState.LEASED)
    busy = Subject(builder=BuilderName("pi-1", BuilderState.ACTIVE, Mode.RUN, (job,)))
    idle = Subject(builder=BuilderName("pi-1", BuilderState.ACTIVE, Mode.RUN))
    gone = Subject(builder=BuilderName("pi-1", BuilderState.REVOKED, Mode.RUN))

    def offered(subject, access=Access.OPERATOR):
        return {
            one.name for one in ACTIONS if one.for_operators and is_offered(one, "builder", subject, access)
        }

    assert offered(busy) == {"pause", "drain", "skip", "kill"}
    assert offered(idle) == {"pause", "drain"}
    assert offered(gone) == set()
    assert offered(busy, Access.READER) == offered(busy, Access.BUILDER) == set()


def test_those_that_ask_are_those_that_cannot_be_taken_back():
    assert {one.name for one in ACTIONS if one.dangerous} >= {"skip", "kill", "drain", "pause-farm"}
    assert not {one.name for one in ACTIONS if one.dangerous} & {"pause", "resume"}


# --- pace and words ------------------------------------------------------------------------------------


def test_who_asks_no_more_has_no_threads_left():
    answers = SimpleQueue()
    asker = Asker("farm", answers.put)
    asked = [object() for _ in range(3)]

    for one in asked:
        assert asker.ask(one, lambda reader: (reader, threading.current_thread()))
    told = [answers.get(timeout=60) for _ in asked]
    asker.close()

    assert {one.asked for one in told} == set(asked)
    for one in told:
        one.value[1].join(timeout=60)
        assert not one.value[1].is_alive()


def test_a_master_that_is_gone_is_asked_ever_more_seldom_and_at_once_often_when_it_is_back():
    pace = Pace(2.0)
    waits = []
    for _ in range(7):
        pace = pace.missed()
        waits.append(pace.wait_s)

    assert waits == [2, 4, 8, 16, 30, 30, 30]
    assert pace.heard().wait_s == 2.0
    assert Pace(60.0).missed().wait_s == 60.0


def test_one_core_has_something_better_to_do():
    assert interval_for(1) > interval_for(4) == interval_for(None)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (elapsed(41), "41s"),
        (elapsed(182), "3m02s"),
        (elapsed(8640), "2h24m"),
        (elapsed(3 * 86400 + 4 * 3600), "3d04h"),
        (elapsed(-5), "0s"),
        (ago(None, NOW), "never"),
        (ago(NOW, NOW - timedelta(seconds=9)), "now"),
        (ago(NOW - timedelta(minutes=6), NOW), "6m"),
        (ago(NOW - timedelta(days=2), NOW), "2d"),
        (amount(980), "980 B"),
        (amount(1_400_000), "1.4 MB"),
        (amount(5e13), "50.0 TB"),
        (memory(512 << 20), "512 MiB"),
        (memory(3 << 30), "3.0 GiB"),
        (number(9870), "9,870"),
        (number(12_400), "12.4k"),
        (number(1_200_000), "1.2M"),
        (share(1, 1000), "<1%"),
        (share(0, 10), "0%"),
        (share(0, 0), ""),
    ],
)
def test_words_are_short_and_never_say_nothing_of_something(said, words):
    assert said == words
