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


def do(farm, job_id, change):
    """Run `change(session, job)` as one piece of work."""
    return farm.database.write(lambda session: change(session, session.get_one(Job, job_id)))


def beat(farm, job, *, token=None, now=NOW, step=Step.FETCH):
    return farm.database.write(
        lambda s: queue.heartbeat(s, job.id, token or job.lease_token, step, now, LEASE_S)
    )


def reap(farm, now):
    return farm.database.write(lambda session: queue.reap(session, now, SETTINGS))


def end(farm, job_id, state):
    do(farm, job_id, lambda s, job: queue.finish(s, job, state=state, now=NOW))


def test_a_new_job_is_ready_and_counted(farm):
    job = farm.job(farm.add_job())

    assert job.state is JobState.READY
    assert farm.counters() == {"jobs.ready": 1}
    assert farm.events(job.id) == ["queued"]


def test_the_same_release_and_target_is_one_job_and_its_priority_only_rises(farm):
    job_id = farm.add_job(priority=Priority.RELEASED)

    def again(priority):
        def work(session):
            job = session.get_one(Job, job_id)
            return queue.enqueue(
                session, release=job.release, target=job.target, sdist=job.sdist, priority=priority, now=NOW
            )

        return farm.database.write(work)

    found, made = again(Priority.REQUESTED)
    assert (found.id, made, found.priority) == (job_id, False, Priority.REQUESTED)
    assert again(Priority.BACKLOG)[0].priority == Priority.REQUESTED
    assert farm.events(job_id) == ["queued", "raised"]
    assert farm.counters() == {"jobs.ready": 1}


def test_higher_priority_goes_first_then_the_older_job(farm):
    first = farm.add_job("a")
    second = farm.add_job("b")
    asked = farm.add_job("c", priority=Priority.REQUESTED)

    assert [farm.claim().id for _ in range(3)] == [asked, first, second]
    assert farm.claim() is None


def test_the_best_job_of_several_targets_is_claimed(farm):
    def other_target(session):
        target = TargetRow(name="cp313-linux_armv7l-debian13", created_at=NOW)
        job = session.get_one(Job, low)
        session.add(target)
        made, _ = queue.enqueue(
            session, release=job.release, target=target, sdist=job.sdist, priority=Priority.MISSED, now=NOW
        )
        return made.id

    low = farm.add_job()
    high = farm.database.write(other_target)
    both = (TARGET, "cp313-linux_armv7l-debian13", "cp39-linux_armv7l-debian11")

    assert farm.claim(targets=("cp39-linux_armv7l-debian11",)) is None
    assert farm.claim(targets=()) is None
    assert [farm.claim(targets=both).id for _ in range(2)] == [high, low]


def test_a_job_is_not_claimed_before_its_time(farm):
    job_id = farm.add_job(now=later(60))

    assert farm.claim(later(59)) is None
    assert farm.claim(later(60)).id == job_id


def test_a_lease_has_a_token_an_end_and_a_holder(farm):
    farm.add_job()
    job = farm.claim()

    assert job.state is JobState.LEASED
    assert len(job.lease_token) == 32
    assert job.lease_until_at == later(LEASE_S)
    assert (job.builder_id, job.attempts, job.leased_at) == (farm.builder_id, 1, NOW)
    assert farm.counters() == {"jobs.leased": 1}
    assert farm.events(job.id) == ["queued", "leased"]


def test_no_job_is_claimed_twice_however_many_race_for_it(farm):
    made = {farm.add_job(f"p{n}") for n in range(60)}
    with ThreadPoolExecutor(16) as pool:
        claimed = [job.id for job in pool.map(lambda _: farm.claim(), range(100)) if job]

    assert len(claimed) == 60
    assert set(claimed) == made
    assert farm.counters() == {"jobs.leased": 60}


def test_claiming_reads_one_row_of_the_index_however_long_the_queue(farm):
    farm.add_job()
    statements = []
    event.listen(
        farm.database._writing,
        "before_cursor_execute",
        lambda _c, _cur, sql, args, *_: statements.append((sql, args)),
    )
    farm.claim()
    sql, arguments = next(one for one in statements if one[0].startswith("UPDATE job"))
    with farm.database.read() as session:
        rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", arguments).all()
    plan = [row[3] for row in rows]

    assert any("USING INDEX ix_job_ready (target_id=?)" in line for line in plan), plan
    assert not any(line.startswith("SCAN job") for line in plan), plan


@pytest.mark.parametrize(
    ("token", "now", "message"),
    [("0" * 32, NOW, "another builder"), (None, later(LEASE_S), "is over"), ("é" * 16, NOW, "another")],
)
def test_a_wrong_or_late_token_is_refused(farm, token, now, message):
    farm.add_job()
    job = farm.claim()
    with pytest.raises(LeaseLostError, match=message):
        beat(farm, job, token=token, now=now)

    assert farm.job(job.id).lease_until_at == job.lease_until_at


def test_a_job_that_nobody_holds_or_nobody_knows_is_refused(farm):
    job_id = farm.add_job()
    for unknown in (job_id, 999):
        with pytest.raises(LeaseLostError, match="nobody holds"):
            farm.database.write(lambda s, unknown=unknown: queue.held(s, unknown, "x" * 32, NOW))


def test_the_token_of_an_earlier_lease_is_worth_nothing(farm):
    farm.add_job()
    old = farm.claim()
    do(farm, old.id, lambda s, job: queue.hand_back(s, job, NOW))
    new = farm.claim()

    assert new.id == old.id
    with pytest.raises(LeaseLostError, match="another builder"):
        beat(farm, old)
    beat(farm, new)


