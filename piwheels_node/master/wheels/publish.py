# SPDX-License-Identifier: BSD-3-Clause
"""The one place where a reported build becomes public, or a failure with a reason.

    accept:  the lease is held -> the upload is sealed -> `check` reads it again from its bytes
             -> stored -> one transaction makes it public (`publish_wheel`)
             a report of a failure, or a wheel that does not pass, ends in `record_failure`

The order matters: what the database names is on the disk already, and what is on the disk but not in the
database is nothing to anybody. Nothing here is believed because a builder says it (design, rule 7).
This module knows queue, store and database, and not HTTP. `accept` blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, Select, select, union_all, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, object_session

from piwheels_node.core.errors import StorageError, WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import Limits, Report, ReportAnswer, WheelClaim
from piwheels_node.core.settings import BuildSettings, MasterSettings
from piwheels_node.core.targets import Target
from piwheels_node.master.contents import Contents
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    BlockedWheel,
    Build,
    BuilderTarget,
    Job,
    Project,
    PypiFile,
    Release,
    Wheel,
    WheelLibrary,
)
from piwheels_node.master.jobs import aftermath, blocking, history, lanes, queue, rules
from piwheels_node.master.jobs.aftermath import Judge
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.text import storable
from piwheels_node.master.wheels.store import WheelStore
from piwheels_node.notify import job_fields
from piwheels_node.wheelfile import WheelFacts, read_wheel

UNPACKED_RATIO = 4
"""A wheel may be this many times its largest packed size when unpacked (setting `wheel_max_bytes`)."""

_SHORT_LEASE = timedelta(seconds=60)
_LARGE_WHEEL_BYTES = 32 << 20
"""With more to check, or less time than this, the lease begins anew before the check does."""

_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,199}")
_LONGEST_SONAME = 200
_LONGEST_EVIDENCE = 1000
_LONGEST_REQUIRES = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """What a job is about: the facts that its wheel must match."""

    project: str
    version: str
    target: Target
    taken_names: frozenset[str]

    @classmethod
    def of(cls, session: Session, job: Job) -> Subject:
        """Read it from the job's rows."""
        release = job.release
        return cls(
            release.project.name,
            release.version,
            Target.parse(job.target.name),
            frozenset(taken_names(session, release.id)),
        )


def accept(
    database: Database,
    store: WheelStore,
    *,
    job_id: int,
    token: str,
    builder_id: int | None = None,
    report: Report,
    limits: Limits,
    settings: MasterSettings,
    clock: Callable[[], datetime],
    contents: Contents | None = None,
    build: BuildSettings | None = None,
    pypi: PyPI | None = None,
) -> ReportAnswer:
    """Take a builder's report, and the wheel that it uploaded under the same lease.

    `build` says what to do by itself where it failed, `pypi` is asked what it missed.
    Raises LeaseLostError where the lease is over, and StorageError on a full disk: the job is then still
    the builder's, and the report may come again.
    """
    lease = _Held(job_id, token, builder_id, clock)
    subject = _take_up(database, lease, report, settings.lease_s)
    upload = store.incoming(job_id, token)
    if report.outcome is Outcome.BUILT and report.wheel is not None:
        failure = _publish(database, store, lease, report, upload, subject, limits)
    elif report.outcome is Outcome.FAILED:
        failure = report
    else:
        failure = _as_failure(report, FailureReason.BUILDER_FAILED, "a report of a build without its wheel")
    answer = ReportAnswer(outcome=Outcome.BUILT)
    if failure is not None:
        missed = (contents or Contents()).package(
            failure.reason or FailureReason.UNKNOWN, failure.captured, subject.target
        )
        needs = blocking.find(pypi, failure.reason, failure.captured, subject.target) if pypi else None
        # Both here, not in the transaction: a file is read, and PyPI may take as long as it likes.
        judge = Judge(settings, build or BuildSettings(), missed, needs)
        answer = _make_failure(database, lease, failure, judge)
    store.discard(upload)  # only now: the token is void, so nothing can take the upload's place
    words = " ".join(filter(None, [answer.outcome.value, answer.reason and answer.reason.value]))
    fields = job_fields(subject.project, subject.version, job_id)
    _log.info("%s %s (job %d): %s", subject.project, subject.version, job_id, words, extra=fields)
    return answer


def _take_up(database: Database, lease: _Held, report: Report, lease_s: float) -> Subject:
    """What the job is about; its lease begins anew where the check may take longer than it lasts."""
    with database.read() as session:
        job, now = lease.job(session)
        subject = Subject.of(session, job)
        needs_time = job.lease_until_at is None or job.lease_until_at - now < _SHORT_LEASE
    if needs_time or (report.wheel is not None and report.wheel.size_bytes > _LARGE_WHEEL_BYTES):
        at = lease.clock()
        database.write(
            lambda session: queue.heartbeat(
                session, lease.job_id, lease.token, None, Step.UPLOAD, at, lease_s
            )
        )
    return subject


