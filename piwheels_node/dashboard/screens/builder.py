# SPDX-License-Identifier: BSD-3-Clause
"""One builder: its machine, what it builds now and its log, what it has built, what happened to it.

v   log and builds; the log alone; the builds alone; what happened
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual import events
from textual.app import ComposeResult

from piwheels_node.client.port import Watched
from piwheels_node.core.errors import NodeError
from piwheels_node.core.messages import BuilderEventView
from piwheels_node.dashboard import machines
from piwheels_node.dashboard.deeds import BuilderName, Subject
from piwheels_node.dashboard.ended import Ended
from piwheels_node.dashboard.machines import BuilderSight, Wanted
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.widgets.lines import Heading, Lines, title
from piwheels_node.dashboard.widgets.log_view import LogView
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import Cell, Role

VIEWS = ("both", "log", "builds", "events")


class Builder(Page[BuilderSight]):
    """A machine that builds."""

    NAME = "builder"
    HEADING = "builder"
    CSS = """
    #log { height: 1fr; min-height: 3; }
    #builds { height: 1fr; }
    """

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._view = VIEWS[0]
        self._facts = Lines(id="facts")
        self._log_title = Heading(id="log-title")
        self._builds_title = Heading(id="builds-title")
        self._events_title = Heading(id="events-title")
        self._builds: Table[Ended] = Table(
            machines.OF_ONE_BUILDER, id="builds", empty="it has built nothing so far"
        )
        self._events: Table[BuilderEventView] = Table(machines.HAPPENED, id="events")
        self._log_job: int | None = None

    def body(self) -> ComposeResult:
        """What is known, the log, builds, and what happened."""
        self._log = LogView(self.dashboard.look, id="log")
        yield self._facts
        yield self._log_title
        yield self._log
        yield self._builds_title
        yield self._builds
        yield self._events_title
        yield self._events

    def on_mount(self) -> None:
        """Its builds have the focus."""
        self._show_view()

    def ask(self) -> Callable[[Watched], BuilderSight]:
        """How it stands, and the next part of the log of what it builds."""
        name, before, now = self.about, self.value, self.dashboard.now()
        wish = self._log.wish()
        wanted = Wanted(self._log_job, wish) if self._log_job is not None and wish is not None else None
        return lambda master: machines.look_at(master, name, before, wanted, now)

    def draw(self, value: BuilderSight) -> None:
        """Show what came; another job's log is begun anew, and asked for at once."""
        job_id = value.job.job_id if value.job else None
        if job_id is not None and job_id != self._log_job:
            self._log.begin()
            self.dashboard.call_later(self.dashboard.poll)
        elif value.log and value.log_of == self._log_job:
            self._log.take(value.log.wish, value.log.part)
        changed = (job_id is None) != (self._log_job is None)
        self._log_job = job_id
        self._builds.show([Ended(one, value.at) for one in value.builds])
        self._events.show(value.events[::-1])
        self._draw_facts(value)
        if changed:
            self._show_view()
        self._draw_titles()

    def _draw_facts(self, value: BuilderSight) -> None:
        self._facts.show(*machines.told(value, self.size.width, self.dashboard.look.glyphs))

    def _draw_titles(self) -> None:
        value = self.value
        if value is None:
            return
        job = value.job
        follows = Cell("follows" if self._log.follow else "stands, End follows", Role.GOOD)
        self._log_title.show(title(f"Log of {job.project} {job.version}" if job else "Log"), [follows])
        told = [Cell("  ".join(self._builds.arrangement.told), Role.FAINT)]
        self._builds_title.show(title("Builds", self._builds.count), told if told[0].words else ())
        self._events_title.show(title("What happened", self._events.count))

    def on_log_view_moved(self) -> None:
        """It follows, or does not."""
        self._draw_titles()

    def on_log_view_wanted(self) -> None:
        """A part of the log is wanted now."""
        self.dashboard.poll()

    def on_table_arranged(self) -> None:
        """The title says how."""
        self._draw_titles()

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002 - as Page's
        """What is told depends on the room."""
        if self.value is not None:
            self._draw_facts(self.value)

    def draw_refusal(self, error: NodeError) -> None:
        """There is no such builder."""
        self._facts.show([Cell(f" {error.what}", Role.BAD)])

    def act_view(self) -> None:
        """Show other parts."""
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]
        self._show_view()

    def _show_view(self) -> None:
        """Show the parts of the view; a log only while something is built."""
        builds_something = self._log_job is not None
        log = builds_something and self._view in {"both", "log"}
        builds = self._view in {"both", "builds"} or (self._view == "log" and not builds_something)
        self._log_title.display = self._log.display = log
        self._builds_title.display = self._builds.display = builds
        self._events_title.display = self._events.display = self._view == "events"
        focused = self._builds if builds else self._log if log else self._events
        if self.focused is None or not self.focused.display or self.focused is self._facts:
            focused.focus()

    def subject(self) -> Subject:
        """The builder."""
        return Subject(builder=BuilderName.of(self.value.view)) if self.value else Subject()

    def opened(self, table: Table[Any], row: Any) -> None:
        """A build."""
        if table is self._builds:
            self.go(row.place)
