# SPDX-License-Identifier: BSD-3-Clause
"""What people see of the farm: as few queries for hundreds of builders as for one; figures from counters."""

from __future__ import annotations

import pytest
from fix_database import NOW, TARGET, later
from sqlalchemy import event, insert

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuilderOrder, Health
from piwheels_node.master import views
from piwheels_node.master.builders import control
from piwheels_node.master.database.models import Builder, BuilderTarget
from piwheels_node.master.jobs import queue


def read(tables, view, *args):
    with tables.database.read() as session:
        return view(session, *args)


def queries(tables, view, *args):
    """How many statements a view takes."""
    seen = []
    with tables.database.read() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *told: seen.append(told[2]))
        view(session, *args)
    return len(seen)


def add_builders(tables, number):
    def work(session):
        rows = [{"name": f"pi-{one:03}", "created_at": NOW, "last_seen_at": NOW} for one in range(number)]
        ids = session.scalars(insert(Builder).returning(Builder.id), rows).all()
        offers = [
            {"builder_id": one, "target_id": tables.target_id, "environment_id": "e", "offered_at": NOW}
            for one in ids
        ]
        session.execute(insert(BuilderTarget), offers)
        return ids

    return tables.database.write(work)


def test_a_builder_is_shown_with_what_it_is_does_and_has_done(tables):
    tables.add_job()
    job = tables.claim()

    def work(session):
        builder = session.get_one(Builder, tables.builder_id)
        builder.machine = {"fingerprint": "a" * 64, "model": "Pi 4"}
        builder.version = "0.1"
        control.order_builder(session, builder, BuilderOrder(mode=Mode.DRAIN, why="lunch"), NOW)
        control.note_health(session, builder.id, Health(at=later(-90), load_1m=2.0), NOW)
        session.count(f"builder.{builder.id}.built", 7)
        session.count(f"builder.{builder.id}.failed", 2)

    tables.database.write(work)
    view = read(tables, views.builder, "pi")

    assert (view.name, view.state, view.mode, view.why) == ("pi", BuilderState.ACTIVE, Mode.DRAIN, "lunch")
    assert (view.built, view.failed, view.version, view.machine.model) == (7, 2, "0.1", "Pi 4")
    assert (view.clock_skew_s, view.health.load_1m, view.health_at) == (-90.0, 2.0, NOW)
    assert [(one.job_id, one.state) for one in view.jobs] == [(job.id, JobState.LEASED)]
    assert read(tables, views.builder, "nobody") is None


def test_hundreds_of_builders_are_as_many_queries_as_one(tables):
    add_builders(tables, 1)
    few = queries(tables, views.builders)
    for number in range(20):
        tables.add_job(f"thing{number}")
        tables.claim(builder_id=tables.builder_id + 1)
    more = tables.database.write(
        lambda session: session.scalars(
            insert(Builder).returning(Builder.id),
            [{"name": f"more-{one:03}", "created_at": NOW} for one in range(300)],
        ).all()
    )

    found = read(tables, views.builders)
    assert len(found) == 302
    assert [view.name for view in found] == sorted(view.name for view in found)
    assert len(more) == 300
    assert [len(view.jobs) for view in found if view.jobs] == [20]
    assert queries(tables, views.builders) <= few + 3  # those about the jobs in hand


def test_the_status_is_made_of_counters(tables):
    tables.add_job()
    tables.add_job("other")
    tables.database.write(lambda session: queue.count(session, "refused.lost", 3))
    before = queries(tables, views.status, NOW)
    status = read(tables, views.status, NOW)

    assert (status.queue, status.jobs["ready"]) == ({TARGET: 2}, 2)
    assert (status.refused, status.mode) == ({"lost": 3}, Mode.RUN)
    tables.claim()
    tables.claim()
    assert read(tables, views.status, NOW).queue == {}
    assert queries(tables, views.status, NOW) == before <= 6


def test_what_happened_to_a_builder_is_told_in_order_and_of_much_the_newest(tables):
    def work(session):
        for number in range(views._MOST + 5):
            control.record(session, tables.builder_id, control.BuilderEventKind.ORDERED, NOW, number=number)

    tables.database.write(work)
    found = read(tables, views.builder_events, "pi")

    assert [one.detail["number"] for one in found] == list(range(5, views._MOST + 5))
    assert read(tables, views.builder_events, "nobody") is None


@pytest.mark.parametrize("state", list(JobState))
def test_jobs_in_a_state_are_found_by_an_index_or_among_the_newest(tables, state, monkeypatch):
    monkeypatch.setattr(views, "LOOK_BACK", 3)
    ids = [tables.add_job(f"thing{number}") for number in range(6)]

    def work(session):
        for job_id in ids:
            job = session.get_one(queue.Job, job_id)
            job.state = state

    tables.database.write(work)
    expected = ids if state in {JobState.LEASED, JobState.QUARANTINED} else ids[-3:]
    assert [job.job_id for job in read(tables, views.jobs, state, 50)] == expected[::-1]
    assert len(read(tables, views.jobs, None, 50)) == 6
