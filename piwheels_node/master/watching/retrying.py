# SPDX-License-Identifier: BSD-3-Clause
"""Jobs that have ended, once more, because a person says so: one, or all that failed for a reason.

This module knows no HTTP; its functions do their part of one transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from packaging.utils import canonicalize_name
from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session, aliased, selectinload

from piwheels_node.core.errors import UsageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Priority
from piwheels_node.core.messages import RetryRequest
from piwheels_node.master import reports
from piwheels_node.master.database.models import Build, Job, Project, Release, TargetRow
from piwheels_node.master.jobs import queue

LOOK_BACK = reports.LOOK_BACK
AT_ONCE = 200
"""How many jobs one piece of work makes ready: nothing else shall wait long."""

_WHY = "a person wants it again"


def retry(session: Session, job_id: int, now: datetime) -> bool:
    """Make a job ready that has ended; False where there is none. Raises UsageError where it has not."""
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        return False
    if not job.state.is_final:
        raise UsageError(f"this job has not ended: {job.state.value}", where=f"job {job_id}")
    queue.requeue(session, job, now=now, why=_WHY, priority=Priority.REQUESTED)
    return True


def retry_failed(session: Session, reason: FailureReason, wanted: RetryRequest, now: datetime) -> int:
    """Make jobs ready whose newest build failed for a reason, `AT_ONCE` at most; gives how many.

    They are looked for among the newest `LOOK_BACK` builds of the reason. Their priority stays: nobody waits
    for all of them. Call it again until it gives none.
    """
    looked_at = _newest_of(session, reason).subquery()
    newer = aliased(Build)
    found = select(Job.id).join(Build, Build.job_id == Job.id).join(Release, Job.release_id == Release.id)
    found = found.where(
        Build.id.in_(select(looked_at.c.id)),
        Job.state == JobState.FAILED,
        ~exists().where(newer.job_id == Job.id, newer.id > Build.id),
    )
    if wanted.target is not None:
        found = found.join(TargetRow, Job.target_id == TargetRow.id).where(TargetRow.name == wanted.target)
    if wanted.project is not None:
        name = canonicalize_name(wanted.project)
        found = found.join(Project, Release.project_id == Project.id).where(Project.name == name)
    ids = list(session.scalars(found.order_by(Job.id).limit(AT_ONCE)))
    jobs = session.scalars(
        select(Job)
        .where(Job.id.in_(ids), Job.state == JobState.FAILED)
        .order_by(Job.id)
        .with_for_update(of=Job)
        .options(selectinload(Job.release), selectinload(Job.target))
    ).all()
    for job in jobs:
        queue.requeue(session, job, now=now, why=_WHY)
    return len(jobs)


def are_all_seen(session: Session, reason: FailureReason) -> bool:
    """False where more builds failed for a reason than `retry_failed` looks through."""
    seen = _newest_of(session, reason).subquery()
    return (session.scalar(select(func.count()).select_from(seen)) or 0) < LOOK_BACK


def _newest_of(session: Session, reason: FailureReason) -> Select[Any]:
    return reports.newest_of_reason(session, select(Build.id), reason).limit(LOOK_BACK)
