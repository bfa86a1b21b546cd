# SPDX-License-Identifier: BSD-3-Clause
"""What is to be built: how many jobs in each lane, which come next, and what the others wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import ComposeResult

from piwheels_node.client.port import Watched
from piwheels_node.dashboard import queue
from piwheels_node.dashboard.deeds import JobName, Subject
from piwheels_node.dashboard.queue import QueueSight, Waiting
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.widgets.lines import Heading, Lines, title
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import Cell, Role, place


class Queue(Page[QueueSight]):
    """The queue, of all targets or of one."""

    NAME = "queue"
    HEADING = "queue"

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._counts = Lines(id="counts")
        self._lanes = Lines(id="lanes")
        self._title = Heading(id="rows-title")
        self._table: Table[Waiting] = Table(queue.JOBS, id="rows", empty="nothing waits")

    def body(self) -> ComposeResult:
        """Numbers, lanes, jobs."""
        yield self._counts
        yield self._lanes
        yield self._title
        yield self._table

    def on_mount(self) -> None:
        """The jobs have the focus."""
        self._table.focus()

    def ask(self) -> Callable[[Watched], QueueSight]:
        """What waits."""
        target, now = self.about, self.dashboard.now()
        return lambda master: queue.look_at(master, target, now)

    def draw(self, value: QueueSight) -> None:
        """Show what came."""
        self._counts.show(queue.counts(value))
        self._lanes.show(*queue.lanes(value, self.size.width))
        self._table.show(queue.rows(value))
        self._draw_title()

    def _draw_title(self) -> None:
        words = f"Next for {self.about}" if self.about else "Next, and what waits"
        arrangement = self._table.arrangement
        said = arrangement.told
        others = queue.waiting_for_others(self.value) if self.value else 0
        if others and not arrangement.faults_only and not self.about:
            said = [*said, f"! {others} wait for something else"]
        self._title.show(title(words, self._table.count), [Cell("  ".join(said), Role.FAINT)] if said else ())

    def on_table_arranged(self) -> None:
        """The title says how."""
        self._draw_title()

    def subject(self) -> Subject:
        """The job that is selected."""
        row = self._table.selected if self.is_mounted else None
        if row is None:
            return Subject()
        job = row.job
        return Subject(job=JobName(job.job_id, job.project, job.version, job.target, job.state))

    def opened(self, table: Table[Any], row: Any) -> None:  # noqa: ARG002 - Page's signature
        """A job."""
        self.go(place(row.job.job_id))
