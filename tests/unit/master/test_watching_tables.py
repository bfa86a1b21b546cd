# SPDX-License-Identifier: BSD-3-Clause
"""What screens are shown of tables that are larger than one look: bounds, lanes, days, what is forgotten."""

from __future__ import annotations

from collections import Counter as Bag
from datetime import date, timedelta

import pytest
from fix_database import NOW, TARGET, later
from sqlalchemy import event, func, insert, select

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Priority
from piwheels_node.core.messages import RetryRequest
from piwheels_node.master.database.models import (
    Build,
    Builder,
    BuilderCount,
    HourCount,
    Job,
    PypiProject,
)
from piwheels_node.master.jobs import history, queue
from piwheels_node.master.reports import Period
from piwheels_node.master.watching import builds, farm, lanes, projects, retrying, statistics
from piwheels_node.master.watching.builds import Wanted


@pytest.fixture
def ask(tables):
    """Reads with one of the functions under test."""

    def ask(view, *args):
        with tables.database.read() as session:
            return view(session, *args)

    return ask


def add_builds(tables, reasons, *, builder_ids=None):
    """One build for each reason, None being a wheel; gives their numbers."""
    jobs = [tables.add_job(f"p{number}") for number in range(len(reasons))]

    def work(session):
        rows = [
            {
                "job_id": job_id,
                "builder_id": (builder_ids or [tables.builder_id])[number % len(builder_ids or [0])],
                "attempt": 1,
                "started_at": later(number),
                "duration_s": 1.0,
                "outcome": Outcome.FAILED if reason else Outcome.BUILT,
                "reason": reason,
            }
            for number, (job_id, reason) in enumerate(zip(jobs, reasons, strict=True))
        ]
        session.execute(insert(Build), rows)
        return list(session.scalars(select(Build.id).order_by(Build.id)))

    return tables.database.write(work)


def test_pages_go_on_behind_what_was_looked_through_until_all_are_found(tables, ask, monkeypatch):
    monkeypatch.setattr(builds, "LOOK_BACK", 4)
    timeout, silent = FailureReason.TIMEOUT, FailureReason.SILENT
    ids = add_builds(tables, [timeout, None, None, silent, None, None, None, None, None, timeout, None])
    wanted = Wanted(target=TARGET, reason=timeout, outcome=Outcome.FAILED)
    rare = Wanted(target=TARGET, outcome=Outcome.BUILT)

    def walk(wanted, limit):
        found, before, pages = [], None, 0
        while pages == 0 or before is not None:
            page = ask(builds.page, wanted, before, limit)
            assert len(page.builds) <= limit
            found += [one.build_id for one in page.builds]
            before, pages = page.before, pages + 1
            assert pages < 20
        return found

    assert walk(wanted, 50) == [ids[9], ids[0]]
    assert walk(Wanted(builder="pi", reason=silent), 2) == [ids[3]]
    assert walk(rare, 2) == [ids[n] for n in (10, 8, 7, 6, 5, 4, 2, 1)]
    assert walk(Wanted(), 3) == ids[::-1]
    assert walk(Wanted(project="p3", target=TARGET), 50) == [ids[3]]


def test_the_home_screen_takes_as_many_questions_for_300_builders_as_for_one(tables):
    def questions(view):
        seen = []
        with tables.database.read() as session:
            engine = session.get_bind()

            def note(*told):
                seen.append(told[2])

            event.listen(engine, "before_cursor_execute", note)
            try:
                found = view(session)
            finally:
                event.remove(engine, "before_cursor_execute", note)
        return len(seen), found

    few, _ = questions(lambda session: farm.farm(session, None, NOW))
    tables.database.write(
        lambda session: session.execute(
            insert(Builder),
            [{"name": f"pi-{one:03}", "created_at": NOW, "last_seen_at": NOW} for one in range(300)],
        )
    )
    many, found = questions(lambda session: farm.farm(session, None, NOW))

    assert few == many
    assert (found.builders, found.builders_up) == (301, 300)
    with tables.database.read() as session:
        rows = farm.builder_rows(session, NOW)
    assert [row.name for row in rows] == sorted(row.name for row in rows)
    assert len(rows) == 301


