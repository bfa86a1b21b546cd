# SPDX-License-Identifier: BSD-3-Clause
"""Ask a master for releases, follow their jobs to the end, and say how each ended.

`standalone` and `build` both do this; they differ only in where the master is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from piwheels_node.client import MasterClient
from piwheels_node.core.errors import EXIT_FAILED, EXIT_OK, MasterError, NotOnPyPIError, PyPIError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import BuildRequest, JobView, RequestAnswer
from piwheels_node.core.text import harmless

_POLL_S = 0.25
_SLOW_POLL_S = 1.0
_SOON_S = 60.0
_WIDE = 110


@dataclass(frozen=True)
class Result:
    """How one request ended; `duration_s` is the time of the build, 0 where none was needed."""

    project: str
    version: str | None
    outcome: Outcome
    reason: FailureReason | None = None
    captured: str | None = None
    debian_package: str | None = None
    fix: int | None = None
    "The rule that is proposed for it."
    packages: tuple[str, ...] = ()
    "The Debian packages that were added."
    wheel: str | None = None
    size_bytes: int | None = None
    duration_s: float = 0.0
    message: str | None = None
    "What to read where the reason is not enough."

    def as_dict(self) -> dict[str, object]:
        """As `--json` prints it."""
        return {**asdict(self), "outcome": self.outcome.value, "reason": self.reason and self.reason.value}


class Progress(Protocol):
    """Who shows what is going on."""

    def asking(self, request: BuildRequest) -> None:
        """The master is asked for a release."""

    def queued(self, job: JobView) -> None:
        """There is a job for it."""

    def moved(self, project: str, version: str, step: Step | None) -> None:
        """The job has come to a step."""

    def waits(self, job: JobView) -> None:
        """The job waits for another one, or for a build with more Debian packages."""

    def ended(self, result: Result) -> None:
        """A request has its result."""

    def wait(self, seconds: float) -> None:
        """Wait that long, or until there is news."""


def ask_and_follow(
    client: MasterClient, requests: Iterable[BuildRequest], progress: Progress, *, steps: bool = True
) -> list[Result]:
    """Ask for every release, then wait for all jobs; results come in the order of the requests.

    `steps` False: the progress hears of steps from elsewhere, sooner than the master does. Projects are
    named as they were asked for, which the master spells its own way (PEP 503).
    """
    asked = list(requests)
    results: dict[int, Result] = {}
    jobs: dict[int, JobView] = {}

    def end(number: int, result: Result) -> None:
        results[number] = replace(result, project=asked[number].project)
        progress.ended(results[number])

    for number, request in enumerate(asked):
        progress.asking(request)
        answer = _ask(client, request)
        if isinstance(answer, Result) or answer.job is None or answer.outcome:
            end(number, answer if isinstance(answer, Result) else _of_answer(answer))
        else:
            jobs[number] = answer.job
            progress.queued(answer.job)
    started = time.monotonic()
    while jobs:
        for number, job in list(jobs.items()):
            now = client.job(job.job_id)
            came_back = now.rounds > job.rounds  # where a builder is free it is ready for a moment only
            if came_back or now.state is JobState.BLOCKED or (now.rounds and now.state is JobState.READY):
                progress.waits(now)
            if steps and now.state is JobState.LEASED:
                progress.moved(now.project, now.version, now.step)
            jobs[number] = now
            if now.state.is_final:
                del jobs[number]
                end(number, _of_job(now))
        if jobs:
            progress.wait(_POLL_S if time.monotonic() - started < _SOON_S else _SLOW_POLL_S)
    return [results[number] for number in sorted(results)]


def exit_code(results: Iterable[Result]) -> int:
    """0 where everything that was named is built or covered, else 3."""
    return EXIT_FAILED if any(one.outcome is Outcome.FAILED for one in results) else EXIT_OK


def print_json(results: Iterable[Result]) -> None:
    """Print a list of objects on standard output."""
    print(json.dumps([one.as_dict() for one in results], indent=2))  # noqa: T201 - this is what was asked for


def print_table(results: list[Result]) -> None:
    """Print what became of everything; names of packages and files are never read as markup.

    A narrow terminal gets the tags of a wheel in place of its whole name, whose rest is in the row already.
    """
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("package", overflow="fold")
    table.add_column("outcome", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("wheel", no_wrap=True)
    for one in results:
        table.add_row(
            Text(_name(one)),
            describe(one),
            f"{one.duration_s:.1f} s" if one.duration_s else "",
            _size(one.size_bytes),
            Text(_wheel(one, console.width)),
        )
    console.print(table)
    for one in results:
        if note := explain(one):
            console.print(Text(f"{_name(one)}: {harmless(note)}"))


def describe(result: Result) -> Text:
    """The outcome in a few words: `built`, or `missing-header cups/http.h`."""
    if result.outcome is Outcome.BUILT:
        return Text("built" if result.duration_s else "built before", style="green")
    if result.outcome is Outcome.COVERED:
        return Text("PyPI has it", style="cyan")
    words = [str(result.reason or "failed"), result.captured or ""]
    return Text(harmless(" ".join(filter(None, words))), style="red")


def waiting_words(job: JobView) -> str:
    """What a job waits for: `waits for job 7`, or `again, with libffi-dev`."""
    if job.blocked_on is not None:
        return f"waits for job {job.blocked_on}, which builds what it needs"
    return f"again, with {', '.join(job.packages)}" if job.packages else "again"


def explain(result: Result) -> str | None:
    """What to know, or to do, about a result; None where there is nothing to add."""
    if result.outcome is Outcome.BUILT and result.packages:
        return f"built with {', '.join(result.packages)}, added for its build alone"
    if result.outcome is not Outcome.FAILED:
        return None
    if result.debian_package and result.fix is not None:
        return (
            f"sudo apt install {result.debian_package}, then ask again; or add it for this project's builds "
            f"alone: piwheels-node master fixes accept {result.fix}"
        )
    if result.debian_package:
        return f"sudo apt install {result.debian_package}, then ask again"
    return result.message or (result.reason.sentence if result.reason else None)


def _name(result: Result) -> str:
    return harmless(f"{result.project} {result.version or ''}".rstrip())


def _wheel(result: Result, width: int) -> str:
    if result.wheel and width < _WIDE:
        return "-".join(result.wheel.removesuffix(".whl").split("-")[2:])
    return harmless(result.wheel or "")


def _ask(client: MasterClient, request: BuildRequest) -> RequestAnswer | Result:
    """What the master says; a refusal of one request is its result, and the others go on."""
    try:
        return client.request(request)
    except (NotOnPyPIError, PyPIError) as error:
        unknown = isinstance(error, NotOnPyPIError)
        reason = FailureReason.NOT_ON_PYPI if unknown else FailureReason.FETCH_FAILED
        return Result(request.project, request.version, Outcome.FAILED, reason=reason, message=str(error))
    except MasterError as error:
        if not error.refused:
            raise
        return Result(request.project, request.version, Outcome.FAILED, message=str(error))


def _of_answer(answer: RequestAnswer) -> Result:
    """The result of a request that needs no waiting."""
    if answer.job and answer.job.build and answer.job.state.is_final:
        return replace(_of_job(answer.job), duration_s=0.0)
    assert answer.outcome is not None  # noqa: S101 - without a job there is an outcome
    return Result(
        answer.project,
        answer.version,
        answer.outcome,
        reason=answer.reason,
        wheel=answer.wheel,
        size_bytes=answer.size_bytes,
        message=answer.what,
    )


def _of_job(job: JobView) -> Result:
    build = job.build
    if build is None or job.state is JobState.CANCELLED:
        return Result(job.project, job.version, Outcome.FAILED, message=f"the job is {job.state.value}")
    return Result(
        job.project,
        job.version,
        Outcome.BUILT if job.state is JobState.BUILT else Outcome.FAILED,
        reason=build.reason,
        captured=build.captured,
        debian_package=build.debian_package,
        fix=job.fix,
        packages=tuple(build.packages),
        wheel=build.wheel,
        size_bytes=build.size_bytes,
        duration_s=round(build.duration_s, 3),
        message=build.evidence,
    )


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    for unit, factor in (("MB", 1_000_000), ("kB", 1_000)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"
