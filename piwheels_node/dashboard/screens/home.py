# SPDX-License-Identifier: BSD-3-Clause
"""The first page: the farm in a few lines, its builders, why builds failed. Each number leads to its list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from textual.app import ComposeResult

from piwheels_node.client.port import Watched
from piwheels_node.core.builders import Mode
from piwheels_node.core.messages import FailureReport, FarmView, ReasonCount
from piwheels_node.dashboard import builders
from piwheels_node.dashboard.builders import Shown, ShownRows
from piwheels_node.dashboard.charts import trend
from piwheels_node.dashboard.deeds import BuilderName, Subject
from piwheels_node.dashboard.failures import BUILDS, REASON, newest_words
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.look import Glyphs
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.snapshot import Farm, farm
from piwheels_node.dashboard.widgets.lines import Heading, Lines, title
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import (
    Cell,
    Line,
    Place,
    Role,
    ago,
    joined,
    length,
    number,
    place,
    share,
    short_target,
)

BAR_WIDTH = 10
TARGETS_AT_MOST = 3
FULL_DISK = 0.9


def farm_line(view: FarmView, width: int) -> Line:
    """Builders, queue, what was built and failed, and the disk; the queue by target where there is room."""
    return next(
        (
            line
            for by_target in (True, False)
            if length(line := joined(_parts(view, by_target=by_target), "   ")) <= width
        ),
        joined(_parts(view, by_target=False)[:-1], "   "),
    )


def _parts(view: FarmView, *, by_target: bool) -> list[Line]:
    parts: list[Line] = []
    if view.mode is not Mode.RUN:
        why = f": {view.why}" if view.why else ""
        parts.append([Cell(f"farm told to {view.mode.value}{why}", Role.WARN)])
    role = Role.GOOD if view.builders_up == view.builders else Role.WARN
    parts.append([Cell("builders ", Role.FAINT), Cell(f"{view.builders_up}/{view.builders}", role)])
    parts.append(_queue(view, by_target=by_target))
    parts.append(_outcome(view))
    if view.disk_free_bytes is not None and view.disk_total_bytes:
        used = 1 - view.disk_free_bytes / view.disk_total_bytes
        parts.append(
            [Cell("disk ", Role.FAINT), Cell(f"{used:.0%}", Role.WARN if used > FULL_DISK else Role.PLAIN)]
        )
    return parts


def _queue(view: FarmView, *, by_target: bool) -> Line:
    """Ready jobs."""
    line = [Cell("queue ", Role.FAINT), Cell(number(sum(view.queue.values())), Role.STRONG, Place("queue"))]
    waiting = sorted(view.queue.items(), key=lambda one: -one[1])
    for name, count in waiting[:TARGETS_AT_MOST] if by_target and len(waiting) > 1 else []:
        line += [
            Cell(f"  {short_target(name)} ", Role.FAINT),
            Cell(number(count), Role.PLAIN, Place("queue", name)),
        ]
    return line


def _outcome(view: FarmView) -> Line:
    """What was built and what failed in the last day."""
    built, failed = sum(one.built for one in view.hours), sum(one.failed for one in view.hours)
    return [
        Cell("24h ", Role.FAINT),
        Cell(f"{number(built)} ok", Role.GOOD, Place("statistics")),
        Cell(" "),
        Cell(f"{number(failed)} failed", Role.BAD if failed else Role.FAINT, Place("failures")),
        Cell(f" {share(failed, built + failed)}", Role.FAINT),
    ]


def trends_line(view: FarmView, width: int, glyphs: Glyphs) -> Line:
    """What was built and what failed in each of the last hours, each on its own scale."""
    room = (width - length([Cell(" ok/h  max 999   failed/h  max 999")])) // 2
    hours = view.hours[-max(1, room) :]
    wide = max(1, min(3, room // max(1, len(hours))))
    parts: list[Line] = []
    for name, counts, role in (
        ("ok/h ", [one.built for one in hours], Role.GOOD),
        ("failed/h ", [one.failed for one in hours], Role.BAD),
    ):
        drawn = "".join(one * wide for one in trend(counts, len(counts), glyphs.trend)[0])
        most = Cell(f" max {number(max(counts, default=0))}", Role.FAINT)
        parts.append([Cell(name, Role.FAINT), Cell(drawn, role), most])
    return joined(parts, "   ")


def newest_line(farm: Farm) -> Line:
    """The newest failure, and what was missing."""
    newest = farm.view.newest_failure
    if newest is None:
        return [Cell("no build has failed", Role.FAINT)]
    line = [
        Cell("newest failure ", Role.FAINT),
        Cell(f"{newest.project} {newest.version}", Role.STRONG, place(newest.job_id, newest.build_id)),
        Cell(f"  {newest.reason.value}", Role.BAD),
    ]
    missed = newest.captured or ""
    if newest.debian_package:
        missed += f" ({newest.debian_package})" if missed else newest.debian_package
    return [
        *line,
        Cell(f"  {missed}" if missed else ""),
        Cell(f"  {ago(newest.started_at, farm.view.at)}", Role.FAINT),
    ]


def _reason_bar(row: ReasonCount, most: float, glyph: str) -> Cell:
    return Cell(glyph * max(1, round(BAR_WIDTH * row.share / most)) if most else "", Role.WARN)


def _hint(row: ReasonCount) -> Cell:
    newest = row.newest
    if newest is None:
        return Cell("")
    return Cell(
        newest.debian_package or newest.captured or "", Role.BUSY if newest.debian_package else Role.FAINT
    )


def reasons(most: float, glyph: str) -> Arrangement[ReasonCount]:
    """The table of reasons, whose bars are parts of the longest."""
    return Arrangement(
        (
            REASON,
            BUILDS,
            Column("share", "", 4, lambda row: Cell(f"{row.share:.0%}", Role.FAINT), right=True),
            Column("bar", "", BAR_WIDTH, lambda row: _reason_bar(row, most, glyph), rank=2),
            Column(
                "newest",
                "newest",
                20,
                lambda row: Cell(newest_words(row)),
                share=1,
                rank=1,
            ),
            Column("hint", "lacks", 14, _hint, share=1, rank=3),
        ),
        key=lambda row: row.reason.value,
        text=lambda row: f"{row.reason.value} {row.sentence}",
    )


class Home(Page[Farm]):
    """The farm."""

    NAME = "home"

    _counted: FailureReport | None = None
    """The failures that are shown."""

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._farm = Lines(id="farm")
        self._builders_title = Heading(id="builders-title")
        self.builders: Table[Shown] = Table(
            builders.ARRANGEMENT, id="builders", empty="no machine has joined so far"
        )
        self._reasons_title = Heading(id="reasons-title")
        self._reasons = Table(reasons(0, ""), id="reasons", empty="no build has failed")

    def body(self) -> ComposeResult:
        """Three lines, two tables."""
        yield from (self._farm, self._builders_title, self.builders, self._reasons_title, self._reasons)

    def on_mount(self) -> None:
        """The builders have the focus."""
        self.builders.focus()

    def ask(self) -> Callable[[Watched], Farm]:
        """Everything at once, but of the builders only those that are seen, if that will do."""
        before, needed = self.value, self.builders.needed
        return lambda master: farm(master, before, needed)

    def draw(self, value: Farm) -> None:
        """Show the farm."""
        look = self.dashboard.look
        self._farm.show(
            [Cell(" "), *farm_line(value.view, self.size.width - 1)],
            [Cell(" "), *trends_line(value.view, self.size.width, look.glyphs)],
            [Cell(" "), *newest_line(value)],
        )
        self.builders.show(ShownRows(value.builders, value.view.at))
        table = self._reasons
        if value.failures is not self._counted:  # they are the same for a while
            self._counted = value.failures
            most = max((one.share for one in value.failures.reasons), default=0.0)
            columns = reasons(most, look.glyphs.bar).columns
            table.arrangement = replace(table.arrangement, columns=columns)
            table.show(value.failures.reasons)
        self._draw_titles(value)

    def _draw_titles(self, value: Farm) -> None:
        table = self.builders
        told = [Cell("  ".join(table.arrangement.told), Role.FAINT)] if table.arrangement.told else []
        self._builders_title.show(title("Builders", table.count), told)
        failed = value.failures.failed
        self._reasons_title.show(title("Why builds failed, since yesterday", failed))

    def on_table_arranged(self) -> None:
        """The title says how; rows that were not seen may be old."""
        if self.value:
            self._draw_titles(self.value)
        self._ask_for_more()

    def on_table_moved(self) -> None:
        """Rows come into sight that may be old."""
        self._ask_for_more()

    def _ask_for_more(self) -> None:
        needed = self.builders.needed
        if self.value and not self.value.is_fresh(needed):
            self.dashboard.poll()

    def subject(self) -> Subject:
        """The builder that is selected."""
        selected = self.builders.selected if self.is_mounted else None
        mode = self.value.view.mode if self.value else None
        return Subject(builder=BuilderName.of(selected.row) if selected else None, farm=mode)

    def opened(self, table: Table[Any], row: Any) -> None:
        """A builder, or the builds that failed for a reason."""
        if table.id == "builders":
            self.go(Place("builder", row.row.name))
        else:
            self.go(Place("failures", row.reason.value))
