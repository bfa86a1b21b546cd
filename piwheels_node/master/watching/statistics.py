# SPDX-License-Identifier: BSD-3-Clause
"""Builds by day, by hour and by builder, and wheels by tag: all of them counters, kept as builds end.

`prune` forgets hours and builders' days that no question reaches any more. This module knows no HTTP.
"""

from __future__ import annotations

from collections import Counter as Bag
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome
from piwheels_node.core.messages import (
    BuilderDays,
    BuilderStatistics,
    DayCount,
    HourCount,
    ReasonDays,
    Statistics,
)
from piwheels_node.master.database import models
from piwheels_node.master.database.models import BuildCount, Builder, BuilderCount, Counter, TargetRow
from piwheels_node.master.jobs.history import WHEELS_BY_ABI, WHEELS_BY_PLATFORM
from piwheels_node.master.reports import MOST_DAYS, Period

MOST_HOURS = 31 * 24
"""The most hours of one answer."""

MOST_BUILDERS = 500

_HOUR = "%Y-%m-%dT%H"
_BUILT = Outcome.BUILT.value
_REASONS = {reason.value: reason for reason in FailureReason}


def hours(session: Session, number: int, now: datetime) -> list[HourCount]:
    """The last so many hours, oldest first; the last one is not over."""
    this = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    begins = [this - timedelta(hours=back) for back in reversed(range(min(number, MOST_HOURS)))]
    wanted = select(models.HourCount.hour, models.HourCount.built, models.HourCount.failed).where(
        models.HourCount.hour >= begins[0].strftime(_HOUR)
    )
    found = {hour: (built, failed) for hour, built, failed in session.execute(wanted)}
    return [
        HourCount(begins_at=at, built=built, failed=failed)
        for at in begins
        for built, failed in [found.get(at.strftime(_HOUR), (0, 0))]
    ]


def over_days(session: Session, period: Period, target: str | None) -> Statistics:
    """Builds and reasons of each day, of one target or of all; wheels as they are now."""
    days = _days(period)
    wanted = select(BuildCount.day, BuildCount.result, func.sum(BuildCount.builds)).where(
        BuildCount.day >= str(period.since), BuildCount.day <= str(period.until)
    )
    if target is not None:
        targets = select(TargetRow.id).where(TargetRow.name == target)
        wanted = wanted.where(BuildCount.target_id.in_(targets))
    counts: Bag[tuple[str, str]] = Bag()
    total: Bag[str] = Bag()
    failed: Bag[str] = Bag()
    for day, result, builds in session.execute(wanted.group_by(BuildCount.day, BuildCount.result)):
        counts[day, result] = int(builds)
        if result != _BUILT:
            failed[day] += int(builds)
            total[result] += int(builds)
    ranked = sorted((result for result in total if result in _REASONS), key=lambda one: (-total[one], one))
    return Statistics(
        since=period.since,
        until=period.until,
        target=target,
        days=[DayCount(day=day, built=counts[str(day), _BUILT], failed=failed[str(day)]) for day in days],
        reasons=[
            ReasonDays(reason=_REASONS[result], builds=[counts[str(day), result] for day in days])
            for result in ranked
        ],
        wheels_by_abi=_wheels(session, WHEELS_BY_ABI),
        wheels_by_platform=_wheels(session, WHEELS_BY_PLATFORM),
    )


def over_builders(session: Session, period: Period, builder: str | None, limit: int) -> BuilderStatistics:
    """Builds of each builder and day: of those that built most, or of one."""
    within = BuilderCount.day >= str(period.since), BuilderCount.day <= str(period.until)
    ended = func.sum(BuilderCount.built + BuilderCount.failed)
    chosen = (
        select(Builder.id, Builder.name)
        .join(BuilderCount, BuilderCount.builder_id == Builder.id)
        .where(*within)
        .group_by(Builder.id, Builder.name)
        .order_by(ended.desc(), Builder.name)
        .limit(min(limit, MOST_BUILDERS))
    )
    if builder is not None:
        chosen = chosen.where(Builder.name == builder)
    names = {row.id: row.name for row in session.execute(chosen)}
    counts: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    wanted = select(BuilderCount).where(*within, BuilderCount.builder_id.in_(names))
    for row in session.scalars(wanted):
        counts[row.builder_id][row.day] = row.built, row.failed
    days = [str(day) for day in _days(period)]
    return BuilderStatistics(
        since=period.since,
        until=period.until,
        builders=[
            BuilderDays(
                builder=name,
                built=[counts[one].get(day, (0, 0))[0] for day in days],
                failed=[counts[one].get(day, (0, 0))[1] for day in days],
            )
            for one, name in names.items()
        ],
    )


def prune(session: Session, now: datetime) -> None:
    """Forget what is older than any question: hours, and days of builders."""
    today = now.astimezone(UTC)
    oldest_hour = (today - timedelta(hours=MOST_HOURS)).strftime(_HOUR)
    session.execute(delete(models.HourCount).where(models.HourCount.hour < oldest_hour))
    oldest_day = str(today.date() - timedelta(days=MOST_DAYS))
    session.execute(delete(BuilderCount).where(BuilderCount.day < oldest_day))


def _days(period: Period) -> list[date]:
    return [period.since + timedelta(days=number) for number in range(period.days)]


def _wheels(session: Session, prefix: str) -> dict[str, int]:
    wanted = select(Counter.name, Counter.value).where(
        Counter.name.startswith(prefix, autoescape=True), Counter.value > 0
    )
    return {
        name.removeprefix(prefix): value for name, value in session.execute(wanted.order_by(Counter.name))
    }
