# SPDX-License-Identifier: BSD-3-Clause
"""Giving jobs to builders: who offers what, and the lease that a builder is sent.

    hello        a builder's process has just started
    register     what a builder offers, where it changed
    look         the next job for a builder, where it may have one

Functions take a session and give messages; the queue itself is in `queue`. This module knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, literal_column, select
from sqlalchemy.orm import Session

from piwheels_node.core.builders import SERVED_FROM_BYTES, BuilderEventKind, memory_classes_below
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import Hello, Lease, LeaseRequest, Limits, OfferedTarget, SdistFile
from piwheels_node.core.settings import Settings
from piwheels_node.core.targets import Target
from piwheels_node.master.builders import control
from piwheels_node.master.database.models import (
    Builder,
    BuilderEvent,
    BuilderTarget,
    Job,
    JobAvoidance,
    Project,
    PypiFile,
    Release,
    TargetRow,
)
from piwheels_node.master.database.session import working
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs import queue
from piwheels_node.master.jobs.rows import is_in
from piwheels_node.master.wheels import publish

SEEN_EVERY_S = 60.0
"""How exactly it is known when a builder was last seen: a write for every poll would wear out SD cards."""

_JUST_NOW = timedelta(seconds=60)

_ASKED: Any = (  # SQLAlchemy 2.0 and 2.1 type so many columns differently
    select(
        Job.release_id,
        Project.name,
        Release.version,
        TargetRow.name,
        PypiFile.filename,
        PypiFile.url,
        PypiFile.sha256,
        PypiFile.size_bytes,
        PypiFile.uploaded_at,
        Job.memory_class,
        Job.packages,
    )
    .select_from(Job)
    .join(Release, Job.release_id == Release.id)
    .join(Project, Release.project_id == Project.id)
    .join(TargetRow, Job.target_id == TargetRow.id)
    .join(PypiFile, Job.sdist_id == PypiFile.id)
    .where(Job.id == bindparam("job"))
)
_SUBJECT = Statement(_ASKED)
_TAKEN = Statement(publish.taken_names_of(bindparam("release")))
_AVOIDS_UNTIL = Statement(
    select(JobAvoidance.until_at)
    .where(JobAvoidance.builder_id == bindparam("builder"), JobAvoidance.until_at > bindparam("now"))
    .order_by(JobAvoidance.until_at)
    .limit(literal_column("1"))
)
_READY = Statement(
    select(Job.id)
    .join(TargetRow, Job.target_id == TargetRow.id)
    .where(TargetRow.name == bindparam("target"), is_in(JobState.READY))
    .limit(literal_column("1"))
)


@dataclass(frozen=True)
class Look:
    """What a builder that looked for a job found.

    `more`: there are others of the target in question. `again_s`: after so long it may have one that it
    avoids until then; None: there is none.
    """

    lease: Lease | None = None
    may_lease: bool = True
    more: bool = False
    again_s: float | None = None


def hello(session: Session, builder_id: int, told: Hello, now: datetime, settings: Settings) -> bool:
    """A builder's process has started: note what it is and offers; the jobs that it held before are lost.

    False where it is another machine than the one that joined: then only that is noted. Raises UsageError
    for a bad target.
    """
    builder = session.get_one(Builder, builder_id, with_for_update=True)
    machine = told.machine
    if machine and builder.fingerprint is not None and machine.fingerprint != builder.fingerprint:
        if not _noted_just_now(session, builder_id, BuilderEventKind.CLONED, now):
            control.record(session, builder_id, BuilderEventKind.CLONED, now, machine=machine.model)
        return False
    is_same = told.session is not None and told.session == builder.session
    if not is_same:  # a hello that comes twice must not cost the jobs that were leased in between
        queue.forsake(session, builder_id, now, settings.master)
        _begin_session(session, builder, told, now)
    builder.slots, builder.version = told.slots, told.version
    builder.machine = machine.model_dump(mode="json") if machine else builder.machine
    register(session, builder_id, told.targets, builder.memory_bytes, now)
    return True


def most_memory_bytes(request: LeaseRequest) -> int | None:
    """What a build may use there at best; None where nobody knows."""
    return max(filter(None, (request.memory_bytes, request.most_memory_bytes)), default=request.memory_bytes)


def needs_registering(session: Session, builder_id: int, request: LeaseRequest, now: datetime) -> bool:
    """True where `register` would change something worth a write."""
    builder = session.get_one(Builder, builder_id)
    if builder.last_seen_at is None or now - builder.last_seen_at > timedelta(seconds=SEEN_EVERY_S):
        return True
    if memory_classes_below(builder.memory_bytes) != memory_classes_below(most_memory_bytes(request)):
        return True
    known = session.execute(
        select(TargetRow.name, BuilderTarget.environment_id, BuilderTarget.layers)
        .join(TargetRow, BuilderTarget.target_id == TargetRow.id)
        .where(BuilderTarget.builder_id == builder_id)
    )
    return {tuple(row) for row in known} != {
        (one.name, one.environment_id, one.layers) for one in request.targets
    }


def register(
    session: Session,
    builder_id: int,
    offered: Sequence[OfferedTarget],
    memory_bytes: int | None,
    now: datetime,
) -> None:
    """Note that a builder lives, and what it offers from now on; raises UsageError for a bad target."""
    builder = session.get_one(Builder, builder_id)
    builder.last_seen_at, builder.memory_bytes = now, memory_bytes
    known = {
        row.target_id: row
        for row in session.scalars(select(BuilderTarget).where(BuilderTarget.builder_id == builder_id))
    }
    for one in {one.name: one for one in offered}.values():
        target_id = _target_id(session, one.name, now)
        row = known.pop(target_id, None)
        if row is None:
            row = BuilderTarget(builder_id=builder_id, target_id=target_id)
            session.add(row)
        if row.environment_id != one.environment_id:
            row.environment_id = one.environment_id
            row.offered_at = now
        row.layers = one.layers
    for row in known.values():
        session.delete(row)


def look(
    session: Session,
    speaker: control.Speaker,
    request: LeaseRequest,
    settings: Settings,
    now: datetime,
    *,
    more_of: str | None = None,
) -> Look:
    """Lease the next job for what a builder offers, if it may have one; and are there more of a target?

    Raises KeyRefusedError and SupersededError (`control.may_lease`).
    """
    lease = None
    may_lease = control.may_lease(session, speaker)
    if may_lease:
        claimed = queue.claim(
            session,
            builder_id=speaker.id,
            builder_name=speaker.name,
            targets=[one.name for one in request.targets],
            layers={one.name for one in request.targets if one.layers},
            memory_bytes=request.memory_bytes,
            now=now,
            lease_s=settings.master.lease_s,
        )
        if claimed is not None:
            lease = _message(session, claimed.job_id, claimed.token, settings)
    again_s = None
    if may_lease and lease is None:
        for (until_at,) in working(session).fast(_AVOIDS_UNTIL, {"builder": speaker.id, "now": now}):
            again_s = (until_at - now).total_seconds()
    return Look(lease, may_lease, more_of is not None and _has_ready(session, more_of), again_s)


def limits(settings: Settings) -> Limits:
    """What a build may use, by the master's settings."""
    builder = settings.builder
    return Limits(
        timeout_s=builder.timeout_s,
        silence_s=builder.silence_s,
        log_bytes=builder.log_max_bytes,
        wheel_bytes=builder.wheel_max_bytes,
    )


