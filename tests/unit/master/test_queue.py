# SPDX-License-Identifier: BSD-3-Clause
"""The queue: who gets which job, who may speak for it, and what becomes of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fix_database import LEASE_S, NOW, TARGET, later
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError

from piwheels_node.core.errors import LeaseLostError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Priority, Step
from piwheels_node.core.settings import MasterSettings
from piwheels_node.master import queue
from piwheels_node.master.database.models import Build, Event, Job, TargetRow

SETTINGS = MasterSettings(retry_delay_s=60.0, max_attempts=3)


def do(tables, job_id, change):
    """Run `change(session, job)` as one piece of work."""
    return tables.database.write(lambda session: change(session, session.get_one(Job, job_id)))


def beat(tables, job, *, token=None, now=NOW, step=Step.FETCH):
    return tables.database.write(
        lambda s: queue.heartbeat(s, job.id, token or job.lease_token, step, now, LEASE_S)
    )


def reap(tables, now):
    return tables.database.write(lambda session: queue.reap(session, now, SETTINGS))


def end(tables, job_id, state):
    do(tables, job_id, lambda s, job: queue.finish(s, job, state=state, now=NOW))


def test_a_new_job_is_ready_and_counted(tables):
    job = tables.job(tables.add_job())

    assert job.state is JobState.READY
    assert tables.counters() == {"jobs.ready": 1}
    assert tables.events(job.id) == ["queued"]


def test_the_same_release_and_target_is_one_job_and_its_priority_only_rises(tables):
    job_id = tables.add_job(priority=Priority.RELEASED)

    def again(priority):
        def work(session):
            job = session.get_one(Job, job_id)
            return queue.enqueue(
                session, release=job.release, target=job.target, sdist=job.sdist, priority=priority, now=NOW
            )

        return tables.database.write(work)

    found, made = again(Priority.REQUESTED)
    assert (found.id, made, found.priority) == (job_id, False, Priority.REQUESTED)
    assert again(Priority.BACKLOG)[0].priority == Priority.REQUESTED
    assert tables.events(job_id) == ["queued", "raised"]
    assert tables.counters() == {"jobs.ready": 1}


def test_higher_priority_goes_first_then_the_older_job(tables):
    first = tables.add_job("a")
    second = tables.add_job("b")
    asked = tables.add_job("c", priority=Priority.REQUESTED)

    assert [tables.claim().id for _ in range(3)] == [asked, first, second]
    assert tables.claim() is None


def test_the_best_job_of_several_targets_is_claimed(tables):
    def other_target(session):
        target = TargetRow(name="cp313-linux_armv7l-debian13", created_at=NOW)
        job = session.get_one(Job, low)
        session.add(target)
        made, _ = queue.enqueue(
            session, release=job.release, target=target, sdist=job.sdist, priority=Priority.MISSED, now=NOW
        )
        return made.id

    low = tables.add_job()
    high = tables.database.write(other_target)
    both = (TARGET, "cp313-linux_armv7l-debian13", "cp39-linux_armv7l-debian11")

    assert tables.claim(targets=("cp39-linux_armv7l-debian11",)) is None
    assert tables.claim(targets=()) is None
    assert [tables.claim(targets=both).id for _ in range(2)] == [high, low]


def test_a_job_is_not_claimed_before_its_time(tables):
    job_id = tables.add_job(now=later(60))

    assert tables.claim(later(59)) is None
    assert tables.claim(later(60)).id == job_id


def test_a_lease_has_a_token_an_end_and_a_holder(tables):
    tables.add_job()
    job = tables.claim()

    assert job.state is JobState.LEASED
    assert len(job.lease_token) == 32
    assert job.lease_until_at == later(LEASE_S)
    assert (job.builder_id, job.attempts, job.leased_at) == (tables.builder_id, 1, NOW)
    assert tables.counters() == {"jobs.leased": 1}
    assert tables.events(job.id) == ["queued", "leased"]


def test_no_job_is_claimed_twice_however_many_race_for_it(tables):
    made = {tables.add_job(f"p{n}") for n in range(60)}
    with ThreadPoolExecutor(16) as pool:
        claimed = [job.id for job in pool.map(lambda _: tables.claim(), range(100)) if job]

    assert len(claimed) == 60
    assert set(claimed) == made
    assert tables.counters() == {"jobs.leased": 60}


def test_claiming_reads_one_row_of_the_index_however_long_the_queue(tables):
    tables.add_job()
    statements = []
    event.listen(
        tables.database._writing,
        "before_cursor_execute",
        lambda _c, _cur, sql, args, *_: statements.append((sql, args)),
    )
    tables.claim()
    sql, arguments = next(one for one in statements if one[0].startswith("UPDATE job"))
    with tables.database.read() as session:
        rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", arguments).all()
    plan = [row[3] for row in rows]

    assert any("USING INDEX ix_job_ready (target_id=?)" in line for line in plan), plan
    assert not any(line.startswith("SCAN job") for line in plan), plan


@pytest.mark.parametrize(
    ("token", "now", "message"),
    [("0" * 32, NOW, "another builder"), (None, later(LEASE_S), "is over"), ("é" * 16, NOW, "another")],
)
def test_a_wrong_or_late_token_is_refused(tables, token, now, message):
    tables.add_job()
    job = tables.claim()
    with pytest.raises(LeaseLostError, match=message):
        beat(tables, job, token=token, now=now)

    assert tables.job(job.id).lease_until_at == job.lease_until_at


def test_a_job_that_nobody_holds_or_nobody_knows_is_refused(tables):
    job_id = tables.add_job()
    for unknown in (job_id, 999):
        with pytest.raises(LeaseLostError, match="nobody holds"):
            tables.database.write(lambda s, unknown=unknown: queue.held(s, unknown, "x" * 32, NOW))


def test_the_token_of_an_earlier_lease_is_worth_nothing(tables):
    tables.add_job()
    old = tables.claim()
    do(tables, old.id, lambda s, job: queue.hand_back(s, job, NOW))
    new = tables.claim()

    assert new.id == old.id
    with pytest.raises(LeaseLostError, match="another builder"):
        beat(tables, old)
    beat(tables, new)


def test_a_token_ends_with_its_job(tables):
    tables.add_job()
    job = tables.claim()
    end(tables, job.id, JobState.BUILT)

    with pytest.raises(LeaseLostError):
        beat(tables, job)
    with pytest.raises(ValueError, match="no end"):
        end(tables, job.id, JobState.READY)


def test_a_heartbeat_makes_the_lease_longer_and_notes_each_step_once(tables):
    tables.add_job()
    job = tables.claim()
    for seconds, step in [(10, Step.FETCH), (20, Step.FETCH), (30, Step.BUILD)]:
        held = beat(tables, job, now=later(seconds), step=step)
        assert held.lease_until_at == later(seconds + LEASE_S)

    assert tables.events(job.id) == ["queued", "leased", "step", "step"]
    assert tables.job(job.id).step is Step.BUILD


def test_a_job_handed_back_is_ready_at_once_and_it_was_no_attempt(tables):
    job_id = tables.add_job()
    tables.claim()
    do(tables, job_id, lambda s, job: queue.hand_back(s, job, NOW))

    job = tables.job(job_id)
    assert (job.state, job.attempts, job.builder_id, job.lease_token) == (JobState.READY, 0, None, None)
    assert tables.counters() == {"jobs.ready": 1}
    assert tables.claim().id == job_id


def test_the_delay_before_another_try_doubles(tables):
    job_id = tables.add_job()
    now, delays = NOW, []
    for _ in range(3):
        assert tables.claim(now).id == job_id
        do(tables, job_id, lambda s, job, at=now: queue.retry_elsewhere(s, job, at, SETTINGS))
        delays.append((tables.job(job_id).not_before_at - now).total_seconds())
        assert tables.claim(now) is None
        now = tables.job(job_id).not_before_at

    assert delays == [60, 120, 240]


def test_the_delay_is_bounded_after_however_many_attempts(tables):
    job_id = tables.add_job()
    tables.claim()

    def change(session, job):
        job.attempts = 5000
        queue.retry_elsewhere(session, job, NOW, SETTINGS)

    do(tables, job_id, change)
    assert (tables.job(job_id).not_before_at - NOW).total_seconds() == queue.LONGEST_DELAY_S


def test_a_silent_builder_loses_its_job_and_the_loss_is_a_build(tables):
    job_id = tables.add_job()
    tables.claim()

    assert reap(tables, later(LEASE_S - 1)) == []
    assert reap(tables, later(LEASE_S)) == [job_id]
    assert reap(tables, later(LEASE_S)) == []
    job = tables.job(job_id)
    assert (job.state, job.losses) == (JobState.READY, 1)
    assert job.not_before_at == later(LEASE_S + 60)
    with tables.database.read() as session:
        build = session.scalars(select(Build)).one()
        assert (build.outcome, build.reason) == (Outcome.FAILED, FailureReason.BUILDER_LOST)
        assert (build.builder_id, build.attempt, build.duration_s) == (tables.builder_id, 1, LEASE_S)
    assert tables.events(job_id) == ["queued", "leased", "lost", "retry"]
    assert tables.counters() == {"jobs.ready": 1}


def test_a_job_that_builders_die_of_is_quarantined_and_a_person_frees_it(tables):
    job_id = tables.add_job()
    now = NOW
    for _ in range(SETTINGS.max_attempts):
        now = max(now, tables.job(job_id).not_before_at)
        tables.claim(now)
        now = tables.job(job_id).lease_until_at
        assert reap(tables, now) == [job_id]

    assert tables.job(job_id).state is JobState.QUARANTINED
    assert tables.counters() == {"jobs.quarantined": 1}
    assert tables.claim(later(10**6)) is None
    do(tables, job_id, lambda s, job: queue.requeue(s, job, now=now, why="somebody looked at it"))
    job = tables.job(job_id)
    assert (job.state, job.losses, job.attempts) == (JobState.READY, 0, 0)
    assert tables.claim(now).id == job_id


@pytest.mark.parametrize("state", [JobState.BUILT, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_ended_can_be_queued_again_and_says_why(tables, state):
    job_id = tables.add_job()
    tables.claim()
    end(tables, job_id, state)
    assert tables.counters() == {f"jobs.{state.value}": 1}
    do(
        tables,
        job_id,
        lambda s, job: queue.requeue(s, job, now=NOW, why="new compiler", priority=Priority.REQUESTED),
    )

    assert tables.counters() == {"jobs.ready": 1}
    assert tables.job(job_id).priority == Priority.REQUESTED
    with tables.database.read() as session:
        found = session.scalars(select(Event).where(Event.kind == "requeued")).one()
        assert found.detail == {"why": "new compiler", "after": state.value}


def test_a_job_that_a_builder_holds_is_left_to_it(tables):
    job_id = tables.add_job()
    job = tables.claim()
    do(tables, job_id, lambda s, job: queue.requeue(s, job, now=NOW, why="impatience"))

    beat(tables, job)
    assert tables.counters() == {"jobs.leased": 1}


def test_a_change_that_fails_leaves_state_counters_and_events_as_they_were(tables):
    job_id = tables.add_job()
    tables.claim()

    def change(session, job):
        queue.finish(session, job, state=JobState.FAILED, now=NOW)
        session.add(Event(job_id=10**6, at=NOW, kind="x", detail={}))

    with pytest.raises(IntegrityError):
        do(tables, job_id, change)
    assert tables.job(job_id).state is JobState.LEASED
    assert tables.counters() == {"jobs.leased": 1}
    assert tables.events(job_id) == ["queued", "leased"]
