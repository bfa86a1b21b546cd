# SPDX-License-Identifier: BSD-3-Clause
"""What an operator can tell the master from the dashboard: each deed knows what it fits, touches and says.

A deed is done by a function that blocks, off the screen's thread; it gives the sentence that tells the
result.
This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from piwheels_node.client.port import Watched
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.explaining import answer_words
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import (
    BuilderOrder,
    BuilderRow,
    BuilderView,
    BuildRequest,
    JobInHand,
    JobView,
)

WHY = "from the dashboard"
"""What an order says of itself, where nobody gave another word."""


@dataclass(frozen=True)
class JobName:
    """A job as far as deeds need it; `state` None: not known here."""

    job_id: int
    project: str
    version: str
    target: str
    state: JobState | None = None

    @classmethod
    def of(cls, job: JobView) -> JobName:
        """The name of a job that a master told."""
        return cls(job.job_id, job.project, job.version, job.target, job.state)

    def __str__(self) -> str:
        return f"{self.project} {self.version} for {self.target}"


@dataclass(frozen=True)
class BuilderName:
    """A builder as far as deeds need it, and the jobs that it holds."""

    name: str
    state: BuilderState
    mode: Mode
    jobs: tuple[JobName, ...] = ()

    @classmethod
    def of(cls, builder: BuilderRow | BuilderView) -> BuilderName:
        """The name of a builder that a master told."""
        jobs: Iterable[JobInHand | JobView] = builder.jobs
        held = tuple(
            JobName(job.job_id, job.project, job.version, job.target, JobState.LEASED) for job in jobs
        )
        return cls(builder.name, builder.state, builder.mode, held)


@dataclass(frozen=True)
class ReleaseName:
    """A release for a target, of which there may be a job or not."""

    project: str
    version: str
    target: str

    def __str__(self) -> str:
        return f"{self.project} {self.version} for {self.target}"


@dataclass(frozen=True)
class FailedFor:
    """Jobs that failed for one reason, of one project or of all."""

    reason: FailureReason
    project: str | None = None

    def __str__(self) -> str:
        return f"{f'of {self.project} ' if self.project else ''}that failed for {self.reason}"


@dataclass(frozen=True)
class Subject:
    """What an action is about: what is selected, or what the page shows. A builder goes before a job."""

    builder: BuilderName | None = None
    job: JobName | None = None
    release: ReleaseName | None = None
    failed_for: FailedFor | None = None
    farm: Mode | None = None
    """What the whole farm was told, where that is known."""


@dataclass(frozen=True)
class Deed:
    """Something that the master can be told. `question` is asked first, where it is there."""

    fits: Callable[[Subject], bool]
    do: Callable[[Watched, Subject], str]
    question: Callable[[Subject], str] | None = None


def _ordered(mode: Mode, words: str) -> Callable[[Watched, Subject], str]:
    def do(master: Watched, subject: Subject) -> str:
        builder = _builder(subject)
        master.order(builder.name, BuilderOrder(mode=mode, why=None if mode is Mode.RUN else WHY))
        return f"{builder.name} {words}"

    return do


def _farm_ordered(mode: Mode, words: str) -> Callable[[Watched, Subject], str]:
    def do(master: Watched, _subject: Subject) -> str:
        master.order(None, BuilderOrder(mode=mode, why=None if mode is Mode.RUN else WHY))
        return f"the whole farm {words}"

    return do


def _skip(master: Watched, subject: Subject) -> str:
    """Cancel what the builder holds, or the one job."""
    if subject.builder:
        skipped = master.skip(subject.builder.name)
        return _all(skipped, "is cancelled") or f"{subject.builder.name} builds nothing any more"
    job = master.cancel(_job(subject).job_id)
    return _all([job], "is cancelled")


def _kill(master: Watched, subject: Subject) -> str:
    """Cancel, and queue the same jobs again: a job that is cancelled can be wanted once more."""
    jobs = master.skip(subject.builder.name) if subject.builder else [master.cancel(_job(subject).job_id)]
    for job in jobs:
        master.retry(job.job_id)
    return _all(jobs, "is ended, and queued again") or "there was nothing to end any more"


def _retry(master: Watched, subject: Subject) -> str:
    job = _job(subject)
    return f"{job} is {master.retry(job.job_id).state.value} again"


def _request(master: Watched, subject: Subject) -> str:
    wanted = subject.release
    if wanted is None:
        raise AssertionError("this deed is about a release")
    request = BuildRequest(project=wanted.project, version=wanted.version, target=wanted.target)
    return answer_words(master.request(request))


def _retry_failed(master: Watched, subject: Subject) -> str:
    those = _failed_for(subject)
    answer = master.retry_failed(those.reason, project=those.project)
    more = "" if answer.is_whole else ", and there may be more"
    return f"{answer.jobs} {'job is' if answer.jobs == 1 else 'jobs are'} queued again{more}"


def _failed_for(subject: Subject) -> FailedFor:
    if subject.failed_for is None:
        raise AssertionError("this deed is about jobs that failed")
    return subject.failed_for


def _approve(master: Watched, subject: Subject) -> str:
    return f"{master.approve(_builder(subject).name).name} may build"


def _is_active(subject: Subject) -> bool:
    return subject.builder is not None and subject.builder.state is BuilderState.ACTIVE


def _told(subject: Subject, *modes: Mode) -> bool:
    return _is_active(subject) and _builder(subject).mode in modes


def _can_end(subject: Subject) -> bool:
    """Something is at work, or a job is still to be built."""
    if subject.builder:
        return bool(subject.builder.jobs)
    return subject.job is not None and subject.job.state is not None and not subject.job.state.is_final


def _is_building(subject: Subject) -> bool:
    return _can_end(subject) and (subject.job is None or subject.job.state is JobState.LEASED)


def _has_ended(subject: Subject) -> bool:
    if subject.builder or subject.job is None:
        return False
    return subject.job.state is None or subject.job.state.is_final


def _touched(subject: Subject) -> str:
    """What the deed touches, by its names."""
    if subject.builder:
        jobs = ", ".join(f"{job.project} {job.version}" for job in subject.builder.jobs)
        return f"{jobs} on {subject.builder.name}" if jobs else subject.builder.name
    return str(_job(subject))


def _builder(subject: Subject) -> BuilderName:
    if subject.builder is None:
        raise AssertionError("this deed is about a builder")
    return subject.builder


def _job(subject: Subject) -> JobName:
    if subject.job is None:
        raise AssertionError("this deed is about a job")
    return subject.job


def _all(jobs: Iterable[JobView], words: str) -> str:
    return ", ".join(f"{job.project} {job.version} {words}" for job in jobs)


PAUSE = Deed(
    lambda subject: _told(subject, Mode.RUN, Mode.DRAIN), _ordered(Mode.PAUSE, "is told to stand still")
)
RESUME = Deed(lambda subject: _told(subject, Mode.PAUSE, Mode.DRAIN), _ordered(Mode.RUN, "goes on"))
DRAIN = Deed(
    lambda subject: _told(subject, Mode.RUN, Mode.PAUSE),
    _ordered(Mode.DRAIN, "is told to take no more jobs"),
    lambda subject: f"Let {_builder(subject).name} finish what it builds, and take no more jobs?",
)
SKIP = Deed(
    _can_end,
    _skip,
    lambda subject: f"Cancel {_touched(subject)}? Nobody builds it then, until somebody asks for it.",
)
KILL = Deed(
    _is_building,
    _kill,
    lambda subject: f"End {_touched(subject)}? What it has done is lost; it is queued again.",
)
APPROVE = Deed(
    lambda subject: subject.builder is not None and subject.builder.state is BuilderState.PENDING, _approve
)
RETRY = Deed(_has_ended, _retry)
RETRY_FAILED = Deed(
    lambda subject: subject.failed_for is not None,
    _retry_failed,
    lambda subject: f"Build all jobs once more {_failed_for(subject)}?",
)
REQUEST = Deed(lambda subject: subject.release is not None, _request)
PAUSE_FARM = Deed(
    lambda subject: subject.farm in {Mode.RUN, Mode.DRAIN},
    _farm_ordered(Mode.PAUSE, "is told to stand still"),
    lambda _subject: "Let the whole farm stand still? Every build is frozen as it is.",
)
RESUME_FARM = Deed(
    lambda subject: subject.farm in {Mode.PAUSE, Mode.DRAIN}, _farm_ordered(Mode.RUN, "goes on")
)
