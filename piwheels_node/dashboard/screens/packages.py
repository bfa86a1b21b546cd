# SPDX-License-Identifier: BSD-3-Clause
"""Any project: the search for it, and what PyPI has, what is here for each target, and why or why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import ComposeResult
from textual.widgets import Input

from piwheels_node.client.port import Watched
from piwheels_node.core.errors import NodeError
from piwheels_node.core.messages import ProjectMatch
from piwheels_node.dashboard import packages
from piwheels_node.dashboard.deeds import JobName, ReleaseName, Subject
from piwheels_node.dashboard.packages import Matches, Offer, ProjectSight
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.widgets.lines import Heading, Lines, title
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import Cell, Place, Role, place


class Packages(Page[Matches | ProjectSight]):
    """The search, or one project."""

    NAME = "packages"
    HEADING = "packages"
    CSS = """
    #search { height: 1; padding: 0 1; border: none; background: $bar; }
    """

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._wanted = ""
        self._search = Input(id="search", placeholder="the name of a project, or a part of it")
        self._search.cursor_blink = False
        self._about_it = Lines(id="about")
        self._title = Heading(id="rows-title")
        self._selected = Lines(id="selected")
        self._table: Table[Any]
        if about:
            self._table = Table(packages.OFFERS, id="rows", empty="nothing of it is here or planned")
        else:
            self._table = Table(packages.MATCHES, id="rows", empty="type a name above")

    def body(self) -> ComposeResult:
        """Where to type, and what was found; or all about a project."""
        yield self._search
        yield self._about_it
        yield self._title
        yield self._table
        yield self._selected

    def on_mount(self) -> None:
        """A search begins with typing."""
        self._search.display = not self.about
        self._about_it.display = self._selected.display = bool(self.about)
        (self._table if self.about else self._search).focus()

    def ask(self) -> Callable[[Watched], Matches | ProjectSight]:
        """What fits the words, or how the project stands."""
        about, wanted, now = self.about, self._wanted, self.dashboard.now()
        if about:
            return lambda master: packages.look_at(master, about, now)
        return lambda master: packages.search(master, wanted, now)

    def draw(self, value: Matches | ProjectSight) -> None:
        """Show what came."""
        if isinstance(value, Matches):
            self._table.show(value.found)
            words = f"Projects like {value.wanted}" if value.wanted else "Projects"
            self._title.show(title(words, len(value.found) if value.wanted else None))
            return
        self._about_it.show(*packages.heading(value))
        self._table.show(packages.offers(value))
        self._title.show(title("Releases and targets", self._table.count))
        self._draw_selected()

    def draw_refusal(self, error: NodeError) -> None:
        """The master does not answer this."""
        self._about_it.show([Cell(f" {error.what}", Role.BAD)])

    def _draw_selected(self) -> None:
        row = self._table.selected
        self._selected.show(*(packages.selected(row) if isinstance(row, Offer) else ()))

    def on_table_moved(self) -> None:
        """Another row is selected."""
        self._draw_selected()

    # --- what can be done ------------------------------------------------------------------------------

    def subject(self) -> Subject:
        """The job of the release and target that are selected; where there is none, the release."""
        row = self._table.selected if self.is_mounted else None
        if not isinstance(row, Offer) or not isinstance(self.value, ProjectSight):
            return Subject()
        if row.job is not None:
            return Subject(job=JobName.of(row.job))
        return Subject(release=ReleaseName(self.value.name, row.version, row.target))

    def opened(self, table: Table[Any], row: Any) -> None:  # noqa: ARG002 - Page's signature
        """A project, or the job of a release."""
        if isinstance(row, ProjectMatch):
            self.go(Place("packages", row.name))
        elif row.job is not None:
            self.go(place(row.job.job_id))
        else:
            self.say("there is no job of it", Role.WARN)

    def act_search(self) -> None:
        """Type other words; from a project, search for another one."""
        if self.about:
            self.go(Place("packages"))
        else:
            self._search.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Ask while words are typed."""
        if event.input is self._search:
            self._wanted = event.value.strip()
            self.dashboard.poll()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Open the only one; or choose among them. What was not found can be asked about all the same."""
        if event.input is not self._search or not self._wanted:
            return
        if self._table.count > 1:
            self._table.focus()
        else:
            found = self._table.selected
            self.go(Place("packages", found.name if found else self._wanted))