def _begin_session(session: Session, builder: Builder, told: Hello, now: datetime) -> None:
    spoke = builder.last_seen_at
    if builder.session is not None and spoke is not None and now - spoke < _JUST_NOW:
        control.record(session, builder.id, BuilderEventKind.SUPERSEDED, now)
    control.record(session, builder.id, BuilderEventKind.STARTED, now, version=told.version, slots=told.slots)
    builder.session = told.session
    queue.announce(session, f"orders:{builder.id}")  # its earlier process, wherever it waits, hears of it


def _noted_just_now(session: Session, builder_id: int, kind: BuilderEventKind, now: datetime) -> bool:
    """A machine that says hello again and again shall not fill the history."""
    newest = session.scalar(
        select(BuilderEvent)
        .where(BuilderEvent.builder_id == builder_id)
        .order_by(BuilderEvent.id.desc())
        .limit(1)
    )
    return newest is not None and newest.kind == kind.value and now - newest.at < _JUST_NOW


def _message(session: Session, job_id: int, token: str, settings: Settings) -> Lease:
    fast = working(session).fast
    ((release_id, project, version, target, *sdist, memory_class, packages),) = fast(
        _SUBJECT, {"job": job_id}
    )
    filename, url, sha256, size_bytes, uploaded_at = sdist
    return Lease(
        job_id=job_id,
        token=token,
        project=project,
        version=version,
        target=target,
        sdist=SdistFile(
            filename=filename, url=url, sha256=sha256 or "", size_bytes=size_bytes, uploaded_at=uploaded_at
        ),
        taken_names=sorted({name for (name,) in fast(_TAKEN, {"release": release_id})}),
        memory_bytes=SERVED_FROM_BYTES[memory_class] if memory_class else 0,
        packages=packages or [],
        expires_in_s=settings.master.lease_s,
        limits=limits(settings),
    )


def _has_ready(session: Session, target: str) -> bool:
    return bool(working(session).fast(_READY, {"target": target}))


def _target_id(session: Session, name: str, now: datetime) -> int:
    row = session.scalar(select(TargetRow).where(TargetRow.name == name))
    if row is None:
        row = TargetRow(name=str(Target.parse(name)), created_at=now)
        session.add(row)
        session.flush()
    return row.id
