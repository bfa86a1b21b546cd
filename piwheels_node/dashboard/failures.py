# SPDX-License-Identifier: BSD-3-Clause
"""Why builds failed: by reason, then by project, then build by build, over a range of days.

    about ""                      reasons
    about "missing-header"        the projects that failed for it
    about "missing-header/lxml"   their builds

This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from piwheels_node.client.port import Watched
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages import FailedBuild, FailureReport, ReasonCount
from piwheels_node.dashboard.charts import bar
from piwheels_node.dashboard.ended import Ended
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.words import Cell, Line, Role, ago, number, share, short_target

RANGES_DAYS = (1, 7, 30, 90, 365)
"""The ranges of time that can be looked at: whole days, today included."""

_MOST_BUILDS = 500
_REASONS = {reason.value: reason for reason in FailureReason}
_BAR = 12


@dataclass(frozen=True)
class About:
    """What the page is about."""

    reason: FailureReason | None = None
    project: str | None = None

    @classmethod
    def of(cls, about: str) -> About:
        """Read the second part of a place; a reason that nobody knows is none."""
        reason, _, project = about.partition("/")
        found = _REASONS.get(reason)
        return cls(found, project if found and project else None)


@dataclass(frozen=True)
class FailuresSight:
    """Failures as they were seen at a moment."""

    report: FailureReport
    at: datetime
    builds: tuple[FailedBuild, ...] = ()
    is_whole: bool = True
    "False where only the newest of the builds are there."


@dataclass(frozen=True)
class ProjectFailures:
    """How often builds of one project failed for one reason."""

    project: str
    builds: int
    newest: FailedBuild
    at: datetime


def look_at(master: Watched, about: About, days: int, now: datetime | None = None) -> FailuresSight:
    """Ask for the report of so many days, and for the builds behind one number of it."""
    now = now or datetime.now(UTC)
    since = now.date() - timedelta(days=days - 1)
    report = master.failures(since, now.date(), project=about.project)
    if about.reason is None:
        return FailuresSight(report, now)
    found = master.failed_builds(about.reason, project=about.project, limit=_MOST_BUILDS)
    builds = tuple(one for one in found if one.started_at.astimezone(UTC).date() >= since)
    is_whole = len(found) < _MOST_BUILDS or len(builds) < len(found)
    return FailuresSight(report, now, builds, is_whole)


def by_project(builds: Iterable[FailedBuild], at: datetime) -> list[ProjectFailures]:
    """The builds counted by project, the most frequent first; they come newest first."""
    found: dict[str, list[FailedBuild]] = {}
    for build in builds:
        found.setdefault(build.project, []).append(build)
    rows = [ProjectFailures(name, len(those), those[0], at) for name, those in found.items()]
    return sorted(rows, key=lambda row: (-row.builds, row.project))


def ended(sight: FailuresSight) -> list[Ended]:
    """The builds as rows."""
    return [Ended(build, sight.at) for build in sight.builds]


def summary(sight: FailuresSight, days: int) -> list[Line]:
    """The numbers above the table."""
    report = sight.report
    whole, before = report.built + report.failed, report.built_before + report.failed_before
    line = [
        Cell(f" {range_words(days)}: ", Role.FAINT),
        Cell(f"{number(report.built)} built", Role.GOOD),
        Cell(", "),
        Cell(f"{number(report.failed)} failed", Role.BAD if report.failed else Role.PLAIN),
        Cell(f" ({share(report.failed, whole)})" if whole else ""),
    ]
    if before:
        line.append(Cell(f"   before that: {share(report.failed_before, before)}", Role.FAINT))
    if not sight.is_whole or not report.is_whole:
        line.append(Cell(f"   the newest {_MOST_BUILDS} only", Role.WARN))
    return [line]


def range_words(days: int) -> str:
    """A range of time: `today`, `7 days`."""
    return "today" if days == 1 else f"{days} days"


def next_range(days: int) -> int:
    """The next longer range; after the longest, the shortest."""
    return next((one for one in RANGES_DAYS if one > days), RANGES_DAYS[0])


def _change(row: ReasonCount) -> Cell:
    difference = row.builds - row.before
    if not difference:
        return Cell("=", Role.FAINT)
    return Cell(f"{difference:+,}", Role.WARN if difference > 0 else Role.GOOD)


def newest_words(row: ReasonCount) -> str:
    """The newest package that failed so."""
    return f"{row.newest.project} {row.newest.version}" if row.newest else ""


REASON: Column[ReasonCount] = Column(
    "reason", "reason", 19, lambda row: Cell(str(row.reason), Role.BAD), lambda row: str(row.reason)
)
BUILDS: Column[ReasonCount] = Column(
    "builds",
    "builds",
    6,
    lambda row: Cell(number(row.builds)),
    lambda row: row.builds,
    right=True,
    falling=True,
)
"""The columns that all tables of reasons have."""

REASONS: Arrangement[ReasonCount] = Arrangement(
    (
        REASON,
        BUILDS,
        Column(
            "share",
            "share",
            5,
            lambda row: Cell(f"{100 * row.share:.0f}%"),
            lambda row: row.share,
            right=True,
            falling=True,
        ),
        Column("bar", "", _BAR, lambda row: Cell(bar(row.share, 1.0, _BAR), Role.BAD), rank=3),
        Column(
            "change",
            "change",
            6,
            _change,
            lambda row: row.builds - row.before,
            right=True,
            rank=4,
            falling=True,
        ),
        Column(
            "captured",
            "what",
            12,
            lambda row: Cell((row.newest.captured if row.newest else None) or ""),
            rank=5,
            share=1,
        ),
        Column("newest", "newest", 14, lambda row: Cell(newest_words(row)), rank=1, share=2),
        Column(
            "package",
            "in Debian",
            12,
            lambda row: Cell((row.newest.debian_package if row.newest else None) or "", Role.WARN),
            rank=2,
        ),
        Column("sentence", "", 30, lambda row: Cell(row.sentence, Role.FAINT), rank=6, share=3),
    ),
    key=lambda row: str(row.reason),
    text=lambda row: f"{row.reason} {row.sentence} {newest_words(row)}",
)

PROJECTS: Arrangement[ProjectFailures] = Arrangement(
    (
        Column(
            "project",
            "project",
            18,
            lambda row: Cell(row.project, Role.STRONG),
            lambda row: row.project,
            share=2,
        ),
        Column(
            "builds",
            "builds",
            6,
            lambda row: Cell(number(row.builds)),
            lambda row: row.builds,
            right=True,
            falling=True,
        ),
        Column("version", "newest", 9, lambda row: Cell(row.newest.version), rank=1),
        Column("captured", "what", 16, lambda row: Cell(row.newest.captured or ""), rank=2, share=2),
        Column(
            "package",
            "in Debian",
            12,
            lambda row: Cell(row.newest.debian_package or "", Role.WARN),
            rank=3,
        ),
        Column(
            "target",
            "target",
            19,
            lambda row: Cell(short_target(row.newest.target), Role.FAINT),
            rank=5,
            share=1,
        ),
        Column("builder", "builder", 8, lambda row: Cell(row.newest.builder), rank=4),
        Column(
            "when",
            "when",
            5,
            lambda row: Cell(ago(row.newest.started_at, row.at), Role.FAINT),
            lambda row: row.newest.started_at,
            right=True,
            falling=True,
        ),
    ),
    key=lambda row: row.project,
    text=lambda row: f"{row.project} {row.newest.version} {row.newest.captured or ''}",
)