def test_a_token_ends_with_its_job(farm):
    farm.add_job()
    job = farm.claim()
    end(farm, job.id, JobState.BUILT)

    with pytest.raises(LeaseLostError):
        beat(farm, job)
    with pytest.raises(ValueError, match="no end"):
        end(farm, job.id, JobState.READY)


def test_a_heartbeat_makes_the_lease_longer_and_notes_each_step_once(farm):
    farm.add_job()
    job = farm.claim()
    for seconds, step in [(10, Step.FETCH), (20, Step.FETCH), (30, Step.BUILD)]:
        held = beat(farm, job, now=later(seconds), step=step)
        assert held.lease_until_at == later(seconds + LEASE_S)

    assert farm.events(job.id) == ["queued", "leased", "step", "step"]
    assert farm.job(job.id).step is Step.BUILD


def test_a_job_handed_back_is_ready_at_once_and_it_was_no_attempt(farm):
    job_id = farm.add_job()
    farm.claim()
    do(farm, job_id, lambda s, job: queue.hand_back(s, job, NOW))

    job = farm.job(job_id)
    assert (job.state, job.attempts, job.builder_id, job.lease_token) == (JobState.READY, 0, None, None)
    assert farm.counters() == {"jobs.ready": 1}
    assert farm.claim().id == job_id


def test_the_delay_before_another_try_doubles(farm):
    job_id = farm.add_job()
    now, delays = NOW, []
    for _ in range(3):
        assert farm.claim(now).id == job_id
        do(farm, job_id, lambda s, job, at=now: queue.retry_elsewhere(s, job, at, SETTINGS))
        delays.append((farm.job(job_id).not_before_at - now).total_seconds())
        assert farm.claim(now) is None
        now = farm.job(job_id).not_before_at

    assert delays == [60, 120, 240]


def test_the_delay_is_bounded_after_however_many_attempts(farm):
    job_id = farm.add_job()
    farm.claim()

    def change(session, job):
        job.attempts = 5000
        queue.retry_elsewhere(session, job, NOW, SETTINGS)

    do(farm, job_id, change)
    assert (farm.job(job_id).not_before_at - NOW).total_seconds() == queue.LONGEST_DELAY_S


def test_a_silent_builder_loses_its_job_and_the_loss_is_a_build(farm):
    job_id = farm.add_job()
    farm.claim()

    assert reap(farm, later(LEASE_S - 1)) == []
    assert reap(farm, later(LEASE_S)) == [job_id]
    assert reap(farm, later(LEASE_S)) == []
    job = farm.job(job_id)
    assert (job.state, job.losses) == (JobState.READY, 1)
    assert job.not_before_at == later(LEASE_S + 60)
    with farm.database.read() as session:
        build = session.scalars(select(Build)).one()
        assert (build.outcome, build.reason) == (Outcome.FAILED, FailureReason.BUILDER_LOST)
        assert (build.builder_id, build.attempt, build.duration_s) == (farm.builder_id, 1, LEASE_S)
    assert farm.events(job_id) == ["queued", "leased", "lost", "retry"]
    assert farm.counters() == {"jobs.ready": 1}


def test_a_job_that_builders_die_of_is_quarantined_and_a_person_frees_it(farm):
    job_id = farm.add_job()
    now = NOW
    for _ in range(SETTINGS.max_attempts):
        now = max(now, farm.job(job_id).not_before_at)
        farm.claim(now)
        now = farm.job(job_id).lease_until_at
        assert reap(farm, now) == [job_id]

    assert farm.job(job_id).state is JobState.QUARANTINED
    assert farm.counters() == {"jobs.quarantined": 1}
    assert farm.claim(later(10**6)) is None
    do(farm, job_id, lambda s, job: queue.requeue(s, job, now=now, why="somebody looked at it"))
    job = farm.job(job_id)
    assert (job.state, job.losses, job.attempts) == (JobState.READY, 0, 0)
    assert farm.claim(now).id == job_id


@pytest.mark.parametrize("state", [JobState.BUILT, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_ended_can_be_queued_again_and_says_why(farm, state):
    job_id = farm.add_job()
    farm.claim()
    end(farm, job_id, state)
    assert farm.counters() == {f"jobs.{state.value}": 1}
    do(
        farm,
        job_id,
        lambda s, job: queue.requeue(s, job, now=NOW, why="new compiler", priority=Priority.REQUESTED),
    )

    assert farm.counters() == {"jobs.ready": 1}
    assert farm.job(job_id).priority == Priority.REQUESTED
    with farm.database.read() as session:
        found = session.scalars(select(Event).where(Event.kind == "requeued")).one()
        assert found.detail == {"why": "new compiler", "after": state.value}


def test_a_job_that_a_builder_holds_is_left_to_it(farm):
    job_id = farm.add_job()
    job = farm.claim()
    do(farm, job_id, lambda s, job: queue.requeue(s, job, now=NOW, why="impatience"))

    beat(farm, job)
    assert farm.counters() == {"jobs.leased": 1}


def test_a_change_that_fails_leaves_state_counters_and_events_as_they_were(farm):
    job_id = farm.add_job()
    farm.claim()

    def change(session, job):
        queue.finish(session, job, state=JobState.FAILED, now=NOW)
        session.add(Event(job_id=10**6, at=NOW, kind="x", detail={}))

    with pytest.raises(IntegrityError):
        do(farm, job_id, change)
    assert farm.job(job_id).state is JobState.LEASED
    assert farm.counters() == {"jobs.leased": 1}
    assert farm.events(job_id) == ["queued", "leased"]
