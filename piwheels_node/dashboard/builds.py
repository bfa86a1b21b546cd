# SPDX-License-Identifier: BSD-3-Clause
"""One build, or the job that it belongs to: what is asked of it, and the words that tell it.

    about "17"      job 17: what it builds now, or its newest build
    about "17/3"    build 3 of job 17

The log is asked for together with the rest, one part each time; see `logs`.
This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from piwheels_node.client.port import Watched
from piwheels_node.core.errors import MasterError
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import BuildFacts, BuildRow, JobView, LogSlice
from piwheels_node.dashboard.logs import ReadLog, Wish, fetch
from piwheels_node.dashboard.words import (
    Cell,
    Line,
    Place,
    Role,
    ago,
    amount,
    elapsed,
    joined,
    memory,
    place,
)

EARLIER = 50
"""How many builds of the project are listed."""

_STATES = {
    JobState.BUILT: Role.GOOD,
    JobState.LEASED: Role.BUSY,
    JobState.FAILED: Role.BAD,
    JobState.QUARANTINED: Role.BAD,
    JobState.DELAYED: Role.WARN,
    JobState.BLOCKED: Role.WARN,
}


@dataclass(frozen=True)
class About:
    """What the page is about: a job, and the one of its builds that was chosen, if any."""

    job_id: int
    build_id: int | None = None

    @classmethod
    def of(cls, about: str) -> About:
        """Read the second part of a place; what is no number is job 0, which no master has."""
        job, _, build = about.partition("/")
        return cls(int(job) if job.isdecimal() else 0, int(build) if build.isdecimal() else None)


@dataclass(frozen=True)
class LogPartAsked:
    """A part of the log that was wanted, and what came."""

    wish: Wish
    part: LogSlice


@dataclass(frozen=True)
class BuildSight:
    """A build as it was seen at a moment; `facts` are None while nothing has ended."""

    job: JobView
    facts: BuildFacts | None
    earlier: tuple[BuildRow, ...]
    at: datetime
    log: LogPartAsked | None = None
    no_log: str = ""
    "Why there is no log."

    @property
    def is_live(self) -> bool:
        """True while it is being built, so that the log grows."""
        return self.facts is None and self.job.state is JobState.LEASED


def look_at(
    master: Watched, about: About, before: BuildSight | None, wish: Wish | None, now: datetime | None = None
) -> BuildSight:
    """Ask how it stands; what cannot have changed since `before` is not asked again."""
    job = master.job(about.job_id)
    facts = _facts(master, about, job, before)
    earlier = before.earlier if before and _stands_still(before.job, job) else None
    if earlier is None:
        earlier = tuple(master.builds(project=job.project, limit=EARLIER).builds)
    asked, no_log = None, before.no_log if before else ""
    if wish is not None:
        try:
            asked, no_log = LogPartAsked(wish, fetch(log_of(master, job, facts), wish)), ""
        except MasterError as error:
            if not error.refused:
                raise
            no_log = error.what
    return BuildSight(job, facts, earlier, now or datetime.now(UTC), asked, no_log)


def log_of(master: Watched, job: JobView, facts: BuildFacts | None) -> ReadLog:
    """How the log is read: that of a build that has ended, or that of the job's newest lease."""

    def read(offset: int = 0, *, last: int | None = None, line: int | None = None) -> LogSlice:
        if facts is not None:
            return master.build_log(facts.build.build_id, offset, last=last, line=line)
        return master.job_log(job.job_id, offset, last=last, line=line)

    return read


def _facts(master: Watched, about: About, job: JobView, before: BuildSight | None) -> BuildFacts | None:
    wanted = about.build_id
    if wanted is None:
        wanted = job.build.build_id if job.build and job.state is not JobState.LEASED else None
    if wanted is None:
        return None
    known = before.facts if before else None
    if before and known and known.build.build_id == wanted and _stands_still(before.job, job):
        return known
    return master.build(wanted)


def _stands_still(before: JobView, job: JobView) -> bool:
    return (before.state, before.attempts, before.build) == (job.state, job.attempts, job.build)


# --- in words ------------------------------------------------------------------------------------------


def title(sight: BuildSight) -> list[Cell]:
    """What is built, for which target, and how it stands."""
    job = sight.job
    line = [
        Cell(f" {job.project} {job.version}", Role.STRONG, Place("packages", job.project)),
        Cell(f"  {job.target}  "),
    ]
    if sight.facts and sight.facts.build.outcome is not Outcome.FAILED:
        line.append(Cell(sight.facts.build.outcome.value, Role.GOOD))
    elif sight.facts:
        line.append(Cell("failed", Role.BAD))
    if sight.facts is None or sight.facts.job_state is not _of(sight.facts):
        line.append(Cell(_standing(sight), _STATES.get(job.state, Role.PLAIN)))
    return line


def _of(facts: BuildFacts) -> JobState:
    return JobState.FAILED if facts.build.outcome is Outcome.FAILED else JobState.BUILT


def _standing(sight: BuildSight) -> str:
    """How the job stands, where that is another thing than how the build ended."""
    job = sight.job
    word = "building" if job.state is JobState.LEASED else job.state.value
    said = f", the job is {word}" if sight.facts else word
    if job.state is JobState.LEASED:
        step = f": {job.step.value}" if job.step else ""
        return said + step
    return said


