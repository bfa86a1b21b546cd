# SPDX-License-Identifier: BSD-3-Clause
"""Giving jobs to builders: who offers what, and the lease that a builder is sent.

Functions take a session and give messages; the queue itself is in `queue`. This module knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import LeaseLostError
from piwheels_node.core.messages import Lease, LeaseRequest, Limits, OfferedTarget, SdistFile
from piwheels_node.core.settings import Settings
from piwheels_node.core.targets import Target
from piwheels_node.master import publish, queue
from piwheels_node.master.database.models import Builder, BuilderTarget, Job, TargetRow

_SEEN_EVERY_S = 60.0
"""How exactly it is known when a builder was last seen: a write for every poll would wear out SD cards."""


def needs_registering(
    session: Session, builder_id: int, offered: Sequence[OfferedTarget], now: datetime
) -> bool:
    """True where `register` would change something worth a write."""
    builder = session.get_one(Builder, builder_id)
    if builder.last_seen_at is None or now - builder.last_seen_at > timedelta(seconds=_SEEN_EVERY_S):
        return True
    known = session.execute(
        select(TargetRow.name, BuilderTarget.environment_id)
        .join(TargetRow, BuilderTarget.target_id == TargetRow.id)
        .where(BuilderTarget.builder_id == builder_id)
    )
    return {tuple(row) for row in known} != {(one.name, one.environment_id) for one in offered}


def register(session: Session, builder_id: int, offered: Sequence[OfferedTarget], now: datetime) -> None:
    """Note that a builder lives, and what it offers from now on; raises UsageError for a bad target."""
    session.get_one(Builder, builder_id).last_seen_at = now
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
    for row in known.values():
        session.delete(row)


def lease(
    session: Session, builder_id: int, request: LeaseRequest, settings: Settings, now: datetime
) -> Lease | None:
    """Lease the next job for what a builder offers; None where there is none."""
    claimed = queue.claim(
        session,
        builder_id=builder_id,
        builder_name=session.get_one(Builder, builder_id).name,
        targets=[one.name for one in request.targets],
        memory_bytes=request.memory_bytes,
        now=now,
        lease_s=settings.master.lease_s,
    )
    if claimed is None:
        return None
    job = session.get_one(Job, claimed.job_id)
    sdist = job.sdist
    return Lease(
        job_id=job.id,
        token=claimed.token,
        project=job.release.project.name,
        version=job.release.version,
        target=job.target.name,
        sdist=SdistFile(
            filename=sdist.filename,
            url=sdist.url,
            sha256=sdist.sha256 or "",
            size_bytes=sdist.size_bytes,
            uploaded_at=sdist.uploaded_at,
        ),
        taken_names=publish.taken_names(session, job.release),
        expires_in_s=settings.master.lease_s,
        limits=limits(settings),
    )


def limits(settings: Settings) -> Limits:
    """What a build may use, by the master's settings."""
    builder = settings.builder
    return Limits(
        timeout_s=builder.timeout_s,
        silence_s=builder.silence_s,
        log_bytes=builder.log_max_bytes,
        wheel_bytes=builder.wheel_max_bytes,
    )


def held(session: Session, job_id: int, token: str, builder_id: int, now: datetime) -> Job:
    """The job, where this builder holds it with this token; raises LeaseLostError."""
    job = queue.held(session, job_id, token, now)
    if job.builder_id != builder_id:
        raise LeaseLostError("another builder holds this job", where=f"job {job_id}")
    return job


def _target_id(session: Session, name: str, now: datetime) -> int:
    row = session.scalar(select(TargetRow).where(TargetRow.name == name))
    if row is None:
        row = TargetRow(name=str(Target.parse(name)), created_at=now)
        session.add(row)
        session.flush()
    return row.id
