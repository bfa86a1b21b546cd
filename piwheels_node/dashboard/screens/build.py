# SPDX-License-Identifier: BSD-3-Clause
"""One build: what it is of, why it failed, what it took and made, its log, and other builds of the project.

    v   what is known and the log; the log alone; the builds of the project

While it runs the log grows and is followed; when it has failed it stands at the line that shows why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Input

from piwheels_node.client.port import Watched
from piwheels_node.core.errors import NodeError
from piwheels_node.dashboard import builds
from piwheels_node.dashboard.builds import About, BuildSight
from piwheels_node.dashboard.deeds import JobName, Subject
from piwheels_node.dashboard.drawing import named
from piwheels_node.dashboard.ended import OF_ONE_PROJECT, Ended
from piwheels_node.dashboard.logs import seek
from piwheels_node.dashboard.saving import name_of, save_log, save_text, whole
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.widgets.lines import Heading, Lines, title
from piwheels_node.dashboard.widgets.log_view import LogView
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import Cell, Line, Role, clean, number

VIEWS = ("both", "log", "builds")
_REPORT_LINES = 60
_LOW_LINES, _HIGH_LINES = 24, 30
_TOLD_FIRST = {"reason", "shown by", "in Debian", "built by", "step", "wheel", "waits for"}
_TOLD_SECOND = {"steps", "used", "asked for"}
"""What is told on low terminals, where the log needs the room."""


@dataclass(frozen=True)
class _Seen:
    """Which log is shown: another one is begun anew."""

    build_id: int | None
    evidence: int | None


class Build(Page[BuildSight]):
    """A job: what it builds now, or one of its builds."""

    NAME = "build"
    HEADING = "build"
    CSS = """
    #log { height: 1fr; min-height: 3; }
    #search { display: none; dock: bottom; height: 1; margin: 0 0 1 0; padding: 0 1; }
    #search { border: none; background: $bar; }
    """

    class Came(Message):
        """An errand has ended, on its own thread; what follows is done on the screen's."""

        def __init__(self, then: Callable[[], None]) -> None:
            super().__init__()
            self.then = then

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._about = About.of(about)
        self._view = VIEWS[0]
        self._seen: _Seen | None = None
        self._facts = Lines(id="facts")
        self._log_title = Heading(id="log-title")
        self._builds_title = Heading(id="builds-title")
        self._builds: Table[Ended] = Table(OF_ONE_PROJECT, id="builds", empty="none has ended so far")
        self._words = Input(id="search", placeholder="words to look for in the log")
        self._words.cursor_blink = False

    def body(self) -> ComposeResult:
        """What is known, the log, and other builds."""
        self._log = LogView(self.dashboard.look, id="log")
        yield self._facts
        yield self._log_title
        yield self._log
        yield self._builds_title
        yield self._builds
        yield self._words

    def on_mount(self) -> None:
        """The log has the focus."""
        self._show_view()
        self._log.focus()

    def heading(self) -> Line:
        """The bar says which job."""
        words = f"job {self._about.job_id}"
        if self._about.build_id is not None:
            words += f", build {self._about.build_id}"
        return [Cell("  build", Role.STRONG), Cell(f"  {words}")]

    # --- asking and drawing ----------------------------------------------------------------------------

    def ask(self) -> Callable[[Watched], BuildSight]:
        """How it stands, and the next part of the log."""
        about, before, now = self._about, self.value, self.dashboard.now()
        wish = self._log.wish() if before is not None and self._may_read(before) else None
        return lambda master: builds.look_at(master, about, before, wish, now)

    def _may_read(self, sight: BuildSight) -> bool:
        """A log that has ended and is held needs no more looking at."""
        if sight.no_log and not sight.is_live and sight.facts is not None:
            return False
        wish = self._log.wish()
        return wish is not None and (wish.anew or sight.is_live or self._log.window.has_more or not sight.log)

    def draw(self, value: BuildSight) -> None:
        """Show what came; a log that is not known yet is asked for at once."""
        seen = _Seen(
            value.facts.build.build_id if value.facts else None,
            value.facts.evidence_line if value.facts else None,
        )
        if self._seen is None:
            self._log.begin(evidence=seen.evidence)
            self.dashboard.call_later(self.dashboard.poll)
        elif seen != self._seen and value.facts is not None:
            self._log.evidence = seen.evidence  # the build that was watched has ended
            self._log.refresh()
        self._seen = seen
        if value.log is not None:
            self._log.take(value.log.wish, value.log.part)
        self._draw_facts(value)
        self._builds.show([Ended(one, value.at) for one in value.earlier])
        self._draw_titles()

    def _draw_facts(self, value: BuildSight) -> None:
        told = builds.told(value)
        height = self.size.height
        if height < _HIGH_LINES:
            kept = _TOLD_FIRST if height < _LOW_LINES else _TOLD_FIRST | _TOLD_SECOND
            told = [one for one in told if one[0] in kept]
        self._facts.show(builds.title(value), *named(told, self.size.width))

    def _draw_titles(self) -> None:
        value, log = self.value, self._log
        if value is None:
            return
        notes = [Cell(value.no_log, Role.WARN)] if value.no_log else self._log_notes(value)
        self._log_title.show(title("Log"), notes)
        self._builds_title.show(title(f"Builds of {value.job.project}", self._builds.count))
        shown = self._view != "builds" and not value.no_log
        if log.display != shown:
            log.display = shown
            if shown and not self._words.has_focus:
                log.focus()  # what is hidden loses the keys

    def _log_notes(self, value: BuildSight) -> Line:
        """Where one stands in the log, and what the keys have made of it."""
        log, window = self._log, self._log.window
        if not window.size_bytes:
            return [Cell("nothing so far" if value.facts is None else "empty", Role.FAINT)]
        parts: list[Cell] = []
        if log.searched:
            parts.append(Cell(f'"{clean(log.searched, 20)}"  ', Role.WARN))
        if log.unseen and value.is_live:
            parts.append(Cell(f"{number(log.unseen)} new lines  ", Role.BUSY))
        top = log.top_number
        where = f"line {top:,}" if top else f"{window.begin * 100 // max(1, window.size_bytes)}%"
        parts.append(Cell(f"{where}  ", Role.FAINT))
        parts.append(Cell("wrapped  " if log.wrap else "", Role.FAINT))
        if value.is_live:
            parts.append(Cell("follows" if log.follow else "stands", Role.GOOD if log.follow else Role.WARN))
        else:
            parts.append(Cell("ended", Role.FAINT))
        return parts

    def on_log_view_moved(self) -> None:
        """Another place of the log is looked at."""
        self._draw_titles()

    def on_log_view_wanted(self) -> None:
        """A part of the log is wanted now."""
        self.dashboard.poll()

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002 - as Page's
        """What is told depends on the room."""
        if self.value is not None:
            self._draw_facts(self.value)

    def draw_refusal(self, error: NodeError) -> None:
        """There is no such job or build."""
        self._facts.show([Cell(f" {error.what}", Role.BAD)])

    # --- what can be done ------------------------------------------------------------------------------

    def subject(self) -> Subject:
        """Its job."""
        return Subject(job=JobName.of(self.value.job)) if self.value else Subject()

    def opened(self, table: Table[Any], row: Any) -> None:  # noqa: ARG002 - Page's signature
        """Another build of the project."""
        self.go(row.place)

    def act_view(self) -> None:
        """Show the next of the three views."""
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]
        self._show_view()

    def _show_view(self) -> None:
        self._facts.display = self._view != "log"
        self._log_title.display = self._log.display = self._view != "builds"
        self._builds_title.display = self._builds.display = self._view == "builds"
        (self._builds if self._view == "builds" else self._log).focus()
        self._draw_titles()

    def act_search(self) -> None:
        """Ask for words."""
        self._words.display = True
        self._words.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look for them."""
        if event.input is not self._words:
            return
        self._close_search()
        if not self._log.search(event.value):
            self._seek(backward=False)
        self._draw_titles()

    def _close_search(self) -> None:
        self._words.display = False
        self._log.focus()

    def act_back(self) -> None:
        """Leave the search, or the page."""
        if self._words.display:
            self._close_search()
        elif self._log.searched:
            self._log.search("")
            self._draw_titles()
        else:
            super().act_back()

    def act_next(self) -> None:
        """The next line that has the words."""
        self._search_on(backward=False)

    def act_previous(self) -> None:
        """The one before."""
        self._search_on(backward=True)

    def _search_on(self, *, backward: bool) -> None:
        if not self._log.searched:
            self.act_search()
        elif not self._log.search_on(backward=backward):
            self._seek(backward=backward)

    def _seek(self, *, backward: bool) -> None:
        """Look for the words in what of the log is not held."""
        sight, words, window = self.value, self._log.searched, self._log.window
        if sight is None or not words:
            return
        if window.begin == 0 and not window.has_more:
            self.say(f"no line has '{clean(words, 40)}'", Role.WARN)
            return
        self.say("looking through the rest of the log ...", Role.BUSY)
        begin, end = window.begin, window.end

        def work() -> Callable[[], None]:
            read = builds.log_of(self.dashboard.master, sight.job, sight.facts)
            found = seek(read, words, begin, end, backward=backward)
            if found is None:
                return lambda: self.say(f"no line has '{clean(words, 40)}'", Role.WARN)
            return lambda: self._log.show_byte(found)

        self._errand(work)

    def act_evidence(self) -> None:
        """The line that shows why the build failed."""
        if self._log.evidence is None:
            self.say("no line of this log shows a reason", Role.WARN)
        else:
            self._log.show_line(self._log.evidence)

    def act_follow(self) -> None:
        """Follow the end of the log, or stay."""
        self._log.toggle_follow()

    def act_wrap(self) -> None:
        """Break long lines, or cut them."""
        self._log.toggle_wrap()

    def act_save(self) -> None:
        """The whole log into a file."""
        sight = self.value
        if sight is None:
            return
        path = Path(name_of(sight, ".log"))

        def work() -> Callable[[], None]:
            read = builds.log_of(self.dashboard.master, sight.job, sight.facts)
            size = save_log(path, read)
            return lambda: self.say(f"{size:,} bytes are in {whole(path)}")

        self._errand(work)

    def act_report(self) -> None:
        """What is known, and the end of the log, into a file."""
        sight = self.value
        if sight is None:
            return
        path = Path(name_of(sight, ".md"))
        texts = self._log.last_lines(_REPORT_LINES)

        def work() -> Callable[[], None]:
            save_text(path, builds.report(sight, texts))
            return lambda: self.say(f"the report is in {whole(path)}")

        self._errand(work)

    def _errand(self, work: Callable[[], Callable[[], None]]) -> None:
        """Do something that takes a while on a thread of its own; then what it gives, on the screen's."""

        def run() -> None:
            try:
                then = work()
            except NodeError as error:
                words = f"{error.what}{f' ({error.hint})' if error.hint else ''}"
                then = lambda: self.say(words, Role.BAD)  # noqa: E731 - one line
            self.post_message(self.Came(then))

        threading.Thread(target=run, daemon=True, name="dashboard-errand").start()

    def on_build_came(self, message: Came) -> None:
        """An errand has ended."""
        message.then()