def told(sight: BuildSight) -> list[tuple[str, Line]]:
    """Names and values, those of a failure first."""
    return [*_why(sight), *_where(sight), *_what_it_took(sight), *_what_it_made(sight)]


def _why(sight: BuildSight) -> list[tuple[str, Line]]:
    facts = sight.facts
    if facts is None or facts.build.reason is None:
        return []
    build = facts.build
    assert build.reason is not None  # noqa: S101 - asked two lines above
    reason: list[Cell] = [
        Cell(str(build.reason), Role.BAD, Place("failures", str(build.reason))),
        Cell(f"  {build.captured}" if build.captured else "", Role.STRONG),
        Cell(f"  {build.reason.sentence}"),
    ]
    line = f"line {facts.evidence_line:,}  " if facts.evidence_line else ""
    return [
        ("reason", reason),
        ("shown by", [Cell(line if facts.evidence else "", Role.FAINT), Cell(facts.evidence or "")]),
        ("in Debian", [Cell(build.debian_package or "", Role.WARN)]),
    ]


def _where(sight: BuildSight) -> list[tuple[str, Line]]:
    job, facts = sight.job, sight.facts
    if facts is not None:
        build = facts.build
        line = [
            Cell(build.builder, Role.PLAIN, Place("builder", build.builder) if build.builder else None),
            Cell(f"  {elapsed(build.duration_s)}"),
            Cell(f"  {_when(build.started_at, sight.at)}"),
            Cell(f"  attempt {facts.attempt}" if facts.attempt > 1 else "", Role.FAINT),
        ]
        return [("built by", line)]
    if job.builder:
        since = f"  for {elapsed((sight.at - job.leased_at).total_seconds())}" if job.leased_at else ""
        return [
            ("built by", [Cell(job.builder, Role.PLAIN, Place("builder", job.builder)), Cell(since)]),
            ("step", _steps_live(job.step)),
        ]
    waits = [Cell(f"job {job.blocked_on}", Role.WARN, place(job.blocked_on))] if job.blocked_on else []
    return [("waits for", waits), ("asked for", [Cell(_when(job.created_at, sight.at))])]


def _when(at: datetime, now: datetime) -> str:
    word = ago(at, now)
    return word if word == "now" else f"{word} ago"


def _steps_live(current: Step | None) -> list[Cell]:
    """All six, the one that goes on marked: by brackets too."""
    line: list[Cell] = []
    reached = False
    for step in Step:
        is_now = step is current
        reached = reached or is_now
        role = Role.BUSY if is_now else (Role.FAINT if reached else Role.GOOD)
        line.append(Cell(f"[{step.value}] " if is_now else f"{step.value} ", role))
    return line


def _what_it_took(sight: BuildSight) -> list[tuple[str, Line]]:
    facts = sight.facts
    if facts is None:
        return []
    steps = joined(
        [
            [Cell(f"{one.step.value} ", Role.FAINT), Cell(_short(one.duration_s), Role.PLAIN)]
            for one in facts.steps
        ]
    )
    used = joined(
        [
            [Cell(name + " ", Role.FAINT), Cell(value)]
            for name, value in (
                ("processor", _short(facts.cpu_s) if facts.cpu_s is not None else ""),
                ("memory", memory(facts.peak_memory_bytes) if facts.peak_memory_bytes is not None else ""),
                ("written", amount(facts.written_bytes) if facts.written_bytes is not None else ""),
            )
            if value
        ]
    )
    return [("steps", steps), ("used", used), ("in", _environment(facts))]


def _short(seconds: float) -> str:
    return f"{seconds:.1f}s" if 0 < seconds < 1 else elapsed(seconds)


def _environment(facts: BuildFacts) -> list[Cell]:
    environment = facts.environment
    if environment is None:
        return []
    parts = [f"Python {environment.python}" if environment.python else "", environment.release or ""]
    parts += [f"{name} {version}" for name, version in sorted(environment.tools.items())]
    return [Cell("  ".join(filter(None, parts)))]


def _what_it_made(sight: BuildSight) -> list[tuple[str, Line]]:
    facts = sight.facts
    packages = facts.packages if facts else sight.job.packages
    told: list[tuple[str, Line]] = [("with", [Cell(", ".join(packages))])]
    if facts is None or facts.wheel is None:
        return told
    wheel = facts.wheel
    libraries = [
        f"{soname} ({package})" if package else soname for soname, package in wheel.libraries.items()
    ]
    withdrawn = [Cell(f"  withdrawn: {facts.wheel_withdrawn}", Role.WARN)] if facts.wheel_withdrawn else []
    return [
        *told,
        ("wheel", [Cell(wheel.filename, Role.GOOD), Cell(f"  {amount(wheel.size_bytes)}"), *withdrawn]),
        ("needs", [Cell(", ".join(libraries))]),
    ]


def report(sight: BuildSight, last_lines: Sequence[str]) -> str:
    """The build as a text, for whoever is to mend it: what is known, and the end of the log."""
    lines = ["".join(cell.words for cell in title(sight)).strip(), ""]
    for name, value in told(sight):
        words = "".join(cell.words for cell in value).strip()
        if words:
            lines.append(f"{name}: {words}")
    return "\n".join([*lines, "", "The end of its log:", "", *(f"    {line}" for line in last_lines), ""])
