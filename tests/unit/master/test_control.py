# SPDX-License-Identifier: BSD-3-Clause
"""What people tell builders, and what a builder is told when it asks; on both kinds of database."""

from __future__ import annotations

import pytest
from fix_database import NOW, later
from sqlalchemy import select

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.errors import KeyRefusedError, LeaseLostError, SupersededError, UsageError
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuilderOrder, Health
from piwheels_node.master.builders import control
from piwheels_node.master.builders.control import Speaker
from piwheels_node.master.database.models import Builder, BuilderEvent
from piwheels_node.master.jobs import queue


@pytest.fixture
def told(tables):
    """What the builder `pi` is told; topics that were announced."""
    heard = []
    tables.database.subscribe(heard.append)

    def ask(now=NOW):
        with tables.database.read() as session:
            return control.orders_of(session, tables.builder_id, now)

    ask.heard = heard
    return ask


def order(tables, mode, why=None, *, everybody=False):
    def work(session):
        if everybody:
            control.order_all(session, BuilderOrder(mode=mode, why=why), NOW)
        else:
            builder = control.builder_named(session, "pi")
            control.order_builder(session, builder, BuilderOrder(mode=mode, why=why), NOW)

    tables.database.write(work)


def skip(tables, now=NOW):
    return tables.database.write(
        lambda session: control.skip_builder(session, control.builder_named(session, "pi"), now)
    )


def events(tables):
    with tables.database.read() as session:
        return [
            (row.kind, row.detail) for row in session.scalars(select(BuilderEvent).order_by(BuilderEvent.id))
        ]


def change(tables, **columns):
    def work(session):
        builder = session.get_one(Builder, tables.builder_id)
        for name, value in columns.items():
            setattr(builder, name, value)

    tables.database.write(work)


def may_lease(tables, session_id=None):
    return tables.database.write(
        lambda session: control.may_lease(session, Speaker(tables.builder_id, "pi", session_id))
    )


def test_a_builder_that_was_told_nothing_runs(tables, told):
    orders = told()
    assert (orders.serial, orders.mode, orders.why, orders.skip) == (0, Mode.RUN, None, [])
    assert may_lease(tables)


@pytest.mark.parametrize(
    ("own", "farm", "holds"),
    [
        (Mode.RUN, Mode.RUN, Mode.RUN),
        (Mode.RUN, Mode.DRAIN, Mode.DRAIN),
        (Mode.PAUSE, Mode.DRAIN, Mode.PAUSE),
        (Mode.DRAIN, Mode.PAUSE, Mode.PAUSE),
        (Mode.PAUSE, Mode.RUN, Mode.PAUSE),
    ],
)
def test_of_two_orders_the_stricter_holds_with_its_reason(tables, told, own, farm, holds):
    order(tables, own, "own")
    order(tables, farm, "farm", everybody=True)

    orders = told()
    assert orders.mode is holds
    assert orders.why == ("own" if own is holds else "farm")
    assert may_lease(tables) is (holds is Mode.RUN)


def test_each_change_is_a_new_serial_an_event_and_an_announcement(tables, told):
    serials = [told().serial]
    for mode in (Mode.PAUSE, Mode.RUN):
        order(tables, mode, "why")
        serials.append(told().serial)
    order(tables, Mode.DRAIN, everybody=True)
    serials.append(told().serial)

    assert serials == sorted(set(serials))
    assert told.heard == [f"orders:{tables.builder_id}"] * 2 + ["orders"]
    assert events(tables) == [
        ("ordered", {"mode": "pause", "why": "why"}),
        ("ordered", {"mode": "run", "why": "why"}),
    ]


def test_the_same_order_again_changes_nothing(tables, told):
    for _ in range(2):
        order(tables, Mode.PAUSE, "why")
        order(tables, Mode.PAUSE, "why", everybody=True)
    assert len(events(tables)) == 1
    assert told().serial == 2


