# SPDX-License-Identifier: BSD-3-Clause
"""What is going on, while it goes on: a live table on a terminal, plain lines everywhere else.

Both take news from the thread that follows the jobs and, on a machine that builds, from the builder's
threads; both write to standard error, so that standard output has the results only.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from packaging.utils import canonicalize_name
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from piwheels_node.cli.results import Result, describe, waiting_words
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import BuildRequest, JobView, Lease, ReportAnswer
from piwheels_node.core.text import harmless

_STEPS = tuple(step.value for step in Step)
_STEPS_WIDTH = len(" ".join(_STEPS)) + 2


@dataclass
class _Row:
    """One request, from asking to its end."""

    name: str
    state: str = "asking"
    since: float = field(default_factory=time.monotonic)
    result: Result | None = None


class _News:
    """Waiting for a job to end: the builder here says so, and nobody need ask the master all the time."""

    def __init__(self) -> None:
        self._news = threading.Event()

    def wait(self, seconds: float) -> None:
        """Return when the builder here is done with a job, or after some seconds."""
        self._news.wait(seconds)
        self._news.clear()

    def finished(self, lease: Lease, answer: ReportAnswer | None) -> None:  # noqa: ARG002 - Observer's signature
        """The builder here is done with a job; how it ended is told by the one who asked."""
        self._news.set()

    def paused(self, why: str | None) -> None:
        """The builder here stands still for this reason; None: it goes on."""


class PlainProgress(_News):
    """One line for each change, for logs, pipes and serial consoles."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._lock = threading.Lock()
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def asking(self, request: BuildRequest) -> None:
        """Say nothing: the answer comes at once. But remember how the project was spelled."""
        self._names[canonicalize_name(request.project)] = request.project

    def queued(self, job: JobView) -> None:
        """A job waits for a builder."""
        self._say(job.project, job.version, "queued")

    def moved(self, project: str, version: str, step: Step | None) -> None:
        """A job has come to a step."""
        if step:
            self._say(project, version, step.value)

    def waits(self, job: JobView) -> None:
        """A job waits for another one, or for a build with more Debian packages."""
        self._say(job.project, job.version, waiting_words(job))

    def ended(self, result: Result) -> None:
        """A request has its result."""
        taken = f" in {result.duration_s:.1f} s" if result.duration_s else ""
        self._say(result.project, result.version or "", f"{describe(result).plain}{taken}")

    def started(self, lease: Lease) -> None:
        """The builder here took a job."""

    def step(self, lease: Lease, step: Step) -> None:
        """The builder here has come to a step."""
        self.moved(lease.project, lease.version, step)

    def paused(self, why: str | None) -> None:
        """The builder here stands still for this reason; None: it goes on."""
        with self._lock:
            words = f"the builder stands still: {why}" if why else "the builder goes on"
            self._console.print(Text(harmless(words)))

    def _say(self, project: str, version: str, words: str) -> None:
        name = f"{self._names.get(canonicalize_name(project), project)} {version}".rstrip()
        with self._lock:
            if self._said.get(name) != words:
                self._said[name] = words
                self._console.print(Text(harmless(f"{name}: {words}")))


class LiveProgress(_News):
    """A table that is drawn again four times a second: package, step, elapsed time, outcome."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[tuple[str, str], _Row] = {}
        self._paused: str | None = None
        self._lock = threading.Lock()
        self._live = Live(get_renderable=self._draw, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def asking(self, request: BuildRequest) -> None:
        """A new row."""
        with self._lock:
            self._rows[_key(request.project, request.version)] = _Row(
                f"{request.project} {request.version or ''}".rstrip()
            )

    def queued(self, job: JobView) -> None:
        """A job waits for a builder."""
        with self._lock:
            row = self._row(job.project, job.version)
            if row.state == "asking":
                row.state, row.since = "queued", time.monotonic()

    def moved(self, project: str, version: str, step: Step | None) -> None:
        """A job has come to a step; the time shown is counted from its first one."""
        with self._lock:
            row = self._row(project, version)
            if step is None or row.result:
                return
            if row.state not in _STEPS:
                row.since = time.monotonic()
            row.state = step.value

    def waits(self, job: JobView) -> None:
        """A job waits for another one, or for a build with more Debian packages."""
        with self._lock:
            self._row(job.project, job.version).state = waiting_words(job)

    def ended(self, result: Result) -> None:
        """A request has its result."""
        with self._lock:
            self._row(result.project, result.version).result = result

    def started(self, lease: Lease) -> None:
        """The builder here took a job: its first step follows at once."""

    def step(self, lease: Lease, step: Step) -> None:
        """The builder here has come to a step."""
        self.moved(lease.project, lease.version, step)

    def paused(self, why: str | None) -> None:
        """The builder here stands still for this reason; None: it goes on."""
        with self._lock:
            self._paused = why

    def _row(self, project: str, version: str | None) -> _Row:
        """The row of a release; one that was asked for without a version takes it on."""
        key = _key(project, version)
        if key not in self._rows:
            row = self._rows.pop(_key(project, None), None) or _Row(project)
            row.name = f"{row.name} {version or ''}".rstrip()
            self._rows[key] = row
        return self._rows[key]

    def _draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="fold")  # a long name is what gives way on a narrow terminal
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=_STEPS_WIDTH)
        now = time.monotonic()
        with self._lock:
            for row in self._rows.values():
                if row.result:
                    words, taken = describe(row.result), row.result.duration_s
                else:
                    words, taken = _path(row.state), now - row.since
                table.add_row(
                    Text(harmless(row.name)), Text(f"{taken:.1f} s" if taken else "", justify="right"), words
                )
            paused = self._paused
        return Group(table, Text(harmless(f"the builder stands still: {paused}"))) if paused else table


def _path(state: str) -> Text:
    """The steps of a build, those that are over, the present one and those to come told apart."""
    if state not in _STEPS:
        return Text(state, style="dim")
    at = _STEPS.index(state)
    text = Text()
    for number, name in enumerate(_STEPS):
        style = "dim" if number > at else "bold" if number == at else "green"
        text.append(" " if number else "").append(name, style=style)
    return text


def _key(project: str, version: str | None) -> tuple[str, str]:
    return canonicalize_name(project), version or ""


def progress_for(*, live: bool) -> LiveProgress | PlainProgress:
    """The one for where standard error leads; `live` False: plain lines even on a terminal."""
    if live and Console(stderr=True).is_terminal:
        return LiveProgress()
    return PlainProgress()