def _publish(  # noqa: PLR0917 - what a wheel goes through
    database: Database,
    store: WheelStore,
    lease: _Held,
    report: Report,
    upload: Path,
    subject: Subject,
    limits: Limits,
) -> Report | None:
    """Check the wheel that was uploaded, and make it public; gives a failure where it is refused."""
    assert report.wheel is not None  # noqa: S101 - the caller has looked
    try:
        sealed = store.seal(upload)
        facts = check(sealed, report.wheel, subject, limits)
        _make_public(database, store, lease, report, sealed=sealed, facts=facts)
    except WheelError as error:
        _log.warning("the wheel of job %d is refused: %s: %s", lease.job_id, error.reason, error.what)
        return _as_failure(report, error.reason, str(error))
    except StorageError:
        with database.read() as session:  # lost, where the same report came twice and the first took it away
            lease.job(session)
        raise
    return None


def check(path: Path, claim: WheelClaim, subject: Subject, limits: Limits) -> WheelFacts:
    """Read a wheel again from its bytes; raises WheelError where anything is not as claimed or asked.

    Nothing else may write the file meanwhile (`WheelStore.seal`).
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > limits.wheel_bytes:
                raise WheelError(
                    FailureReason.WHEEL_TOO_BIG, f"{size} bytes, of {limits.wheel_bytes} allowed"
                )
            if size != claim.size_bytes or hashlib.file_digest(file, "sha256").hexdigest() != claim.sha256:
                raise WheelError(
                    FailureReason.BUILDER_FAILED, "the wheel that arrived is not the one that was reported"
                )
            if claim.filename in subject.taken_names:
                raise _taken(claim.filename)
            file.seek(0)
            facts = read_wheel(
                file,
                claim.filename,
                project=subject.project,
                version=subject.version,
                target=subject.target,
                max_unpacked_bytes=UNPACKED_RATIO * limits.wheel_bytes,
            )
        _check_storable(facts)
    except OSError as error:
        raise StorageError(f"an upload cannot be read: {error.strerror}", where=str(path)) from error
    return facts


def _check_storable(facts: WheelFacts) -> None:
    """What a page shows of it fits into every database."""
    requires = facts.requires_python or ""
    if len(requires) > _LONGEST_REQUIRES or not requires.isprintable():
        raise WheelError(FailureReason.WHEEL_INVALID, "Requires-Python is no set of versions")


def taken_names(session: Session, release_id: int) -> list[str]:
    """Names of wheels of a release that can never be used again: PyPI's, and those once published here."""
    return sorted(set(session.scalars(taken_names_of(release_id))))


def taken_names_of(release_id: int | ColumnElement[int]) -> Select[tuple[str]]:
    """The question for `taken_names`; a name may come twice."""
    ours = select(Wheel.filename).where(Wheel.release_id == release_id)
    theirs = select(PypiFile.filename).where(
        PypiFile.release_id == release_id, PypiFile.filename.like("%.whl")
    )
    both = union_all(ours, theirs).subquery()
    return select(both.c.filename)


def name_is_taken(session: Session, release: Release, filename: str) -> bool:
    """True where a wheel of this name was once published here, or is on PyPI (withdrawn ones count)."""
    once = select(Wheel.id).where(Wheel.filename == filename)
    pypi = select(PypiFile.id).where(PypiFile.release_id == release.id, PypiFile.filename == filename)
    return session.scalar(once) is not None or session.scalar(pypi) is not None


def check_not_blocked(session: Session, claim: WheelClaim) -> None:
    """Raises WheelError for bytes that a person has withdrawn (`master builders purge`)."""
    if session.get(BlockedWheel, claim.sha256) is not None:
        raise WheelError(FailureReason.WHEEL_INVALID, "these bytes are blocked", where=claim.filename)


def publish_wheel(session: Session, job: Job, report: Report, facts: WheelFacts, now: datetime) -> Wheel:
    """Make a stored wheel public: build, wheel, libraries, serial, counters, and the end of the job.

    `facts` come from `check` of the very bytes that are stored. Raises WheelError where the name is taken.
    """
    claim = report.wheel
    filename = facts.name.filename
    if claim is None or name_is_taken(session, job.release, filename):
        raise _taken(filename)
    check_not_blocked(session, claim)
    lanes.learn(session, job, None, report.peak_memory_bytes, now)
    build = _build_of(job, report, now)
    wheel = Wheel(
        build=build,
        release=job.release,
        filename=filename,
        sha256=claim.sha256,
        size_bytes=claim.size_bytes,
        metadata_sha256=hashlib.sha256(facts.metadata).hexdigest(),
        requires_python=facts.requires_python,
        published_at=now,
        libraries=[
            WheelLibrary(soname=soname, debian_package=_debian_name(claim.libraries.get(soname)))
            for soname in sorted(facts.linking.outside)
            if len(soname) <= _LONGEST_SONAME and soname.isprintable()
        ],
    )
    session.add_all([build, wheel])
    session.flush()
    session.execute(
        update(Project).where(Project.id == job.release.project_id).values(serial=Project.serial + 1)
    )
    history.count_wheel(session, filename, wheel.size_bytes, 1)
    queue.count(session, f"builder.{job.builder_id}.built", 1)
    rules.after_success(session, job, build, now)
    _count(session, job, build, now)
    queue.finish(session, job, state=JobState.BUILT, now=now, build=build.id, wheel=filename)
    return wheel


