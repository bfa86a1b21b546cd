# SPDX-License-Identifier: BSD-3-Clause
"""Lanes by memory: what a build used decides who gets the project's next job."""

from __future__ import annotations

import pytest
from fix_database import NOW, later
from sqlalchemy import select

from piwheels_node.core.builders import BuilderState, memory_class
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import Limits, Report
from piwheels_node.core.settings import MasterSettings
from piwheels_node.master.database.models import Builder, BuilderTarget, Job, Project
from piwheels_node.master.jobs import lanes, queue
from piwheels_node.master.wheels import publish
from piwheels_node.master.wheels.store import WheelStore

GIB = 1 << 30
SETTINGS = MasterSettings(max_attempts=3, retry_delay_s=10.0)


@pytest.fixture
def report(tables, tmp_path):
    """Report a failed build of a job."""
    store = WheelStore(tmp_path / "store")

    def say(job, reason, peak_bytes, now=NOW):
        publish.accept(
            tables.database,
            store,
            job_id=job.id,
            token=job.lease_token,
            report=Report(
                token=job.lease_token,
                outcome=Outcome.FAILED,
                reason=reason,
                duration_s=1,
                peak_memory_bytes=peak_bytes,
            ),
            limits=Limits(),
            settings=SETTINGS,
            clock=lambda: now,
        )
        return tables.job(job.id)

    return say


def offer(tables, builder_id, memory_bytes, **columns):
    """A builder that serves the target with so much memory for a build."""

    def work(session):
        builder = session.get_one(Builder, builder_id)
        builder.memory_bytes, builder.last_seen_at = memory_bytes, NOW
        for name, value in columns.items():
            setattr(builder, name, value)
        session.add(
            BuilderTarget(
                builder_id=builder_id, target_id=tables.target_id, environment_id="e", offered_at=NOW
            )
        )

    tables.database.write(work)


def peak(tables):
    with tables.database.read() as session:
        return session.scalars(select(Project.peak_memory_bytes)).one()


def lane(tables, now=NOW):
    used = peak(tables)
    return tables.database.write(lambda session: lanes.lane(session, used, tables.target_id, now))


def test_the_most_that_a_build_used_is_remembered(tables, report):
    offer(tables, tables.builder_id, 8 * GIB)
    tables.add_job()
    report(tables.claim(), FailureReason.FETCH_FAILED, GIB)
    tables.database.write(lambda session: queue.wake(session, later(10)))
    report(
        tables.claim(later(10), builder_id=tables.add_builder()), FailureReason.SILENT, 700 << 20, later(10)
    )

    assert peak(tables) == GIB
    assert lane(tables) == memory_class(GIB)


def test_out_of_memory_sends_the_job_to_twice_the_memory(tables, report):
    offer(tables, tables.builder_id, GIB)
    larger = tables.add_builder()
    offer(tables, larger, 4 * GIB)
    tables.add_job()
    job = report(tables.claim(memory_bytes=GIB), FailureReason.OUT_OF_MEMORY, 900 << 20)
    tables.database.write(lambda session: queue.wake(session, later(10)))

    assert (job.state, job.memory_class) == (JobState.DELAYED, memory_class(2 * GIB))
    assert peak(tables) == 2 * (900 << 20)
    smaller = tables.add_builder()
    assert tables.claim(later(10), memory_bytes=GIB, builder_id=smaller) is None
    assert tables.claim(later(10), memory_bytes=4 * GIB, builder_id=larger).id == job.id


def test_where_no_builder_has_more_the_others_try_and_then_it_has_failed(tables, report):
    offer(tables, tables.builder_id, GIB)
    tables.add_job()
    job = tables.claim(memory_bytes=GIB)
    for attempt in range(1, 4):
        now = later(100 * attempt)
        job = report(job, FailureReason.OUT_OF_MEMORY, GIB, now if attempt > 1 else NOW)
        if attempt < 3:
            again = later(100 * (attempt + 1))
            tables.database.write(lambda session, at=again: queue.wake(session, at))
            job = tables.claim(again, memory_bytes=GIB, builder_id=tables.add_builder())
            assert job.memory_class == memory_class(GIB)
    assert job.state is JobState.FAILED


def test_a_builder_that_was_revoked_or_is_gone_for_a_week_is_not_waited_for(tables):
    offer(tables, tables.builder_id, GIB)
    revoked = tables.add_builder()
    offer(tables, revoked, 8 * GIB, state=BuilderState.REVOKED)
    gone = tables.add_builder()
    offer(tables, gone, 4 * GIB)
    tables.add_release()
    tables.database.write(lambda s: setattr(s.scalars(select(Project)).one(), "peak_memory_bytes", 8 * GIB))

    assert lane(tables) == memory_class(4 * GIB)
    tables.database.write(
        lambda s: setattr(s.get_one(Builder, tables.builder_id), "last_seen_at", later(lanes.GONE_S))
    )
    assert lane(tables, later(lanes.GONE_S)) == memory_class(GIB)


def test_a_builder_is_not_believed_to_have_used_more_than_it_has(tables, report):
    offer(tables, tables.builder_id, 2 * GIB, machine={"memory_bytes": 4 * GIB})
    tables.add_job()
    report(tables.claim(), FailureReason.SILENT, 2**60)

    assert peak(tables) == 4 * GIB


def test_a_builder_that_says_nothing_of_memory_gets_what_needs_least(tables):
    tables.add_job(memory_class=1)
    small = tables.add_job("small")

    assert tables.claim().id == small
    with tables.database.read() as session:
        assert session.get_one(Job, small).memory_class == 0