def test_lanes_are_counted_and_served_in_order_over_all_memory_classes_and_layers(tables, ask, monkeypatch):
    one = tables.add_job("backlog")
    two = tables.add_job("large", priority=Priority.REQUESTED, memory_class=3)
    three = tables.add_job("layers", priority=Priority.REQUESTED, packages=["libffi-dev"])
    four = tables.add_job("between", priority=150)

    view = ask(lanes.queue, 10)

    assert [(lane.priority, lane.jobs) for lane in view.lanes] == [
        (Priority.REQUESTED, 2),
        (Priority.RELEASED, 1),
        (Priority.BACKLOG, 1),
    ]
    assert [job.job_id for job in view.ready[TARGET]] == [two, three, four, one]
    assert [job.packages for job in view.ready[TARGET]] == [[], ["libffi-dev"], [], []]
    assert [job.memory_class for job in view.ready[TARGET]] == [3, 0, 0, 0]
    assert [job.job_id for job in ask(lanes.ready_of, TARGET, Priority.RELEASED, 10)] == [four]
    assert [job.job_id for job in ask(lanes.ready_of, TARGET, Priority.BACKLOG, 10)] == [one]
    monkeypatch.setattr(lanes, "COUNTED", 3)
    assert [lane.is_whole for lane in ask(lanes.queue, 10).lanes] == [True, False, False]


def test_what_waits_says_for_what(tables, ask):
    late, soon = tables.add_job("late"), tables.add_job("soon")
    needs, needed = tables.add_job("needs"), tables.add_job("needed")

    def work(session):
        for job_id, seconds in ((late, 600), (soon, 60)):
            job = session.get_one(Job, job_id)
            history.recount(session, job.target_id, job.state, JobState.DELAYED)
            job.state, job.not_before_at = JobState.DELAYED, later(seconds)
        job = session.get_one(Job, needs)
        history.recount(session, job.target_id, job.state, JobState.BLOCKED)
        job.state, job.blocked_on_id = JobState.BLOCKED, needed
        session.add(
            Build(
                job_id=soon,
                builder_id=tables.builder_id,
                attempt=1,
                started_at=NOW,
                duration_s=1.0,
                outcome=Outcome.FAILED,
                reason=FailureReason.FETCH_FAILED,
            )
        )

    tables.database.write(work)
    view = ask(lanes.queue, 10)

    assert [(job.job_id, job.not_before_at) for job in view.delayed] == [
        (soon, later(60)),
        (late, later(600)),
    ]
    assert [job.reason for job in view.delayed] == [FailureReason.FETCH_FAILED, None]
    assert [(job.blocked_on, job.blocked_on_project) for job in view.blocked] == [(needed, "needed")]
    assert (view.counts["delayed"], view.counts["blocked"], view.counts["ready"]) == (2, 1, 1)


def test_builds_are_counted_by_the_hour_day_and_builder_on_which_they_ended(tables, ask):
    other = tables.add_builder()

    def work(session):
        for seconds, builder_id, reason in (
            (0, tables.builder_id, None),
            (3599, tables.builder_id, FailureReason.TIMEOUT),
            (3600, other, None),
            (12 * 3600, other, FailureReason.TIMEOUT),
        ):
            history.count_build(
                session,
                later(seconds),
                target_id=tables.target_id,
                builder_id=builder_id,
                reason=reason,
                build_id=None,
            )

    tables.database.write(work)
    now = later(12 * 3600)  # midnight

    hours = {one.begins_at: (one.built, one.failed) for one in ask(statistics.hours, 24, now)}
    assert {at: many for at, many in hours.items() if any(many)} == {
        NOW: (1, 1),
        later(3600): (1, 0),
        now: (0, 1),
    }
    today = NOW.date()
    period = Period(today, today + timedelta(days=1))
    days = ask(statistics.over_days, period, None)
    assert [(one.day, one.built, one.failed) for one in days.days] == [
        (today, 2, 1),
        (today + timedelta(days=1), 0, 1),
    ]
    assert [one.builds for one in days.reasons] == [[1, 1]]
    assert ask(statistics.over_days, period, "cp39-linux_armv7l-debian11").reasons == []
    found = {
        one.builder: (one.built, one.failed)
        for one in ask(statistics.over_builders, period, None, 9).builders
    }
    assert found["pi"] == ([1, 0], [1, 0])
    assert sorted(found.values()) == [([1, 0], [0, 1]), ([1, 0], [1, 0])]
    assert len(ask(statistics.over_builders, period, None, 1).builders) == 1


def test_what_no_question_reaches_any_more_is_forgotten(tables, ask):
    days = (0, 30, 32, 399, 402)

    def work(session):
        for back in days:
            at = NOW - timedelta(days=back)
            history.count_build(
                session,
                at,
                target_id=tables.target_id,
                builder_id=tables.builder_id,
                reason=None,
                build_id=None,
            )

    tables.database.write(work)
    tables.database.write(lambda session: statistics.prune(session, NOW))

    count = lambda model: lambda session: session.scalar(select(func.count()).select_from(model))  # noqa: E731
    assert ask(count(HourCount)) == 2
    assert ask(count(BuilderCount)) == 4
    longest = Period(NOW.date() - timedelta(days=399), NOW.date())
    assert sum(ask(statistics.over_builders, longest, None, 9).builders[0].built) == 4
    assert sum(one.built for one in ask(statistics.hours, statistics.MOST_HOURS, NOW)) == 2