def record_failure(session: Session, job: Job, report: Report, now: datetime, judge: Judge) -> ReportAnswer:
    """Note a build that failed, and do with the job what follows (`aftermath`); gives the answer."""
    build = _build_of(job, report, now)
    build.outcome = Outcome.FAILED
    build.reason = report.reason or FailureReason.UNKNOWN
    build.debian_package = judge.debian_package
    lanes.learn(session, job, build.reason, report.peak_memory_bytes, now)
    session.add(build)
    session.flush()
    goes_on = aftermath.settle(session, job, build, judge, now)
    _count(session, job, build, now)
    return ReportAnswer(outcome=Outcome.FAILED, reason=build.reason, what=goes_on or build.evidence)


@dataclass(frozen=True)
class _Held:
    """A lease, to be looked at again inside the transaction that acts on it."""

    job_id: int
    token: str
    builder_id: int | None
    clock: Callable[[], datetime]

    def job(self, session: Session) -> tuple[Job, datetime]:
        now = self.clock()
        return queue.held(session, self.job_id, self.token, now, self.builder_id), now


def _make_public(
    database: Database, store: WheelStore, lease: _Held, report: Report, *, sealed: Path, facts: WheelFacts
) -> None:
    filename = facts.name.filename

    with database.read() as session:
        if report.wheel is not None:
            check_not_blocked(session, report.wheel)
        project = session.get_one(Job, lease.job_id).release.project.name
    with store.publishing(project):  # two targets may build the same py3-none-any wheel at the same moment
        with database.read() as session:
            if name_is_taken(session, session.get_one(Job, lease.job_id).release, filename):
                raise _taken(filename)
        has_leftover = store.is_leftover(sealed, project, filename)
        if not has_leftover:
            store.publish(sealed, project, filename, facts.metadata)

        def commit(session: Session) -> None:
            job, now = lease.job(session)
            publish_wheel(session, job, report, facts, now)
            if has_leftover:
                # Only now: a master that was killed just before may still have its commit under way, on
                # PostgreSQL's side. Writing the row has waited for it, and the name is ours alone.
                store.publish(sealed, project, filename, facts.metadata, name_is_ours=True)

        try:
            database.write(commit)
        except IntegrityError as error:
            raise _taken(filename) from error


def _make_failure(database: Database, lease: _Held, report: Report, judge: Judge) -> ReportAnswer:
    def commit(session: Session) -> ReportAnswer:
        job, now = lease.job(session)
        return record_failure(session, job, report, now, judge)

    return database.write(commit)


def _taken(filename: str) -> WheelError:
    return WheelError(FailureReason.WHEEL_INVALID, "this file name is used already", where=filename)


def _as_failure(report: Report, reason: FailureReason, what: str) -> Report:
    return report.model_copy(
        update={
            "outcome": Outcome.FAILED,
            "reason": reason,
            "captured": None,
            "evidence": storable(what, _LONGEST_EVIDENCE),
            "evidence_line": None,
            "wheel": None,
        }
    )


def _build_of(job: Job, report: Report, now: datetime) -> Build:
    environment = report.environment
    return Build(
        job=job,
        builder_id=job.builder_id,
        attempt=job.attempts,
        started_at=job.leased_at or now,
        duration_s=report.duration_s,
        cpu_s=report.cpu_s,
        peak_memory_bytes=report.peak_memory_bytes,
        written_bytes=report.written_bytes,
        outcome=report.outcome,
        reason=report.reason,
        captured=report.captured,
        evidence=report.evidence,
        evidence_line=report.evidence_line,
        environment_id=environment.environment_id if environment else None,
        environment=environment.model_dump(mode="json") if environment else None,
        steps=[step.model_dump(mode="json") for step in report.steps],
        **_with_packages(job),
    )


def _count(session: Session, job: Job, build: Build, now: datetime) -> None:
    history.count_build(
        session,
        now,
        target_id=job.target_id,
        builder_id=build.builder_id,
        reason=build.reason,
        build_id=build.id,
    )


def _debian_name(name: str | None) -> str | None:
    """The name as the builder gives it, if it can be one: it is shown, and given to apt by hand."""
    return name if name and _DEBIAN_NAME.fullmatch(name) else None


def _with_packages(job: Job) -> dict[str, object]:
    """What the row of a build says of the Debian packages that were added, and to what."""
    session = object_session(job)
    if not job.packages or session is None:
        return {}
    offered = session.get(BuilderTarget, (job.builder_id, job.target_id))
    return {"packages": list(job.packages), "offered_id": offered and offered.environment_id}
