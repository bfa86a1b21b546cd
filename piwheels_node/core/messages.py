# SPDX-License-Identifier: BSD-3-Clause
"""What builders, people and the master say to each other over HTTP, as validated models.

Unknown fields are ignored, so that an older peer understands a newer one; times are UTC and aware.
This module imports only the standard library, pydantic and `core`.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Step

Name = Annotated[str, Field(min_length=1, max_length=200)]
BuilderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
LOG_PART_BYTES = 64 << 10
"""The most of a log that a message carries."""

LeaseToken = Annotated[str, Field(min_length=16, max_length=64)]
Amount = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""What a database can store."""


class Message(BaseModel):
    """Base of all messages; a message is a value and never changes."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SdistFile(Message):
    """The source distribution that a job is about, as PyPI lists it."""

    filename: Annotated[str, Field(max_length=255)]
    url: str
    sha256: Sha256
    size_bytes: int | None = None
    uploaded_at: AwareDatetime | None = None


class Limits(Message):
    """What one build may use; each limit ends the build with its own reason."""

    timeout_s: float = 3 * 3600
    silence_s: float = 3600
    log_bytes: int = 64 << 20
    wheel_bytes: int = 2 << 30


class OfferedTarget(Message):
    """A target that a builder serves, and the identity of the environment it would build in."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    environment_id: Annotated[str, Field(max_length=64)]


Offer = Annotated[list[OfferedTarget], Field(max_length=64)]
"""All that one builder serves."""


class Machine(Message):
    """What a builder runs on. `fingerprint` tells one machine from another, a cloned SD card's too."""

    fingerprint: Sha256
    model: Name | None = None
    os: Name | None = None
    kernel: Name | None = None
    cores: Annotated[int | None, Field(ge=1, le=1 << 20)] = None
    memory_bytes: Amount | None = None


class JoinRequest(Message):
    """A machine shows a join token, and wants to be a builder called `name`."""

    token: Annotated[str, Field(min_length=16, max_length=200)]
    name: BuilderName
    machine: Machine
    key: Annotated[str | None, Field(max_length=200)] = None
    "The key that it has already, if it joined before: then nothing changes but the name."


class JoinAnswer(Message):
    """The builder's key, shown only here."""

    name: Name
    key: str
    state: BuilderState


class Hello(Message):
    """A builder has just started: it holds no job, and this is what it is and offers.

    `session` is drawn at random by each process that starts, and sent with every later request: where
    another process comes with the same key, the earlier one is told so, and stops.
    """

    targets: Offer
    session: Annotated[str | None, Field(min_length=16, max_length=64)] = None
    version: Annotated[str | None, Field(max_length=50)] = None
    slots: Annotated[int, Field(ge=1, le=1024)] = 1
    machine: Machine | None = None


class Orders(Message):
    """What a builder has been told to do. `serial` grows with every change.

    `skip` are jobs that it must stop building and say no more about.
    """

    serial: int
    mode: Mode = Mode.RUN
    why: str | None = None
    skip: list[int] = []
    state: BuilderState = BuilderState.ACTIVE


class OrdersRequest(Message):
    """A builder asks for its orders, and waits up to `wait_s` until they are not those of `seen`."""

    seen: Annotated[int, Field(ge=-1, le=2**63 - 1)] = -1
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0
    paused_itself: Annotated[str | None, Field(max_length=500)] = None
    "Why it takes no jobs by its own decision; None: it does."


class LeaseRequest(Message):
    """A builder asks for a job, and waits up to `wait_s` for one."""

    targets: Offer
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0
    memory_bytes: Amount | None = None
    "What one build may use here; None: it is not known, and only jobs of the least class are wanted."


class Refusal(Message):
    """A builder will not build what it leased: it fits another one better, and `what` says why."""

    token: LeaseToken
    what: Annotated[str, Field(min_length=1, max_length=500)]


class Lease(Message):
    """A job that a builder holds until `expires_in_s` passes without a heartbeat.

    `token` is the fencing token, sent with every later call. `taken_names` are wheel file names of this
    release that PyPI or the index has already used: a new wheel needs another name.
    """

    job_id: int
    token: LeaseToken
    project: Name
    version: Name
    target: Name
    sdist: SdistFile
    taken_names: list[str] = []
    expires_in_s: float
    limits: Limits = Limits()