@pytest.mark.parametrize(
    ("filename", "abi", "platform"),
    [
        ("p-1-py3-none-any.whl", "none", "any"),
        ("p-1-py2.py3-none-any.whl", "none", "any"),
        ("p-1-2-cp311-cp311-linux_armv6l.linux_armv7l.whl", "cp311", "linux_armv6l.linux_armv7l"),
        ("p-1-cp38-abi3-linux_aarch64.whl", "abi3", "linux_aarch64"),
        ("p-1-cp313-cp313t-linux_armv7l.whl", "cp313t", "linux_armv7l"),
        (
            "p-1-cp311-cp311.evil_tag-linux_armv7l.manylinux_2_99999_armv7l.whl",
            "cp311.other",
            "linux_armv7l.other",
        ),
        ("p-1-cp311-cp31.cp32.cp33.cp34-linux_armv7l.whl", "other", "linux_armv7l"),
    ],
)
def test_wheels_are_counted_by_few_words_and_taken_away_by_the_same(tables, ask, filename, abi, platform):
    tables.database.write(lambda session: history.count_wheel(session, filename, 10, 1))
    period = Period(date(2026, 1, 1), date(2026, 1, 1))

    found = ask(statistics.over_days, period, None)
    assert (found.wheels_by_abi, found.wheels_by_platform) == ({abi: 1}, {platform: 1})
    tables.database.write(lambda session: history.count_wheel(session, filename, 10, -1))
    found = ask(statistics.over_days, period, None)
    assert (found.wheels_by_abi, found.wheels_by_platform) == ({}, {})


def test_projects_are_searched_in_what_pypi_has_by_bytes_and_with_a_bound(tables, ask):
    names = ["numpy", "numpy-stl", "numpydoc", "my-numpy", "n-umpy", "gone"]

    def work(session):
        for name in names:
            status = "deleted" if name == "gone" else "active"
            session.add(PypiProject(name=name, status=status, newest_at=NOW, read_at=NOW, popularity=None))

    tables.database.write(work)
    tables.add_job("numpy")

    found = ask(projects.search, "numpy", 10)
    assert [one.name for one in found] == ["numpy", "numpy-stl", "numpydoc", "my-numpy"]
    assert [(one.is_known, one.is_on_pypi) for one in found[:2]] == [(True, True), (False, True)]
    assert [one.name for one in ask(projects.search, "num", 2)] == ["numpy", "numpy-stl"]
    assert [one.name for one in ask(projects.search, "umpy", 10)] == [
        "my-numpy",
        "n-umpy",
        "numpy",
        "numpy-stl",
        "numpydoc",
    ]
    assert ask(projects.search, "um", 10) == ask(projects.search, "  ", 10) == []
    assert [(one.is_on_pypi, one.newest_at) for one in ask(projects.search, "gone", 10)] == [(False, NOW)]
    assert ask(projects.search, "%", 10) == ask(projects.search, "num_y", 10) == []


def test_a_thousand_failed_jobs_are_tried_again_in_pieces(tables, ask, monkeypatch):
    monkeypatch.setattr(retrying, "AT_ONCE", 2)
    jobs = [tables.add_job(f"p{number}") for number in range(5)]
    for _ in jobs:
        claimed = tables.claim()

        def fail(session, claimed=claimed):
            queue.add_build(
                session,
                job_id=claimed.id,
                builder_id=tables.builder_id,
                attempt=1,
                started_at=NOW,
                duration_s=1.0,
                outcome=Outcome.FAILED,
                reason=FailureReason.TIMEOUT,
            )
            job = queue.held(session, claimed.id, claimed.lease_token, NOW)
            queue.finish(session, job, state=JobState.FAILED, now=NOW)

        tables.database.write(fail)
    wanted = RetryRequest()

    def again():
        return tables.database.write(
            lambda session: retrying.retry_failed(session, FailureReason.TIMEOUT, wanted, NOW)
        )

    assert [again() for _ in range(4)] == [2, 2, 1, 0]
    assert Bag(tables.job(job_id).state for job_id in jobs) == {JobState.READY: 5}
    assert tables.counters()["jobs.ready"] == 5
    assert ask(retrying.are_all_seen, FailureReason.TIMEOUT)
    monkeypatch.setattr(retrying, "LOOK_BACK", 5)
    assert not ask(retrying.are_all_seen, FailureReason.TIMEOUT)
