# SPDX-License-Identifier: BSD-3-Clause
"""What people and their tools ask of a master, and what they see: jobs, builds, builders, wheels."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages.base import Message, Name, Packages, Sha256
from piwheels_node.core.messages.building import Health, StepTime
from piwheels_node.core.messages.joining import Machine


class BuildRequest(Message):
    """Somebody wants a release. No version: the newest; no target: the master's first."""

    project: Name
    version: Name | None = None
    target: Name | None = None
    force: bool = False
    "Build it even though PyPI serves a wheel of it, or builders died of it."


class BuildView(Message):
    """One build of a job, or the answer about it; `packages` are Debian's, added to what the builder has."""

    build_id: int
    builder: str
    outcome: Outcome
    reason: FailureReason | None = None
    captured: str | None = None
    debian_package: str | None = None
    evidence: str | None = None
    evidence_line: int | None = None
    started_at: AwareDatetime
    duration_s: float
    written_bytes: int | None = None
    "What it wrote to a disk; None: the builder could not tell."
    steps: list[StepTime] = []
    wheel: str | None = None
    size_bytes: int | None = None
    reproducible: bool | None = None
    packages: list[str] = []


class JobView(Message):
    """A job as people see it; `build` is the newest one.

    `packages` are Debian's, which its next build gets in a layer; `rounds` is how often it came back with
    more of them. `blocked_on` is the job that it waits for, `fix` the rule proposed for what it missed.
    `builder` holds it since `leased_at`.
    """

    job_id: int
    project: str
    version: str
    target: str
    state: JobState
    step: Step | None = None
    attempts: int
    created_at: AwareDatetime
    build: BuildView | None = None
    packages: list[str] = []
    rounds: int = 0
    blocked_on: int | None = None
    fix: int | None = None
    builder: str | None = None
    leased_at: AwareDatetime | None = None


class FixRequest(Message):
    """A person says which Debian packages a project needs, on one Debian (`debian13`) or on any."""

    project: Name
    packages: Annotated[Packages, Field(min_length=1)]
    release: Annotated[str | None, Field(pattern=r"^[a-z]+\d+(\.\d+)?$", max_length=32)] = None
    why: Annotated[str | None, Field(max_length=500)] = None


class FixDecision(Message):
    """Why a person wants a rule, or not."""

    why: Annotated[str | None, Field(max_length=500)] = None


class FixView(Message):
    """A rule "this project needs these Debian packages".

    What the master found says what it mends (`reason`, `captured`) and where that was seen (`job_id`,
    `build_id`). `decided_by` is `master` or `person`.
    """

    rule_id: int
    project: str
    packages: list[str]
    state: FixState
    release: str | None = None
    reason: FailureReason | None = None
    captured: str | None = None
    job_id: int | None = None
    build_id: int | None = None
    decided_by: str
    why: str | None = None
    created_at: AwareDatetime
    changed_at: AwareDatetime


class FixAnswer(Message):
    """A rule as it is by now, and the jobs that are ready again because of it."""

    rule: FixView
    jobs: list[int] = []


class RequestAnswer(Message):
    """What became of a request: a job, a wheel that PyPI has, or a failure known without building."""

    project: str
    version: str
    target: str
    outcome: Outcome | None = None
    reason: FailureReason | None = None
    what: str | None = None
    wheel: str | None = None
    size_bytes: int | None = None
    job: JobView | None = None


class EventView(Message):
    """Something that happened to a job."""

    event_id: int
    job_id: int
    at: datetime
    kind: str
    detail: dict[str, str | int | float | bool | None] = {}


class BuilderView(Message):
    """A builder as people see it; `jobs` are those that it holds now."""

    builder_id: int
    name: str
    state: BuilderState
    mode: Mode
    why: str | None = None
    paused_itself: str | None = None
    targets: list[str] = []
    slots: int = 1
    version: str | None = None
    machine: Machine | None = None
    created_at: AwareDatetime
    last_seen_at: AwareDatetime | None = None
    health: Health | None = None
    health_at: AwareDatetime | None = None
    clock_skew_s: float | None = None
    built: int = 0
    failed: int = 0
    jobs: list[JobView] = []


class BuilderEventView(Message):
    """Something that happened to a builder; `kind` is one of `core.builders.BuilderEventKind`."""

    event_id: int
    at: AwareDatetime
    kind: str
    detail: dict[str, str | int | float | bool | None] = {}


class BuilderOrder(Message):
    """A person tells a builder, or all of them, what to do."""

    mode: Mode
    why: Annotated[str | None, Field(max_length=500)] = None


class Purge(Message):
    """A person distrusts what a builder has built since a time."""

    since: AwareDatetime
    why: Annotated[str, Field(min_length=1, max_length=500)]


class PurgeAnswer(Message):
    """What was withdrawn: wheels, whose bytes are blocked now; jobs that are ready again."""

    wheels: list[str] = []
    jobs: int = 0


class Status(Message):
    """The master in a few numbers. `queue` is the number of ready jobs per target."""

    version: str
    targets: list[str]
    jobs: dict[str, int] = {}
    queue: dict[str, int] = {}
    wheels: int = 0
    wheels_bytes: int = 0
    builders: int = 0
    mode: Mode = Mode.RUN
    why: str | None = None
    refused: dict[str, int] = {}
    "Requests that were refused, by what was wrong with them."


class WheelView(Message):
    """A published wheel as people see it."""

    filename: str
    version: str
    sha256: Sha256
    size_bytes: int
    requires_python: str | None = None
    published_at: AwareDatetime
    libraries: dict[str, str | None] = {}


class ProjectView(Message):
    """What the master has of a project: its newest jobs, each with its newest build, and its wheels."""

    name: str
    jobs: list[JobView] = []
    wheels: list[WheelView] = []
