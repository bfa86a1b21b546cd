# SPDX-License-Identifier: BSD-3-Clause
"""What a master shows to those who watch it: the farm at a glance, rows of tables, the queue, statistics.

Screens ask for these every few seconds, so each is one small answer, made of counters and bounded queries,
however many builds, jobs and projects there are. Lists that go on have `before`, for the next page.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import repeat
from typing import Any, NamedTuple, Self

from pydantic import AwareDatetime, Field, model_validator

from piwheels_node.core.access import Access
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Priority, Step
from piwheels_node.core.messages.base import Message
from piwheels_node.core.messages.building import BuildEnvironment, StepTime
from piwheels_node.core.messages.people import WheelView
from piwheels_node.core.messages.reports import FailedBuild


class WhoAmI(Message):
    """What the key of this request may do; `builder` is the name of the builder whose key it is."""

    access: Access
    builder: str | None = None


class HourCount(Message):
    """How many builds ended in one hour that `begins_at` (UTC)."""

    begins_at: AwareDatetime
    built: int = 0
    failed: int = 0


class JobInHand(Message):
    """What a builder is at."""

    job_id: int
    project: str
    version: str
    target: str
    step: Step | None = None
    leased_at: AwareDatetime


class BuilderRow(NamedTuple):
    """A builder as one row of a table; `builder(name)` has all of it.

    `is_up`: it was heard of lately. `built` and `failed` are those of the last seven days, today included.
    """

    name: str
    state: BuilderState
    mode: Mode = Mode.RUN
    why: str | None = None
    paused_itself: str | None = None
    is_up: bool = False
    last_seen_at: datetime | None = None
    slots: int = 1
    targets: Sequence[str] = ()
    jobs: Sequence[JobInHand] = ()
    built: int = 0
    failed: int = 0
    version: str | None = None
    model: str | None = None
    os: str | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_free_bytes: int | None = None
    load_1m: float | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    undervoltage: bool | None = None


class BuilderColumns(Message):
    """Rows of builders on the wire, column by column: 300 are read in less than half the time of rows.

    All columns are equally long. One that says of no builder more than the default of `BuilderRow` is left
    out.
    """

    name: list[str] = []
    state: list[BuilderState] = []
    mode: list[Mode] = []
    why: list[str | None] = []
    paused_itself: list[str | None] = []
    is_up: list[bool] = []
    last_seen_at: list[AwareDatetime | None] = []
    slots: list[int] = []
    targets: list[list[str]] = []
    jobs: list[list[JobInHand]] = []
    built: list[int] = []
    failed: list[int] = []
    version: list[str | None] = []
    model: list[str | None] = []
    os: list[str | None] = []
    cores: list[int | None] = []
    memory_bytes: list[int | None] = []
    memory_available_bytes: list[int | None] = []
    disk_free_bytes: list[int | None] = []
    load_1m: list[float | None] = []
    temperature_c: list[float | None] = []
    throttled: list[bool | None] = []
    undervoltage: list[bool | None] = []

    @model_validator(mode="after")
    def _are_equally_long(self) -> Self:
        if {len(getattr(self, name)) for name in BuilderRow._fields} - {0, len(self.name)}:
            raise ValueError("the columns are not equally long")
        if len(self.state) != len(self.name):
            raise ValueError("there are builders without a state")
        return self

    @classmethod
    def of(cls, rows: Sequence[BuilderRow]) -> Self:
        """The columns of rows, which are believed as they are."""
        columns = dict(zip(BuilderRow._fields, zip(*rows, strict=True), strict=True)) if rows else {}
        usual = BuilderRow._field_defaults
        told: dict[str, Any] = {
            name: list(column)
            for name, column in columns.items()
            if name not in usual or any(value != usual[name] for value in column)
        }
        return cls.model_construct(**told)

    def rows(self) -> list[BuilderRow]:
        """The rows of these columns."""
        usual = BuilderRow._field_defaults
        columns = [getattr(self, name) or repeat(usual.get(name)) for name in BuilderRow._fields]
        return list(map(BuilderRow._make, zip(*columns, strict=False))) if self.name else []


class FarmView(Message):
    """The farm at a glance, at `at` by the master's clock.

    `queue` is how many jobs are ready per target, `jobs` how many are in each state. `hours` are the last 24,
    oldest first, without gaps; the last one is not over. `builders` counts those that may build,
    `builders_up` those of them that were heard of lately, `builders_busy` those that hold a job, and
    `builders_still` those that take none: by order, or by their own decision. `columns` are builders,
    where they were asked for, those that stand worst first, then by name, and `rows` the same as rows. The
    disk is that of the wheels.
    """

    at: AwareDatetime
    version: str
    mode: Mode = Mode.RUN
    why: str | None = None
    queue: dict[str, int] = {}
    jobs: dict[str, int] = {}
    hours: list[HourCount] = []
    builders: int = 0
    builders_up: int = 0
    builders_busy: int = 0
    builders_still: int = 0
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    wheels: int = 0
    wheels_bytes: int = 0
    newest_failure: FailedBuild | None = None
    columns: BuilderColumns = BuilderColumns()

    @functools.cached_property
    def rows(self) -> list[BuilderRow]:
        """The builders that `columns` tell of."""
        return self.columns.rows()


class BuildRow(Message):
    """A build that has ended, as one row of a table."""

    build_id: int
    job_id: int
    project: str
    version: str
    target: str
    builder: str
    outcome: Outcome
    reason: FailureReason | None = None
    captured: str | None = None
    debian_package: str | None = None
    started_at: AwareDatetime
    duration_s: float


class BuildPage(Message):
    """Some builds, newest first.

    `before` asks for the next page; None: there are no more. A page may be short, or empty, and have a next
    one: then so many builds were looked through, and few were as wanted.
    """

    builds: list[BuildRow] = []
    before: int | None = None


class BuildFacts(Message):
    """Everything about one build that has ended: to show, and to save as a report.

    `attempt` counts from 1; `job_state` is where its job stands now. `packages` are Debian's that were added
    to what the builder has. `log_bytes` is None where the log is not kept any more.
    """

    build: BuildRow
    attempt: int
    job_state: JobState
    evidence: str | None = None
    evidence_line: int | None = None
    "Of the log, from 1."
    steps: list[StepTime] = []
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    written_bytes: int | None = None
    environment: BuildEnvironment | None = None
    packages: list[str] = []
    wheel: WheelView | None = None
    wheel_withdrawn: str | None = None
    "Why the wheel is in the index no more."
    log_bytes: int | None = None


@dataclass(frozen=True)
class LogSlice:
    """A part of a log as it is: `data` from the byte `offset` on, of `size_bytes` by now.

    `name` tells one log from another: a job that is leased again gets a new one.
    """

    offset: int
    size_bytes: int
    data: bytes
    name: str = ""

    @property
    def end(self) -> int:
        """Where the next part begins."""
        return self.offset + len(self.data)


class QueuedJob(Message):
    """A job that waits, and for what.

    A delayed one for the time `not_before_at`; a blocked one for the job `blocked_on`, which is about the
    project `blocked_on_project`. `reason` is why its newest build failed.
    """

    job_id: int
    project: str
    version: str
    target: str
    state: JobState
    priority: int = 0
    memory_class: int = 0
    packages: list[str] = []
    created_at: AwareDatetime
    attempts: int = 0
    not_before_at: AwareDatetime | None = None
    blocked_on: int | None = None
    blocked_on_project: str | None = None
    reason: FailureReason | None = None


class QueueLane(Message):
    """How many jobs of a target are ready with one priority, or about so many where not `is_whole`."""

    target: str
    priority: Priority
    jobs: int
    is_whole: bool = True


class QueueView(Message):
    """What waits, and what comes next.

    `lanes` are those that have jobs, in the order in which they are served. `ready` are the next jobs of each
    target, in that order; `delayed` those whose time comes first; `blocked` and `quarantined` the oldest.
    `counts` has how many jobs are in each of these states in all.
    """

    counts: dict[str, int] = {}
    lanes: list[QueueLane] = []
    ready: dict[str, list[QueuedJob]] = {}
    delayed: list[QueuedJob] = []
    blocked: list[QueuedJob] = []
    quarantined: list[QueuedJob] = []


class DayCount(Message):
    """How many builds ended on one day (UTC)."""

    day: date
    built: int = 0
    failed: int = 0


class ReasonDays(Message):
    """How often builds failed for a reason, on each day of a period."""

    reason: FailureReason
    builds: list[int]


class Statistics(Message):
    """The farm over whole days (UTC), `since` and `until` included; every day is there.

    `reasons` are the most frequent first. Wheels are those in the index now, by the tags in their names;
    a name may have several, joined by dots.
    """

    since: date
    until: date
    target: str | None = None
    days: list[DayCount] = []
    reasons: list[ReasonDays] = []
    wheels_by_abi: dict[str, int] = {}
    wheels_by_platform: dict[str, int] = {}


class BuilderDays(Message):
    """How many builds of one builder ended on each day of a period."""

    builder: str
    built: list[int]
    failed: list[int]


class BuilderStatistics(Message):
    """Builds per builder over whole days (UTC); those that built most come first."""

    since: date
    until: date
    builders: list[BuilderDays] = []


class ProjectMatch(Message):
    """A project whose name fits; `is_on_pypi` says whether PyPI has it, as far as the master has heard.

    `is_known`: the master has had a job of it. `popularity` is its place in the operator's list, from 1.
    """

    name: str
    is_on_pypi: bool = False
    is_known: bool = False
    newest_at: AwareDatetime | None = None
    popularity: int | None = None


class RetryRequest(Message):
    """A person wants jobs tried again that failed for one reason, of one target or project or of all."""

    target: str | None = Field(None, max_length=100)
    project: str | None = Field(None, max_length=200)


class RetryAnswer(Message):
    """How many jobs are ready again; `is_whole` is False where there may be more, for another request."""

    jobs: int
    is_whole: bool = True
