# SPDX-License-Identifier: BSD-3-Clause
"""What a builder and its master say to each other: hello and orders; a lease, and all that belongs to it."""

from __future__ import annotations

import base64
from typing import Annotated, Self

from pydantic import AwareDatetime, Base64Bytes, Field

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Step
from piwheels_node.core.messages.base import (
    LOG_PART_BYTES,
    Amount,
    LeaseToken,
    Message,
    Name,
    Packages,
    Sha256,
)
from piwheels_node.core.messages.joining import Machine


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
    """A target that a builder serves, and the identity of the environment it would build in.

    `layers`: it can add Debian packages to what the sandbox shows, for one build (`Lease.packages`).
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    environment_id: Annotated[str, Field(max_length=64)]
    layers: bool = False


Offer = Annotated[list[OfferedTarget], Field(max_length=64)]
"""All that one builder serves."""


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
    "What the next build may use here; None: it is not known, and only jobs of the least class are wanted."

    most_memory_bytes: Amount | None = None
    "What a build may use here that has the machine to itself; None: no more than that."


class Refusal(Message):
    """A builder will not build what it leased: it fits another one better, and `what` says why."""

    token: LeaseToken
    what: Annotated[str, Field(min_length=1, max_length=500)]


class Lease(Message):
    """A job that a builder holds until `expires_in_s` passes without a heartbeat.

    `token` is the fencing token, sent with every later call. `taken_names` are wheel file names of this
    release that PyPI or the index has already used: a new wheel needs another name. `packages` are Debian
    packages that must be in a layer of the build root; only who offers layers for the target is sent any.
    `memory_bytes` is what a build of the project must have, as earlier ones have shown; 0: nothing special.
    """

    job_id: int
    token: LeaseToken
    project: Name
    version: Name
    target: Name
    sdist: SdistFile
    taken_names: list[str] = []
    memory_bytes: Amount = 0
    packages: Packages = []
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
    versions: Annotated[dict[str, Annotated[str, Field(max_length=100)]], Field(max_length=20)] = {}
    "Of piwheels-node, of Python and of the kernel: what may be another one after the next start."


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
    """What a build was made with, so that a failure or a wheel can be explained years later.

    `root` is the build root as NAME:IDENTITY, `layers` the Debian packages added to it, as NAME=VERSION.
    """

    environment_id: Annotated[str, Field(max_length=64)]
    python: str
    release: str
    requirements: list[str] = []
    tools: dict[str, str] = {}
    sandbox: str = ""
    root: Annotated[str, Field(max_length=200)] = ""
    layers: Annotated[list[str], Field(max_length=1000)] = []


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
    written_bytes: Amount | None = None
    "What the build wrote to a disk; files in memory do not count. None: the kernel does not tell."
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
