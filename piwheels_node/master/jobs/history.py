# SPDX-License-Identifier: BSD-3-Clause
"""What is noted whenever a job changes: its history, the counters, and who is told.

All of it is gathered in the session and written once, just before the commit (`WorkSession`). This module
knows the names of counters and topics, and not when a job changes: that is `queue` and `chains`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import EventKind, JobState, Outcome
from piwheels_node.core.wheels import WheelName
from piwheels_node.master.database.session import Ended, WorkSession, working
from piwheels_node.master.jobs import rows

WHEELS_BY_ABI = "wheels.abi."
WHEELS_BY_PLATFORM = "wheels.platform."
"""Counters of wheels by the tags in their names."""


def record(session: Session, job_id: int, kind: EventKind, now: datetime, **detail: Any) -> None:
    """Add a line to the job's history. `detail` is what JSON can hold."""
    working(session).record(job_id, now, kind.value, detail)


def count(session: Session, name: str, by: int) -> None:
    """Change a counter, which is made where it is missing."""
    working(session).count(name, by)


def count_build(
    session: Session,
    now: datetime,
    *,
    target_id: int,
    builder_id: int,
    reason: FailureReason | None,
    build_id: int | None,
) -> None:
    """Count a build that has ended now, for reports and screens; no reason: there is a wheel."""
    result = reason.value if reason else Outcome.BUILT.value
    hour = f"{now.astimezone(UTC):%Y-%m-%dT%H}"
    working(session).count_build(Ended(hour, target_id, builder_id, result), build_id)


def count_wheel(session: Session, filename: str, size_bytes: int, by: int) -> None:
    """A wheel enters the index (`by` 1), or leaves it (-1)."""
    name = WheelName.parse(filename)
    count(session, "wheels", by)
    count(session, "wheels.bytes", by * size_bytes)
    count(session, f"{WHEELS_BY_ABI}{name.abi}", by)
    count(session, f"{WHEELS_BY_PLATFORM}{name.platform}", by)


def announce(session: Session, topic: str) -> None:
    """Tell all processes once this is committed (`Database.subscribe`)."""
    working(session).announce(topic)


def recount(session: WorkSession, target_id: int, before: JobState | None, after: JobState) -> None:
    """A job of a target goes from one state to another: count it, and tell who waits for ready ones."""
    if before is not None:
        session.count(f"jobs.{before.value}", -1)
    session.count(f"jobs.{after.value}", 1)
    if before is JobState.READY:
        session.count(f"jobs.ready.{target_id}", -1)
    if after is JobState.READY:
        session.count(f"jobs.ready.{target_id}", 1)
        tell_ready(session, target_id)


def tell_ready(session: WorkSession, target_id: int) -> None:
    """Tell who waits for jobs of a target that there may be one."""
    name = session.info.get(target_id)
    if name is None:
        name = session.info[target_id] = session.fast(rows.TARGET_NAME, {"target": target_id})[0][0]
    session.announce(f"ready:{name}")
