# SPDX-License-Identifier: BSD-3-Clause
"""How much memory the jobs of a project need, as far as earlier builds have shown; and so their lane.

A lane is a target and a memory class (`core.builders`). What a project needs is the most that any build of it
used. A build that ended for want of memory needs at least twice what it used. But a job is never put into a
lane that no builder of the farm serves: then the largest there are try it. This module knows no HTTP.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from piwheels_node.core.builders import (
    SERVED_FROM_BYTES,
    BuilderState,
    memory_class,
    memory_classes_below,
)
from piwheels_node.core.failure import FailureReason
from piwheels_node.master.database.models import Builder, BuilderTarget, Job
from piwheels_node.master.database.session import working
from piwheels_node.master.database.statements import Statement

GONE_S = 7 * 86400.0
"""A builder that was not heard of for so long is not waited for."""

_WIDEST = Statement(
    select(func.max(Builder.memory_bytes))
    .join(BuilderTarget, BuilderTarget.builder_id == Builder.id)
    .where(
        BuilderTarget.target_id == bindparam("target"),
        Builder.state == BuilderState.ACTIVE,
        Builder.last_seen_at > bindparam("since", type_=Builder.last_seen_at.type),
    )
)


def lane(session: Session, peak_memory_bytes: int | None, target_id: int, now: datetime) -> int:
    """The memory class for a job of a project whose builds have used as much."""
    return min(memory_class(peak_memory_bytes), _widest(session, target_id, now))


def learn(
    session: Session, job: Job, reason: FailureReason | None, peak_bytes: int | None, now: datetime
) -> None:
    """Note what a build used, by which its project's next jobs are classed.

    After `out-of-memory` this job's class grows too, as far as there are builders for it. `peak_bytes` is
    what the builder says: no more than its machine has is believed.
    """
    builder = session.get_one(Builder, job.builder_id)
    used = min(peak_bytes or 0, _most(builder))
    if reason is FailureReason.OUT_OF_MEMORY:
        used = 2 * max(used, SERVED_FROM_BYTES[job.memory_class])
    project = job.release.project
    if used > (project.peak_memory_bytes or 0):
        project.peak_memory_bytes = used
    if reason is FailureReason.OUT_OF_MEMORY:
        job.memory_class = max(job.memory_class, lane(session, project.peak_memory_bytes, job.target_id, now))


def _most(builder: Builder) -> int:
    machine = (builder.machine or {}).get("memory_bytes") or 0
    return max(machine, builder.memory_bytes or 0) or SERVED_FROM_BYTES[-1]


def _widest(session: Session, target_id: int, now: datetime) -> int:
    """The largest class that some builder serves for a target."""
    since = now - timedelta(seconds=GONE_S)
    ((largest,),) = working(session).fast(_WIDEST, {"target": target_id, "since": since})
    return max(memory_classes_below(largest))
