# SPDX-License-Identifier: BSD-3-Clause
"""The report over all builds: counted as they end, by day and target; compared with the days before."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from fix_database import NOW, TARGET, later
from sqlalchemy import select, text

from piwheels_node.core.errors import UsageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome
from piwheels_node.core.messages import Limits, Report
from piwheels_node.core.settings import MasterSettings
from piwheels_node.master import reports
from piwheels_node.master.database.models import BuildCount
from piwheels_node.master.jobs import queue
from piwheels_node.master.reports import Period, Scope
from piwheels_node.master.wheels import publish
from piwheels_node.master.wheels.store import WheelStore

TODAY = NOW.date()
WEEK = Period(TODAY - timedelta(days=6), TODAY)
SETTINGS = MasterSettings(max_attempts=3, retry_delay_s=1.0)
DAY = 86400


@pytest.fixture
def fail(tables, tmp_path):
    """Build a release, which fails for a reason; gives the job's number."""
    store = WheelStore(tmp_path / "store")

    def work(name: str, reason: FailureReason, *, seconds: float = 0, captured: str | None = None) -> int:
        now = later(seconds)
        tables.add_job(name, f"1.{abs(seconds)}", now=now)
        claimed = tables.claim(now=now)
        publish.accept(
            tables.database,
            store,
            job_id=claimed.id,
            token=claimed.lease_token,
            report=Report(
                token=claimed.lease_token,
                outcome=Outcome.FAILED,
                reason=reason,
                captured=captured,
                evidence=f"error: {reason}",
                evidence_line=7,
                duration_s=2,
                written_bytes=12345,
            ),
            limits=Limits(),
            settings=SETTINGS,
            clock=lambda: now,
        )
        return claimed.id

    return work


def report(tables, period=WEEK, **scope):
    with tables.database.read() as session:
        return reports.failures(session, period, Scope(**scope))


def test_reasons_are_counted_and_compared_with_the_days_before(tables, fail):
    fail("old", FailureReason.MISSING_HEADER, seconds=-8 * DAY)
    fail("older", FailureReason.BAD_METADATA, seconds=-9 * DAY)
    fail("ancient", FailureReason.MISSING_HEADER, seconds=-20 * DAY)
    fail("one", FailureReason.MISSING_HEADER, captured="ffi.h")
    fail("two", FailureReason.MISSING_HEADER, seconds=-DAY, captured="x.h")
    newest = fail("three", FailureReason.MISSING_HEADER, seconds=60, captured="cups/http.h")
    fail("four", FailureReason.COMPILER_ERROR)

    found = report(tables)

    assert (found.built, found.failed, found.built_before, found.failed_before) == (0, 4, 0, 2)
    assert [(one.reason.value, one.builds, one.share, one.before) for one in found.reasons] == [
        ("missing-header", 3, 0.75, 1),
        ("compiler-error", 1, 0.25, 0),
        ("bad-metadata", 0, 0.0, 1),
    ]
    example = found.reasons[0].newest
    assert (example.job_id, example.project, example.captured) == (newest, "three", "cups/http.h")
    assert (example.evidence, example.evidence_line) == ("error: missing-header", 7)
    assert example.debian_package == "libcups2-dev"
    assert found.reasons[-1].newest is None


def test_one_target_and_one_project_are_told_apart(tables, fail):
    fail("one", FailureReason.MISSING_HEADER)
    fail("one", FailureReason.COMPILER_ERROR, seconds=5)
    fail("one", FailureReason.COMPILER_ERROR, seconds=-8 * DAY)
    fail("two", FailureReason.COMPILER_ERROR, seconds=9)

    assert report(tables, target=TARGET).failed == 3
    assert report(tables, target="cp313-linux_armv7l-debian13").reasons == []
    of_one = report(tables, project="one")
    assert [(one.reason.value, one.builds, one.before) for one in of_one.reasons] == [
        ("compiler-error", 1, 1),
        ("missing-header", 1, 0),
    ]
    assert of_one.is_whole
    assert report(tables, project="one", target="cp313-linux_armv7l-debian13").failed == 0
    assert report(tables, project="nobody").failed == 0


def test_lost_builders_are_counted_and_an_example_is_found(tables):
    tables.add_job("deadly")
    claimed = tables.claim()
    now = later(DAY)
    tables.database.write(lambda session: queue.reap(session, now, SETTINGS))

    [lost] = report(tables, Period(now.date(), now.date())).reasons
    assert (lost.reason, lost.builds, lost.before) == (FailureReason.BUILDER_LOST, 1, 0)
    assert lost.newest is None  # it began the day before
    [lost] = report(tables, Period(TODAY, now.date())).reasons
    assert lost.newest.job_id == claimed.id


def test_builds_of_a_reason_come_newest_first_and_in_pages(tables, fail):
    for number in range(5):
        fail(f"p{number}", FailureReason.MISSING_TOOL, seconds=number)
    fail("else", FailureReason.TIMEOUT, seconds=9)

    def page(before, limit=2, **scope):
        with tables.database.read() as session:
            return reports.failed_builds(session, FailureReason.MISSING_TOOL, Scope(**scope), before, limit)

    first = page(None)
    second = page(first[-1].build_id)
    assert [one.project for one in [*first, *second]] == ["p4", "p3", "p2", "p1"]
    assert [one.project for one in page(None, project="p2")] == ["p2"]
    assert [one.project for one in page(None, 9, target=TARGET)] == ["p4", "p3", "p2", "p1", "p0"]
    assert page(None, target="cp39-linux_x86_64-debian11") == []


def test_the_counts_are_those_of_the_builds_themselves(tables, fail):
    fail("one", FailureReason.TIMEOUT)
    fail("two", FailureReason.TIMEOUT, seconds=1)
    fail("three", FailureReason.SILENT, seconds=-DAY)

    with tables.database.read() as session:
        counted = session.execute(
            select(BuildCount.day, BuildCount.result, BuildCount.builds, BuildCount.newest_build_id)
        ).all()
        rows = session.execute(text("SELECT id, reason, written_bytes FROM build ORDER BY id")).all()
    assert sorted(map(tuple, counted)) == [
        (str(TODAY - timedelta(days=1)), "silent", 1, rows[2].id),
        (str(TODAY), "timeout", 2, rows[1].id),
    ]
    assert {row.written_bytes for row in rows} == {12345}


@pytest.mark.parametrize("scope", [Scope(), Scope(target=TARGET)])
def test_the_report_reads_the_counts_of_its_days_and_no_build(sqlite_database, scope):
    with sqlite_database.read() as session:
        query = reports._counts(WEEK, scope).compile(session.bind, compile_kwargs={"literal_binds": True})
        plan = [row.detail for row in session.execute(text(f"EXPLAIN QUERY PLAN {query}"))]

    assert [line for line in plan if line.startswith("SEARCH build_count USING")]
    assert not [line for line in plan if line.startswith("SCAN") or " build " in line]


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (date(2026, 11, 23), date(2026, 11, 22)),
        (date(2024, 1, 1), date(2026, 11, 22)),
        (date(1, 1, 1), date(1, 1, 2)),
    ],
)
def test_a_period_that_is_none_or_too_long_is_refused(tables, since, until):
    with pytest.raises(UsageError):
        report(tables, Period(since, until))
