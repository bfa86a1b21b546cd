# SPDX-License-Identifier: BSD-3-Clause
"""Why builds failed: reasons, then the projects of one, then their builds; over a range of time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import ComposeResult

from piwheels_node.client.port import Watched
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import ReasonCount
from piwheels_node.dashboard import failures
from piwheels_node.dashboard.deeds import FailedFor, JobName, Subject
from piwheels_node.dashboard.drawing import wrapped
from piwheels_node.dashboard.ended import OF_ONE_REASON, Ended
from piwheels_node.dashboard.failures import About, FailuresSight, ProjectFailures
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.widgets.lines import Heading, Lines, title
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import Cell, Line, Place, Role

_FIRST_RANGE_DAYS = 7


class Failures(Page[FailuresSight]):
    """Reasons, or the projects or the builds behind one."""

    NAME = "failures"
    HEADING = "failures"

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._about = About.of(about)
        self._days = _FIRST_RANGE_DAYS
        self._summary = Lines(id="summary")
        self._title = Heading(id="rows-title")
        self._evidence = Lines(id="evidence")
        empty = "no build has failed in this time"
        self._table: Table[Any]
        if self._about.reason is None:
            self._table = Table(failures.REASONS, id="rows", empty=empty)
        elif self._about.project is None:
            self._table = Table(failures.PROJECTS, id="rows", empty=empty)
        else:
            self._table = Table(OF_ONE_REASON, id="rows", empty=empty)

    def body(self) -> ComposeResult:
        """Numbers, rows, and the line of the log that shows the selected one."""
        yield self._summary
        yield self._title
        yield self._table
        yield self._evidence

    def on_mount(self) -> None:
        """The rows have the focus."""
        self._table.focus()

    def ask(self) -> Callable[[Watched], FailuresSight]:
        """What failed in the range of time."""
        about, days, now = self._about, self._days, self.dashboard.now()
        return lambda master: failures.look_at(master, about, days, now)

    def draw(self, value: FailuresSight) -> None:
        """Show what came."""
        self._summary.show(*failures.summary(value, self._days))
        if self._about.reason is None:
            self._table.show([row for row in value.report.reasons if row.builds or row.before])
        elif self._about.project is None:
            self._table.show(failures.by_project(value.builds, value.at))
        else:
            self._table.show(failures.ended(value))
        self._draw_title()
        self._draw_evidence()

    def _draw_title(self) -> None:
        reason, project = self._about.reason, self._about.project
        words = "Why builds failed" if reason is None else reason.sentence.rstrip(".")
        if project:
            words = f"{words}: {project}"
        notes = [Cell("  ".join(self._table.arrangement.told), Role.FAINT)]
        self._title.show(title(words, self._table.count), notes if notes[0].words else ())

    def _draw_evidence(self) -> None:
        """Below the rows: what the log of the newest of the selected ones says."""
        newest = _newest(self._table.selected)
        lines: list[Line] = []
        if newest is not None:
            where = f" {newest.project} {newest.version} on {newest.builder}"
            at = f", line {newest.evidence_line:,}" if newest.evidence_line else ""
            lines.append([Cell(where + at, Role.FAINT)])
            words = newest.evidence or newest.reason.sentence
            lines += [[Cell(f" {part}")] for part in wrapped(words, max(10, self.size.width - 2))[:2]]
        self._evidence.show(*lines)

    def on_table_moved(self) -> None:
        """Another row is selected."""
        self._draw_evidence()

    def on_table_arranged(self) -> None:
        """The title says how."""
        self._draw_title()

    def subject(self) -> Subject:
        """The job of the build that is selected, or all that failed for a reason."""
        row = self._table.selected if self.is_mounted else None
        if isinstance(row, ReasonCount):
            return Subject(failed_for=FailedFor(row.reason))
        if isinstance(row, ProjectFailures) and self._about.reason:
            return Subject(failed_for=FailedFor(self._about.reason, row.project))
        if not isinstance(row, Ended):
            return Subject()
        build = row.build
        return Subject(job=JobName(build.job_id, build.project, build.version, build.target, JobState.FAILED))

    def opened(self, table: Table[Any], row: Any) -> None:  # noqa: ARG002 - Page's signature
        """The projects of a reason, the builds of a project, a build."""
        match row:
            case ReasonCount():
                self.go(Place("failures", str(row.reason)))
            case ProjectFailures():
                self.go(Place("failures", f"{self._about.reason}/{row.project}"))
            case Ended():
                self.go(row.place)

    def act_range(self) -> None:
        """The next longer range of time."""
        self._days = failures.next_range(self._days)
        self.say(f"over {failures.range_words(self._days)}")
        self.dashboard.poll()


def _newest(row: Any) -> Any:
    if isinstance(row, ReasonCount | ProjectFailures):
        return row.newest
    return row.build if isinstance(row, Ended) else None
