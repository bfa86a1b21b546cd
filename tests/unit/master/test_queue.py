# SPDX-License-Identifier: BSD-3-Clause
"""The queue: who gets which job, who may speak for it, and what becomes of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from fix_database import LEASE_S, NOW, TARGET, later
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from piwheels_node.core.errors import LeaseLostError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Priority, Step
from piwheels_node.core.settings import MasterSettings
from piwheels_node.master.database.models import Build, Event, Job, JobAvoidance, TargetRow
from piwheels_node.master.jobs import queue, rows

SETTINGS = MasterSettings(retry_delay_s=60.0, max_attempts=3)


def do(tables, job_id, change):
    """Run `change(session, job)` as one piece of work."""
    return tables.database.write(lambda session: change(session, session.get_one(Job, job_id)))


def beat(tables, job, *, token=None, now=NOW, step=Step.FETCH):
    return tables.database.write(
        lambda s: queue.heartbeat(s, job.id, token or job.lease_token, tables.builder_id, step, now, LEASE_S)
    )


def wake(tables, now):
    return tables.database.write(lambda session: queue.wake(session, now))


def reap(tables, now):
    return tables.database.write(lambda session: queue.reap(session, now, SETTINGS))


def one_ready(tables):
    return {"jobs.ready": 1, f"jobs.ready.{tables.target_id}": 1}


def end(tables, job_id, state):
    do(tables, job_id, lambda s, job: queue.finish(s, job, state=state, now=NOW))


def test_a_new_job_is_ready_and_counted(tables):
    job = tables.job(tables.add_job())

    assert job.state is JobState.READY
    assert tables.counters() == one_ready(tables)
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
    assert tables.counters() == one_ready(tables)


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


@pytest.mark.parametrize(("layers", "probed"), [((False, False), 5), ((True, False), 7), ((True, True), 9)])
def test_claiming_probes_the_index_once_for_each_lane_however_long_the_queue(tables, layers, probed):
    """Two targets and two memory classes are four probes, or more with layers; one more takes the row."""
    values = {"target_0": TARGET, "target_1": "x", "builder": 1, "token": "t", "at": NOW, "until": NOW}
    plan = explained(tables, rows.claim(layers, (0, 1)), values)

    probes = [line for line in plan if "ix_job_ready" in line]
    assert len(probes) == probed, plan
    assert not any("SCAN job" in line or "Seq Scan on job" in line for line in plan), plan


def test_every_statement_that_runs_often_finds_its_rows_by_an_index(tables):
    for statement, values, index in [
        (rows.LOCK, {"job": 1}, "pk_job"),
        (rows.WAKE, {"at": NOW, "most": 200}, "ix_job_delayed"),
        (rows.OVERDUE, {"at": NOW, "most": 200}, "ix_job_leased"),
        (rows.HELD_BY, {"builder": 1, "most": 200}, "ix_job_leased"),
    ]:
        plan = explained(tables, statement, values)
        names = {index, "INTEGER PRIMARY KEY"} if index == "pk_job" else {index}
        assert any(name in line for line in plan for name in names), plan


def is_postgres(tables):
    return tables.database._writing.dialect.name == "postgresql"


def explained(tables, statement, values):
    """The lines of the plan, where PostgreSQL may think that tables are large."""

    def work(session):
        compiled = statement.on(session.connection().dialect)
        cursor = session.connection().connection.driver_connection.cursor()
        if is_postgres(tables):
            for way in ("seqscan", "sort", "bitmapscan"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
        word = "EXPLAIN" if is_postgres(tables) else "EXPLAIN QUERY PLAN"
        cursor.execute(f"{word} {compiled.text}", compiled.arguments(values))
        return [str(row[-1]) for row in cursor.fetchall()]

    return tables.database.write(work)


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
        beat(tables, job, now=later(seconds), step=step)
        assert tables.job(job.id).lease_until_at == later(seconds + LEASE_S)

    assert tables.events(job.id) == ["queued", "leased", "step", "step"]
    assert tables.job(job.id).step is Step.BUILD


def test_a_heartbeat_that_was_held_up_on_its_way_takes_nothing_back(tables):
    tables.add_job()
    job = tables.claim()
    beat(tables, job, now=later(20), step=Step.BUILD)
    beat(tables, job, now=later(10), step=Step.FETCH)

    assert tables.job(job.id).lease_until_at == later(20 + LEASE_S)
    assert tables.job(job.id).step is Step.BUILD
    assert tables.events(job.id) == ["queued", "leased", "step"]


def test_a_job_handed_back_is_ready_at_once_and_it_was_no_attempt(tables):
    job_id = tables.add_job()
    tables.claim()
    do(tables, job_id, lambda s, job: queue.hand_back(s, job, NOW))

    job = tables.job(job_id)
    assert (job.state, job.attempts, job.builder_id, job.lease_token) == (JobState.READY, 0, None, None)
    assert tables.counters() == one_ready(tables)
    assert tables.claim().id == job_id


def test_the_delay_before_another_try_doubles(tables):
    job_id = tables.add_job()
    now, delays = NOW, []
    for _ in range(3):
        assert tables.claim(now, builder_id=tables.add_builder()).id == job_id
        do(tables, job_id, lambda s, job, at=now: queue.retry_elsewhere(s, job, at, SETTINGS))
        delays.append((tables.job(job_id).not_before_at - now).total_seconds())
        now = tables.job(job_id).not_before_at
        assert wake(tables, now - timedelta(seconds=1)) == 0
        assert tables.claim(now, builder_id=tables.add_builder()) is None
        assert wake(tables, now) == 1

    assert delays == [60, 120, 240]
    assert tables.events(job_id)[-4:] == ["awake", "leased", "retry", "awake"]
    assert tables.counters() == one_ready(tables)


def test_the_builder_that_failed_avoids_the_job_four_times_as_long_and_others_have_it(tables):
    job_id, other = tables.add_job(), tables.add_builder()
    tables.claim()
    do(tables, job_id, lambda s, job: queue.retry_elsewhere(s, job, NOW, SETTINGS))
    wake(tables, later(60))

    assert tables.claim(later(239)) is None
    assert tables.claim(later(239), builder_id=other).id == job_id
    do(tables, job_id, lambda s, job: queue.hand_back(s, job, later(239)))
    assert tables.claim(later(240)).id == job_id


def test_who_avoided_a_job_is_forgotten_when_it_ends(tables):
    job_id, other = tables.add_job(), tables.add_builder()
    tables.claim()
    do(tables, job_id, lambda s, job: queue.retry_elsewhere(s, job, NOW, SETTINGS))
    wake(tables, later(60))
    tables.claim(later(60), builder_id=other)
    end(tables, job_id, JobState.BUILT)

    with tables.database.read() as session:
        assert session.scalars(select(JobAvoidance)).all() == []


def test_who_refused_a_job_is_forgotten_when_another_builds_it_at_its_first_attempt(tables):
    job_id, other = tables.add_job(), tables.add_builder()
    tables.claim()
    do(tables, job_id, lambda s, job: queue.refuse(s, job, tables.builder_id, "no", NOW, SETTINGS))
    tables.claim(builder_id=other)
    end(tables, job_id, JobState.BUILT)

    with tables.database.read() as session:
        assert session.scalars(select(JobAvoidance)).all() == []


def test_a_job_that_is_avoided_hides_no_other_one(tables):
    first, second = tables.add_job("a", priority=Priority.REQUESTED), tables.add_job("b")
    tables.claim()
    do(tables, first, lambda s, job: queue.refuse(s, job, tables.builder_id, "no", NOW, SETTINGS))

    assert tables.claim().id == second


def test_waking_is_bounded_and_begins_with_what_waits_longest(tables, monkeypatch):
    monkeypatch.setattr(queue, "_AT_ONCE", 2)
    made = [tables.add_job(f"p{n}") for n in range(3)]
    for n, job_id in enumerate(made):
        tables.claim()
        do(tables, job_id, lambda s, job, n=n: queue.retry_elsewhere(s, job, later(-n), SETTINGS))

    assert wake(tables, later(60)) == 2
    assert [tables.job(job_id).state.value for job_id in made] == ["delayed", "ready", "ready"]
    assert wake(tables, later(60)) == 1


def test_a_refused_job_is_ready_at_once_for_others_and_it_was_no_attempt(tables):
    job_id, other = tables.add_job(), tables.add_builder()
    tables.claim()
    do(tables, job_id, lambda s, job: queue.refuse(s, job, tables.builder_id, "too big", NOW, SETTINGS))

    job = tables.job(job_id)
    assert (job.state, job.attempts, job.builder_id, job.lease_token) == (JobState.READY, 0, None, None)
    assert tables.claim(later(3599)) is None
    assert tables.claim(later(3599), builder_id=other).id == job_id
    with tables.database.read() as session:
        found = session.scalars(select(Event).where(Event.kind == "refused")).one()
        assert found.detail == {"builder": tables.builder_id, "what": "too big"}


def test_a_refusal_of_the_same_job_again_counts_from_then(tables):
    job_id = tables.add_job()
    for at in (0, 3600):
        tables.claim(later(at))
        do(
            tables,
            job_id,
            lambda s, job, at=at: queue.refuse(s, job, tables.builder_id, "no", later(at), SETTINGS),
        )

    assert tables.claim(later(7199)) is None
    assert tables.claim(later(7200)).id == job_id


@pytest.mark.parametrize(
    ("memory_bytes", "fits"),
    [(None, [0]), (1 << 30, [0, 1]), (4 << 30, [0, 1, 2, 3]), (16 << 30, [0, 1, 2, 3, 5])],
)
def test_a_builder_gets_only_jobs_that_fit_its_memory(tables, memory_bytes, fits):
    made = {tables.add_job(f"p{number}", memory_class=number): number for number in (5, 3, 2, 1, 0)}

    claimed = [job.id for job in iter(lambda: tables.claim(memory_bytes=memory_bytes), None)]
    assert sorted(made[job_id] for job_id in claimed) == fits
    assert claimed == sorted(claimed), "of the same priority, the older one goes first over all lanes"


@pytest.mark.parametrize("how", ["ready", "leased", "delayed"])
def test_a_cancelled_job_is_gone_whoever_held_it(tables, how):
    job_id = tables.add_job()
    held = None if how == "ready" else tables.claim()
    if how == "delayed":
        do(tables, job_id, lambda s, job: queue.retry_elsewhere(s, job, NOW, SETTINGS))

    assert do(tables, job_id, lambda s, job: queue.cancel(s, job, NOW, who="somebody"))
    assert not do(tables, job_id, lambda s, job: queue.cancel(s, job, NOW))
    job = tables.job(job_id)
    assert (job.state, job.lease_token, job.builder_id) == (JobState.CANCELLED, None, None)
    assert tables.counters() == {"jobs.cancelled": 1}
    assert tables.events(job_id).count("cancelled") == 1
    assert tables.claim(later(10**6)) is None
    if held is not None:
        with pytest.raises(LeaseLostError):
            beat(tables, held)


def test_a_delayed_job_that_is_asked_for_is_ready_now(tables):
    job_id = tables.add_job()
    tables.claim()
    do(tables, job_id, lambda s, job: queue.retry_elsewhere(s, job, NOW, SETTINGS))
    do(tables, job_id, lambda s, job: queue.requeue(s, job, now=NOW, why="asked for"))

    assert tables.claim(builder_id=tables.add_builder()).id == job_id


def test_each_job_that_becomes_ready_is_announced_once_it_is_committed(tables):
    heard = []
    tables.database.subscribe(lambda topic: heard.append((topic, tables.counters().get("jobs.ready", 0))))
    topic = f"ready:{TARGET}"

    job_id = tables.add_job()
    tables.add_job("other")
    assert heard == [(topic, 1), (topic, 2)]
    tables.claim()
    do(tables, job_id, lambda s, job: queue.retry_elsewhere(s, job, NOW, SETTINGS))
    assert len(heard) == 2
    wake(tables, later(60))
    assert heard[2:] == [(topic, 2)]

    def work(session):
        queue.announce(session, "orders")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        tables.database.write(work)
    assert len(heard) == 3


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
    assert (job.state, job.losses) == (JobState.DELAYED, 1)
    assert job.not_before_at == later(LEASE_S + 60)
    with tables.database.read() as session:
        build = session.scalars(select(Build)).one()
        assert (build.outcome, build.reason) == (Outcome.FAILED, FailureReason.BUILDER_LOST)
        assert (build.builder_id, build.attempt, build.duration_s) == (tables.builder_id, 1, LEASE_S)
    assert tables.events(job_id) == ["queued", "leased", "lost", "retry"]
    assert tables.counters() == {"jobs.delayed": 1}


def test_a_job_that_builders_die_of_is_quarantined_and_a_person_frees_it(tables):
    job_id = tables.add_job()
    now = NOW
    for _ in range(SETTINGS.max_attempts):
        now = max(now, tables.job(job_id).not_before_at)
        wake(tables, now)
        tables.claim(now, builder_id=tables.add_builder())
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

    assert tables.counters() == one_ready(tables)
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


def test_a_job_that_needs_packages_is_only_for_who_can_add_them(tables):
    needs = tables.add_job("needs", priority=Priority.REQUESTED, packages=("libffi-dev",))
    plain = tables.add_job("plain")

    assert tables.claim().id == plain
    assert tables.claim() is None
    assert tables.claim(layers={"cp313-linux_x86_64-debian13"}) is None
    taken = tables.claim(layers={TARGET})
    assert (taken.id, taken.packages) == (needs, ["libffi-dev"])


def test_who_can_add_packages_gets_the_best_job_whether_it_needs_any_or_not(tables):
    jobs = [
        tables.add_job("low", packages=("libffi-dev",)),
        tables.add_job("high", priority=Priority.REQUESTED),
        tables.add_job("middle", priority=Priority.RELEASED, packages=("libffi-dev",)),
    ]

    assert [tables.claim(layers={TARGET}).id for _ in jobs] == [jobs[1], jobs[2], jobs[0]]


def test_what_a_waiting_job_needs_can_change_and_who_waits_is_told(tables):
    job_id, told = tables.add_job(), []
    tables.database.subscribe(told.append)

    assert do(tables, job_id, lambda s, job: queue.equip(s, job, ["libffi-dev"]))
    assert not do(tables, job_id, lambda s, job: queue.equip(s, job, ["libffi-dev"]))

    assert tables.claim() is None
    assert f"ready:{TARGET}" in told
    assert tables.claim(layers={TARGET}).packages == ["libffi-dev"]
    assert not do(tables, job_id, lambda s, job: queue.equip(s, job, []))


def test_a_job_that_is_mended_comes_back_at_once_from_the_start(tables):
    job_id = tables.add_job()
    tables.claim()

    do(tables, job_id, lambda s, job: queue.fix(s, job, ["libffi-dev"], NOW, why="test"))

    job = tables.job(job_id)
    assert (job.state, job.attempts, job.rounds, job.needs_layers) == (JobState.READY, 0, 1, True)
    assert tables.counters() == one_ready(tables)
    assert tables.events(job_id) == ["queued", "leased", "fixing"]
