# SPDX-License-Identifier: BSD-3-Clause
"""The account at the end: does everything agree with everything?

    job         ended, holds no lease; its events are a possible story with one end
    build       one that built for each job that is built, none for the others
    wheel       the bytes on the disk and over HTTP, the database and what its builder sent are the same
    index       lists each wheel, and nothing else
    counter     equals what is counted
    ledger      what a builder was told is true; nothing was built twice; nobody was told what must not be
    person      what was cancelled is cancelled, and nothing else; who was paused runs again

Each check gives complaints; no complaint from any is what closes the account.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.builders import Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import EventKind, JobState, Outcome
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    Build,
    Builder,
    Counter,
    Event,
    Job,
    Project,
    Release,
    Wheel,
)
from simulator.ledger import Attempt, Ledger

_MOST_SHOWN = 40
_FILES_READ = 500
"""So many wheels are fetched over HTTP; on the disk all are read."""

_LOGS_READ = 200
_JSON = "application/vnd.pypi.simple.v1+json"
_NO_PAGE = b'{"files": []}'

_WAITING, _DELAYED, _HELD, _LOST, _ENDED = "ready", "delayed", "held", "lost", "ended"
_STORY: dict[tuple[str, EventKind], str] = {
    ("", EventKind.QUEUED): _WAITING,
    (_WAITING, EventKind.LEASED): _HELD,
    (_HELD, EventKind.REFUSED): _WAITING,
    (_HELD, EventKind.HANDED_BACK): _WAITING,
    (_HELD, EventKind.LOST): _LOST,
    (_HELD, EventKind.RETRY): _DELAYED,
    (_LOST, EventKind.RETRY): _DELAYED,
    (_DELAYED, EventKind.AWAKE): _WAITING,
    (_LOST, EventKind.QUARANTINED): _ENDED,
    (_HELD, EventKind.BUILT): _ENDED,
    (_HELD, EventKind.FAILED): _ENDED,
    (_WAITING, EventKind.CANCELLED): _ENDED,
    (_DELAYED, EventKind.CANCELLED): _ENDED,
    (_HELD, EventKind.CANCELLED): _ENDED,
}
"""What may follow what: where a job stands, an event, and where it stands then."""

_LASTING = frozenset({EventKind.STEP, EventKind.RAISED, EventKind.PROPOSED, EventKind.EQUIPPED})
_END = {
    JobState.BUILT: EventKind.BUILT,
    JobState.FAILED: EventKind.FAILED,
    JobState.QUARANTINED: EventKind.QUARANTINED,
    JobState.CANCELLED: EventKind.CANCELLED,
}


@dataclass
class Account:
    """What was found: figures, and complaints."""

    figures: dict[str, int]
    complaints: list[str]

    @property
    def closes(self) -> bool:
        """True where there is nothing to complain about."""
        return not self.complaints


@dataclass(frozen=True)
class Rows:
    """The database, read once: fleets are small enough."""

    jobs: dict[int, Job]
    builds: dict[int, list[Build]]
    wheels: list[Wheel]
    events: dict[int, list[Event]]
    counters: dict[str, int]
    builders: dict[int, str]
    halted: list[str]
    "Builders that were told to stand still."

    projects: dict[int, str]
    "Names by the number of a release."

    @classmethod
    def read(cls, session: Session) -> Rows:
        """Read all of it, in the order in which it was written."""
        builds, events = defaultdict(list), defaultdict(list)
        for build in session.scalars(select(Build).order_by(Build.id)):
            builds[build.job_id].append(build)
        for event in session.scalars(select(Event).order_by(Event.id)):
            events[event.job_id].append(event)
        named = select(Release.id, Project.name).join(Project, Release.project_id == Project.id)
        return cls(
            jobs={job.id: job for job in session.scalars(select(Job))},
            builds=builds,
            wheels=list(session.scalars(select(Wheel))),
            events=events,
            counters={row.name: row.value for row in session.scalars(select(Counter))},
            builders={row.id: row.name for row in session.scalars(select(Builder))},
            halted=list(session.scalars(select(Builder.name).where(Builder.mode != Mode.RUN))),
            projects={row.id: row.name for row in session.execute(named)},
        )


def close(url: str, data: Path, jobs: int, ledger: Ledger, *, master: str) -> Account:
    """Compare everything; a master at the URL `master` must still run, and nobody may be building."""
    with Database.open(url) as database, database.read() as session:
        rows = Rows.read(session)
    complaints = [
        *_jobs(rows, jobs),
        *_stories(rows),
        *_builds(rows),
        *_wheels(rows, data, ledger),
        *_index(rows, master),
        *_counters(rows),
        *_told(rows, ledger),
        *_people(rows, ledger),
        *_logs(rows, ledger, master),
        *(f"{count} times: {what}" for what, count in ledger.wrong.items()),
    ]
    states = Tally(job.state.value for job in rows.jobs.values())
    figures = dict(states) | {
        "builds": sum(map(len, rows.builds.values())),
        "wheels": len(rows.wheels),
        "leases": sum(event.kind == EventKind.LEASED.value for one in rows.events.values() for event in one),
        "lost": sum(event.kind == EventKind.LOST.value for one in rows.events.values() for event in one),
        "unknown to the ledger": len(_unknown_files(rows, data)),
    }
    return Account(figures, complaints)


def _jobs(rows: Rows, wanted: int) -> Iterator[str]:
    if len(rows.jobs) != wanted:
        yield f"{wanted} jobs were put in, {len(rows.jobs)} are there"
    for job in rows.jobs.values():
        if job.state not in _END:
            yield f"job {job.id} has not ended: {job.state.value}"
        if job.lease_token or job.lease_until_at or job.builder_id:
            yield f"job {job.id} is {job.state.value}, and its lease has leaked"


def _stories(rows: Rows) -> Iterator[str]:
    for job in rows.jobs.values():
        stands = ""
        for event in rows.events[job.id]:
            kind = EventKind(event.kind)
            if kind in _LASTING:
                continue
            after = _STORY.get((stands, kind))
            if after is None:
                kinds = " ".join(one.kind for one in rows.events[job.id])
                yield f"job {job.id}: '{kind.value}' cannot follow where it is '{stands}': {kinds}"
                break
            stands = after
        else:
            last = rows.events[job.id][-1].kind
            if job.state in _END and last != _END[job.state].value:
                yield f"job {job.id} is {job.state.value}, but its last event is {last}"


def _builds(rows: Rows) -> Iterator[str]:
    with_wheel = Tally(wheel.build_id for wheel in rows.wheels)
    for job in rows.jobs.values():
        builds = rows.builds[job.id]
        built = [build for build in builds if build.outcome is Outcome.BUILT]
        if len(built) != (job.state is JobState.BUILT):
            yield f"job {job.id} is {job.state.value}, with {len(built)} builds that built"
        if any(with_wheel[build.id] != 1 for build in built):
            yield f"job {job.id} was built, and has not one wheel"
        if job.state in {JobState.FAILED, JobState.QUARANTINED} and not builds:
            yield f"job {job.id} is {job.state.value}, and nobody has tried"
        kinds = Tally(event.kind for event in rows.events[job.id])
        lost = sum(build.reason is FailureReason.BUILDER_LOST for build in builds)
        if lost != kinds["lost"]:
            yield f"job {job.id} was lost {kinds['lost']} times, and has {lost} builds that say so"
        ended = kinds["built"] + kinds["failed"] + kinds["retry"] + kinds["quarantined"]
        if len(builds) != ended:
            yield f"job {job.id} has {len(builds)} builds, and {ended} events that end one"


def _wheels(rows: Rows, data: Path, ledger: Ledger) -> Iterator[str]:
    sent = {attempt.sha256: attempt for attempt in ledger.attempts if attempt.sha256}
    by_build = {build.id: build for builds in rows.builds.values() for build in builds}
    for wheel in rows.wheels:
        path = data / "wheels" / rows.projects[wheel.release_id] / wheel.filename
        if not path.is_file():
            yield f"{wheel.filename} is not on the disk"
            continue
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != wheel.sha256 or len(content) != wheel.size_bytes:
            yield f"{wheel.filename} has other bytes than the database says"
        build, attempt = by_build[wheel.build_id], sent.get(wheel.sha256)
        if attempt is None:
            yield f"{wheel.filename} was sent by nobody"
        elif (attempt.job_id, attempt.builder) != (build.job_id, rows.builders[build.builder_id]):
            yield f"{wheel.filename} was sent by {attempt.builder} for job {attempt.job_id}, not as recorded"
        if not path.with_name(f"{wheel.filename}.metadata").is_file():
            yield f"{wheel.filename} has no metadata beside it"


def _unknown_files(rows: Rows, data: Path) -> list[Path]:
    """Wheels on the disk that the database does not name: what a killed master may leave."""
    named = {wheel.filename for wheel in rows.wheels}
    return [path for path in (data / "wheels").rglob("*.whl") if path.name not in named]


def _index(rows: Rows, master: str) -> Iterator[str]:
    pages: dict[str, dict[str, str]] = defaultdict(dict)
    for wheel in rows.wheels:
        pages[rows.projects[wheel.release_id]][wheel.filename] = wheel.sha256
    read = 0
    for project, wheels in sorted(pages.items()):
        page = json.loads(_get(f"{master}/simple/{project}/", Accept=_JSON) or _NO_PAGE)
        listed = {file["filename"]: file["hashes"]["sha256"] for file in page["files"]}
        if listed != wheels:
            yield f"the index of {project} has {sorted(listed)}, not {sorted(wheels)}"
        for file in page["files"]:
            if read < _FILES_READ:
                read += 1
                url = urllib.parse.urljoin(f"{master}/simple/{project}/", file["url"])
                if hashlib.sha256(_get(url)).hexdigest() != file["hashes"]["sha256"]:
                    yield f"{file['filename']} has other bytes over HTTP"


def _counters(rows: Rows) -> Iterator[str]:
    truth: Tally[str] = Tally()
    for job in rows.jobs.values():
        truth[f"jobs.{job.state.value}"] += 1
        if job.state is JobState.READY:
            truth[f"jobs.ready.{job.target_id}"] += 1
        for build in rows.builds[job.id]:
            if build.outcome is Outcome.BUILT:
                truth[f"builder.{build.builder_id}.built"] += 1
        if job.state is JobState.FAILED:
            truth[f"builder.{rows.builds[job.id][-1].builder_id}.failed"] += 1
    for name in ("wheels", "wheels.abi.none", "wheels.platform.any"):  # `world.make_wheel` makes no others
        truth[name] = len(rows.wheels)
    truth["wheels.bytes"] = sum(wheel.size_bytes for wheel in rows.wheels)
    kept = {name for name in rows.counters if name.startswith(("jobs.", "builder.", "wheels"))}
    for name in sorted(kept | set(truth)):
        if rows.counters.get(name, 0) != truth[name]:
            yield f"the counter {name} is {rows.counters.get(name, 0)}, and it should be {truth[name]}"


def _told(rows: Rows, ledger: Ledger) -> Iterator[str]:
    built: dict[int, Attempt] = {}
    published = {wheel.sha256: wheel for wheel in rows.wheels}
    for attempt in ledger.attempts:
        where = f"job {attempt.job_id}, {attempt.builder}"
        wheel = published.get(attempt.sha256)
        if attempt.told == "built":
            if attempt.job_id in built:
                yield f"{where}: also {built[attempt.job_id].builder} was told that it has built it"
            built[attempt.job_id] = attempt
            if wheel is None or wheel.filename != attempt.filename:
                yield f"{where}: was told that {attempt.filename} is built, and it is not"
        elif wheel is not None and not attempt.unsure:
            yield f"{where}: {wheel.filename} is published, and the builder was told '{attempt.told}'"
        if attempt.told == "failed" and not _has_failed(rows, attempt):
            yield f"{where}: was told that its build failed, and there is none"


def _people(rows: Rows, ledger: Ledger) -> Iterator[str]:
    """What a person has cancelled is cancelled, and nothing else; who was paused runs again."""
    cancelled = {job.id for job in rows.jobs.values() if job.state is JobState.CANCELLED}
    for job_id in sorted(cancelled - ledger.cancelled):
        yield f"job {job_id} is cancelled, and nobody has cancelled it"
    for job_id in sorted(ledger.cancelled - cancelled):
        yield f"job {job_id} was cancelled, and is {rows.jobs[job_id].state.value}"
    for name in rows.halted:
        yield f"{name} does not run, and was told to"


def _has_failed(rows: Rows, attempt: Attempt) -> bool:
    return any(
        build.outcome is Outcome.FAILED and rows.builders[build.builder_id] == attempt.builder
        for build in rows.builds[attempt.job_id]
    )


def _logs(rows: Rows, ledger: Ledger, master: str) -> Iterator[str]:
    ended: Sequence[Attempt] = [one for one in ledger.attempts if one.told == "built"][:_LOGS_READ]
    for attempt in ended:
        job = rows.jobs.get(attempt.job_id)
        if job is None or job.state is not JobState.BUILT:
            continue
        log = _get(f"{master}/api/v1/jobs/{attempt.job_id}/log")
        if log != attempt.log:
            yield f"job {attempt.job_id}: the log is {log[:80]!r}, and was sent as {attempt.log[:80]!r}"


def _get(url: str, **headers: str) -> bytes:
    """The body; empty where the master refuses, which no check takes for what it wants."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows our loopback
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError:
        return b""


def shown(complaints: Sequence[str]) -> list[str]:
    """The complaints, as many as a person reads."""
    more = len(complaints) - _MOST_SHOWN
    return [*complaints[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]