class Health(Message):
    """How the builder's machine is doing; what it cannot tell is None.

    Pressure (PSI) is the share of the last 10 s, in percent, in which some task waited. `at` is the
    builder's clock: the master tells the skew from it.
    """

    at: AwareDatetime | None = None
    load_1m: float | None = None
    memory_available_bytes: int | None = None
    memory_pressure_percent: float | None = None
    io_pressure_percent: float | None = None
    cpu_pressure_percent: float | None = None
    disk_free_bytes: int | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    undervoltage: bool | None = None
    paused_itself: Annotated[str | None, Field(max_length=500)] = None


class Heartbeat(Message):
    """The builder is at work; sent well before the lease would end."""

    token: LeaseToken
    step: Step
    health: Health = Health()


class HeartbeatAnswer(Message):
    """Carry on, or stop and say no more about this job."""

    carry_on: bool
    expires_in_s: float = 0


class StepTime(Message):
    """How long one step took; a step that was taken twice is listed twice."""

    step: Step
    duration_s: float


class BuildEnvironment(Message):
    """What a build was made with, so that a failure or a wheel can be explained years later."""

    environment_id: Annotated[str, Field(max_length=64)]
    python: str
    release: str
    requirements: list[str] = []
    tools: dict[str, str] = {}
    sandbox: str = ""


class WheelClaim(Message):
    """The wheel that a builder says it has uploaded; the master reads everything again from the bytes."""

    filename: Annotated[str, Field(max_length=255)]
    size_bytes: Annotated[int, Field(gt=0, le=2**63 - 1)]
    sha256: Sha256
    libraries: dict[str, str | None] = {}
    "Shared libraries that it needs from the system, each with the Debian package that has it."


class LogPart(Message):
    """A piece of a log, and the byte that it begins at."""

    offset: Amount
    data: Annotated[Base64Bytes, Field(max_length=LOG_PART_BYTES)]

    @classmethod
    def of(cls, offset: int, data: bytes) -> Self:
        """The piece as it is."""
        return cls(offset=offset, data=base64.b64encode(data))


class Report(Message):
    """How a build ended. `wheel` is there exactly when the outcome is `built`."""

    token: LeaseToken
    outcome: Outcome
    reason: FailureReason | None = None
    captured: Annotated[str | None, Field(max_length=500)] = None
    evidence: Annotated[str | None, Field(max_length=1000)] = None
    evidence_line: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None
    duration_s: float
    steps: list[StepTime] = []
    cpu_s: float | None = None
    peak_memory_bytes: Amount | None = None
    environment: BuildEnvironment | None = None
    wheel: WheelClaim | None = None
    log: LogPart | None = None
    "The end of the log, where it is short enough to need no request of its own."


class ReportAnswer(Message):
    """What the master made of a report: its own checks may turn `built` into `failed`."""

    outcome: Outcome
    reason: FailureReason | None = None
    what: str | None = None


class Upload(Message):
    """How much of an uploaded file has arrived; the next part begins there."""

    offset: int


class BuildRequest(Message):
    """Somebody wants a release. No version: the newest; no target: the master's first."""

    project: Name
    version: Name | None = None
    target: Name | None = None
    force: bool = False
    "Build it even though PyPI serves a wheel of it, or builders died of it."


class BuildView(Message):
    """One build of a job, or the answer about it."""

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
    steps: list[StepTime] = []
    wheel: str | None = None
    size_bytes: int | None = None
    reproducible: bool | None = None


class JobView(Message):
    """A job as people see it; `build` is the newest one."""

    job_id: int
    project: str
    version: str
    target: str
    state: JobState
    step: Step | None = None
    attempts: int
    created_at: AwareDatetime
    build: BuildView | None = None


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


class Problem(Message):
    """An error as the API tells it: the fields of `core.errors.NodeError`."""

    what: str
    where: str | None = None
    hint: str | None = None
    code: str = "error"
    """`lost` (the lease is gone), `offset` (an upload goes on), `superseded` (another process has this key),
    `cloned` (the key is another machine's), `revoked` (the key was taken back), `unavailable` (try again),
    `too-often`, `not-on-pypi`, `pypi`, `storage`, or `error`."""
    offset: int | None = None
    "With the code `offset`: where the upload must go on."


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


class TokenRequest(Message):
    """A person wants a join token."""

    uses: Annotated[int, Field(ge=1, le=10_000)] = 1
    lasts_s: Annotated[float, Field(ge=1, le=366 * 86400)] = 3600
    needs_approval: bool = False
    note: Annotated[str | None, Field(max_length=200)] = None


class TokenView(Message):
    """A join token; `token` itself is there only when it has just been made."""

    token_id: int
    token: str | None = None
    uses_left: int
    created_at: AwareDatetime
    expires_at: AwareDatetime
    needs_approval: bool = False
    note: str | None = None
    revoked: bool = False


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