def test_a_skipped_job_is_cancelled_its_token_void_and_the_builder_told(tables, told):
    tables.add_job()
    job = tables.claim()
    before = told().serial

    assert skip(tables) == [job.id]
    assert tables.job(job.id).state is JobState.CANCELLED
    assert tables.events(job.id)[-1] == "cancelled"
    assert (told().skip, told().serial) == ([job.id], before + 1)
    assert events(tables) == [("ordered", {"skip": job.id})]
    with pytest.raises(LeaseLostError), tables.database.read() as session:
        queue.held(session, job.id, job.lease_token, NOW)
    assert skip(tables) == []


def test_a_job_that_the_builder_has_leased_again_since_is_not_skipped(tables, told):
    tables.add_job()
    job = tables.claim()
    skip(tables)
    tables.database.write(
        lambda session: queue.requeue(session, session.get(type(job), job.id), now=NOW, why="asked for")
    )
    assert told().skip == [job.id]
    assert tables.claim().id == job.id
    assert told().skip == []


def test_what_was_skipped_long_ago_is_not_told(tables, told):
    tables.add_job()
    job = tables.claim()
    skip(tables)
    assert told(later(control.SKIPPED_S - 1)).skip == [job.id]
    assert told(later(control.SKIPPED_S + 1)).skip == []


def test_all_jobs_in_hand_are_skipped_and_those_leased_since_are_not(tables, told):
    for number in range(3):
        tables.add_job(f"thing{number}")
    held = [tables.claim(), tables.claim(builder_id=tables.add_builder())]
    later_one = tables.claim(later(10))
    skipped = tables.database.write(lambda session: control.skip_all(session, later(10), later(5)))

    assert skipped == [job.id for job in held]
    assert tables.job(later_one.id).state is JobState.LEASED
    assert told(later(10)).skip == [held[0].id]


def test_a_job_is_cancelled_whoever_has_it_and_only_once(tables, told):
    tables.add_job("ready")
    ready = tables.add_job("ready2")
    leased = tables.claim()

    def cancel(job_id):
        return tables.database.write(lambda session: control.cancel_job(session, job_id, NOW))

    assert cancel(ready)
    assert cancel(leased.id)
    assert tables.counters() == {"jobs.cancelled": 2}
    assert told().skip == [leased.id]
    with pytest.raises(UsageError, match="ended already: cancelled"):
        cancel(ready)
    assert cancel(99) is False


@pytest.mark.parametrize("state", [BuilderState.PENDING, BuilderState.ACTIVE])
def test_only_an_active_builder_may_lease(tables, told, state):
    change(tables, state=state)
    assert may_lease(tables) is (state is BuilderState.ACTIVE)
    assert told().state is state


def test_a_revoked_builder_is_refused(tables):
    change(tables, state=BuilderState.REVOKED)
    with pytest.raises(KeyRefusedError):
        may_lease(tables)


def test_only_the_process_that_said_hello_last_may_lease(tables):
    change(tables, session="s" * 16)
    assert may_lease(tables, "s" * 16)
    for other in ("t" * 16, None):
        with pytest.raises(SupersededError):
            may_lease(tables, other)


def test_a_builder_that_pauses_itself_is_noted_once(tables):
    def note(why, now):
        health = Health(load_1m=1.5, paused_itself=why)
        tables.database.write(lambda session: control.note_health(session, tables.builder_id, health, now))

    for second, why in enumerate(["79 °C", "79 °C", "80 °C", None, None]):
        note(why, later(second))

    assert events(tables) == [("paused-itself", {"why": "79 °C"}), ("resumed-itself", {})]
    with tables.database.read() as session:
        row = session.get_one(Builder, tables.builder_id)
    assert (row.paused_itself, row.last_seen_at, row.health_at) == (None, later(4), later(4))
    assert row.health["load_1m"] == 1.5


def test_a_builder_that_nobody_knows_is_an_error(tables):
    with pytest.raises(control.UnknownBuilderError), tables.database.read() as session:
        control.builder_named(session, "nobody")
