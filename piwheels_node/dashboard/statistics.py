# SPDX-License-Identifier: BSD-3-Clause
"""The farm in four pictures: builds over time, builds per builder over time, why builds fail, wheels by tag.

This module must not import Textual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from piwheels_node.client.port import Watched
from piwheels_node.core.messages import BuilderStatistics, Statistics
from piwheels_node.dashboard.drawing import Amount, Series, bars, columns, legend, trends
from piwheels_node.dashboard.look import Glyphs
from piwheels_node.dashboard.words import Cell, Line, Place, Role, number

RANGES_DAYS = (7, 30, 90, 365)
_BUILDERS = 50
_FAILED_FILL = "▒"


@dataclass(frozen=True)
class StatisticsSight:
    """The numbers of so many days, as they were at a moment."""

    farm: Statistics
    builders: BuilderStatistics
    at: datetime


def look_at(master: Watched, days: int, now: datetime | None = None) -> StatisticsSight:
    """Ask for the numbers of the last days, today included."""
    now = now or datetime.now(UTC)
    since = now.date() - timedelta(days=days - 1)
    return StatisticsSight(
        master.statistics(since, now.date()),
        master.builder_statistics(since, now.date(), limit=_BUILDERS),
        now,
    )


def next_range(days: int) -> int:
    """The next longer range; after the longest, the shortest."""
    return next((one for one in RANGES_DAYS if one > days), RANGES_DAYS[0])


def over_time(sight: StatisticsSight, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Builds of each day, those that failed on top of those that did not."""
    series = [
        Series("built", [day.built for day in sight.farm.days], Role.GOOD, glyphs.bar),
        Series("failed", [day.failed for day in sight.farm.days], Role.BAD, _FAILED_FILL),
    ]
    if not any(map(sum, (one.values for one in series))):
        return [[Cell(" nothing was built in these days", Role.FAINT)]]
    ends = (_day(sight.farm.since), _day(sight.farm.until))
    return [[Cell(" "), *legend(series)], *columns(series, ends, width, max(3, height - 1))]


def per_builder(sight: StatisticsSight, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """What each builder was at, day by day; those that built most come first, on one scale."""
    rows = [
        (
            one.builder,
            [sum(pair) for pair in zip(one.built, one.failed, strict=True)],
            number(sum(one.built) + sum(one.failed)),
        )
        for one in sight.builders.builders
    ]
    if not rows:
        return [[Cell(" no builder has built in these days", Role.FAINT)]]
    return _cut(trends(rows, width, glyphs), height, len(rows))


def reasons(sight: StatisticsSight, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Why builds failed; each reason leads to its builds."""
    found = [
        Amount(str(one.reason), sum(one.builds), "", Role.BAD, Place("failures", str(one.reason)))
        for one in sight.farm.reasons
        if sum(one.builds)
    ]
    if not found:
        return [[Cell(" no build failed in these days", Role.FAINT)]]
    return _cut(bars(found, width, glyphs), height, len(found))


def tags(sight: StatisticsSight, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """The wheels in the index by ABI, then by platform; joined tags of one wheel count as one."""
    by_abi, by_platform = sight.farm.wheels_by_abi, sight.farm.wheels_by_platform
    if not by_abi and not by_platform:
        return [[Cell(" there is no wheel yet", Role.FAINT)]]
    first, second = _most(by_abi), _most(by_platform)
    room = max(2, height - 2)
    shown = min(len(first), max(room - len(second), room // 2))
    return [
        [Cell("ABI", Role.FAINT)],
        *_cut(bars(first, width, glyphs), shown, len(first)),
        [Cell("platform", Role.FAINT)],
        *_cut(bars(second, width, glyphs), max(1, room - shown), len(second)),
    ]


def _most(counts: dict[str, int]) -> list[Amount]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Amount(name, many, "", Role.BUSY) for name, many in ordered]


def _cut(lines: list[Line], height: int, count: int) -> list[Line]:
    """As many as there is room for; the last one says how many are not shown."""
    if len(lines) <= height:
        return lines
    kept = max(1, height - 1)
    return [*lines[:kept], [Cell(f"and {count - kept} more", Role.FAINT)]]


def _day(day: date) -> str:
    return f"{day:%d %b}"
