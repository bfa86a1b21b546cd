# SPDX-License-Identifier: BSD-3-Clause
"""The queue: how a job gets from ready to a builder and to its end.

    enqueue -> READY --claim--> LEASED --finish--> BUILT, FAILED, QUARANTINED, CANCELLED
                ^ ^               |  |                          |
                | +- hand_back, refuse, fix --------------------+-- requeue
                wake                 |
                +----- DELAYED <-----+ retry_elsewhere, reap, forsake
                +----- BLOCKED <-----+ block (`chains`)

A lease has an end and a fencing token: who comes with another token, or too late, is refused, so that
a builder that was thought dead can do no harm (design, rule 6). Every function takes a session, does its
part of one transaction (state, counter and event together) and leaves the commit to `Database.write`.
The time comes from the caller. This module knows the tables, and neither HTTP nor files.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from piwheels_node.core.builders import memory_classes_below
from piwheels_node.core.errors import LeaseLostError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import EventKind, JobState, Outcome, Step
from piwheels_node.core.settings import MasterSettings
from piwheels_node.master.database.models import Job
from piwheels_node.master.database.session import WorkSession, working
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs import chains, rows
from piwheels_node.master.jobs.entry import enqueue, equip, move, requeue
from piwheels_node.master.jobs.history import announce, count, count_build, record, recount
from piwheels_node.master.jobs.rows import Claimed, HeldJob

__all__ = [
    "LONGEST_DELAY_S",
    "add_build",
    "announce",
    "block",
    "cancel",
    "claim",
    "count",
    "enqueue",
    "equip",
    "finish",
    "fix",
    "forsake",
    "hand_back",
    "heartbeat",
    "held",
    "held_job",
    "move",
    "reap",
    "record",
    "refuse",
    "requeue",
    "retry_elsewhere",
    "wake",
]

LONGEST_DELAY_S = 24 * 3600.0
"""The delay before another try doubles up to this."""

_AT_ONCE = 200
"""How many jobs one call of `reap` or `wake` moves: no piece of work may hold the others up for long."""

_AVOID_TIMES = 4
_REFUSED_TIMES = 60


def claim(
    session: Session,
    *,
    builder_id: int,
    builder_name: str,
    targets: Sequence[str],
    memory_bytes: int | None,
    now: datetime,
    lease_s: float,
    layers: Container[str] = (),
) -> Claimed | None:
    """Lease the first ready job of the lanes that a builder can serve; None where there is none.

    A lane is a target, a memory class that fits `memory_bytes`, and for targets in `layers` both jobs that
    need Debian packages and those that do not, else only the latter. Its first row in `ix_job_ready` is read,
    whatever the length of the queue. Jobs that this builder avoids for now are passed over.
    """
    names = list(dict.fromkeys(targets))
    if not names:
        return None
    lanes = tuple(name in layers for name in names), tuple(memory_classes_below(memory_bytes))
    token = secrets.token_hex(16)
    values = {f"target_{number}": name for number, name in enumerate(names)} | {
        "builder": builder_id,
        "token": token,
        "at": now,
        "until": now + timedelta(seconds=lease_s),
    }
    session = working(session)
    found = session.fast(rows.claim(*lanes), values)
    if not found and session.fast(rows.peek(*lanes), values):  # another master is taking what was best
        found = session.fast(rows.claim_any(*lanes), values)
    if not found:
        return None
    job_id, target_id, attempt = found[0]
    recount(session, target_id, JobState.READY, JobState.LEASED)
    record(session, job_id, EventKind.LEASED, now, builder=builder_name, attempt=attempt)
    return Claimed(job_id, token, attempt)


def held(session: Session, job_id: int, token: str, now: datetime, builder_id: int | None = None) -> Job:
    """`held_job` as the row with its relations, which takes ten times as long."""
    held_job(session, job_id, token, now, builder_id)
    return session.get_one(Job, job_id, populate_existing=True)


def held_job(
    session: Session, job_id: int, token: str, now: datetime, builder_id: int | None = None
) -> HeldJob:
    """The job, for who holds its lease; raises LeaseLostError for everybody else.

    With `builder_id` only that builder is believed to. Inside `Database.write` the row is locked until then.
    """
    if isinstance(session, WorkSession):
        found = session.fast(rows.LOCK, {"job": job_id})
    else:
        found = [tuple(row) for row in session.execute(rows.LOOK.written, {"job": job_id})]
    where = f"job {job_id}"
    if not found or found[0][0] is not JobState.LEASED or not found[0][1]:
        raise LeaseLostError("nobody holds this job", where=where)
    job = HeldJob(*found[0][2:])
    if not hmac.compare_digest(found[0][1].encode(), token.encode()):
        raise LeaseLostError("another builder holds this job", where=where)
    if builder_id is not None and builder_id != job.builder_id:
        raise LeaseLostError("another builder holds this job", where=where)
    if job.lease_until_at <= now:
        raise LeaseLostError("the lease of this job is over", where=where)
    return job


def heartbeat(  # noqa: PLR0917 - in the order of `held_job`
    session: Session,
    job_id: int,
    token: str,
    builder_id: int | None,
    step: Step,
    now: datetime,
    lease_s: float,
) -> None:
    """Make the lease last `lease_s` from now, and note the step; raises LeaseLostError.

    One that was held up on its way takes nothing back of what a later one brought.
    """
    session, until = working(session), now + timedelta(seconds=lease_s)
    job = held_job(session, job_id, token, now, builder_id)
    if until < job.lease_until_at:
        return
    session.fast(rows.BEAT, {"job": job_id, "until": until, "at_step": step})
    if job.step is not step:
        record(session, job_id, EventKind.STEP, now, step=step.value)


def add_build(session: Session, **columns: Any) -> int:
    """Insert a row of `Build`; gives its id. Columns that are not named are NULL."""
    session, values = working(session), _build(columns)
    build_id = session.next_id("build")
    if build_id is None:
        return int(session.fast(rows.ADD_BUILD, values)[0][0])
    session.fast(rows.ADD_BUILD_AS, {**values, "of_id": build_id})
    return build_id


def finish(session: Session, job: Job | HeldJob, *, state: JobState, now: datetime, **detail: Any) -> None:
    """End a leased job for good; its token is worth nothing any more."""
    if not state.is_final:
        raise ValueError(f"{state.value} is no end")
    session = working(session)
    session.fast(rows.END, {"job": job.id, "after": state})
    session.fast(rows.AVOID_NO_MORE, {"job": job.id})
    session.fast(rows.THINK_AGAIN, {"release": job.release_id, "at": now})
    recount(session, job.target_id, job.state, state)
    record(session, job.id, EventKind(state.value), now, **detail)
    _mirror(job, state=state)
    if job.is_awaited:
        chains.release(session, job.id, now)


def retry_elsewhere(
    session: Session, job: Job | HeldJob, now: datetime, settings: MasterSettings, **detail: Any
) -> None:
    """Delay a leased job, twice as long with each attempt; its builder avoids it four times as long."""
    delay_s = _delay_s(job, settings)
    if job.builder_id is not None:
        _avoid(session, job, job.builder_id, now, _AVOID_TIMES * delay_s)
    _put_back(session, job, JobState.DELAYED, now + timedelta(seconds=delay_s))
    record(session, job.id, EventKind.RETRY, now, delay_s=delay_s, **detail)


def fix(session: Session, job: Job, packages: Sequence[str], now: datetime, **detail: Any) -> None:
    """A leased job goes back, ready at once and from the start, and its next build has these packages."""
    _put_back(session, job, JobState.READY, now, attempts=0)
    equip(session, job, packages)
    job.rounds += 1
    record(session, job.id, EventKind.FIXING, now, round=job.rounds, **detail)


def block(session: Session, job: Job, on: Job, now: datetime, **detail: Any) -> None:
    """A leased job waits until another one is built, if `chains.why_not` has nothing against it.

    Where the other one is built already, it is ready again at once.
    """
    is_built = on.state is JobState.BUILT
    _put_back(session, job, JobState.READY if is_built else JobState.BLOCKED, now, attempts=0)
    job.waits += 1
    record(session, job.id, EventKind.BLOCKED, now, on=on.id, **detail)
    if is_built:
        record(session, job.id, EventKind.UNBLOCKED, now, on=on.id)
    else:
        job.blocked_on_id, on.is_awaited = on.id, True


def hand_back(session: Session, job: Job | HeldJob, now: datetime) -> None:
    """The builder gives its lease back unfinished: ready at once, and not counted as an attempt."""
    _put_back(session, job, JobState.READY, now, attempts=max(job.attempts - 1, 0))
    record(session, job.id, EventKind.HANDED_BACK, now)


def refuse(  # noqa: PLR0917 - in the order of the others
    session: Session,
    job: Job | HeldJob,
    builder_id: int,
    what: str,
    now: datetime,
    settings: MasterSettings,
) -> None:
    """The builder will not build what it leased: ready at once for others, and not counted as an attempt.

    It avoids the job for `_REFUSED_TIMES` times `retry_delay_s`, an hour by default.
    """
    _avoid(session, job, builder_id, now, min(_REFUSED_TIMES * settings.retry_delay_s, LONGEST_DELAY_S))
    _put_back(session, job, JobState.READY, now, attempts=max(job.attempts - 1, 0))
    record(session, job.id, EventKind.REFUSED, now, builder=builder_id, what=what)


def cancel(session: Session, job: Job | HeldJob, now: datetime, **detail: Any) -> bool:
    """Nobody wants the job any more; who holds it has lost it. False where it has ended already."""
    if job.state.is_final:
        return False
    finish(session, job, state=JobState.CANCELLED, now=now, **detail)
    return True


def wake(session: Session, now: datetime) -> int:
    """Make jobs ready whose delay is over, `_AT_ONCE` at most; gives how many."""
    session = working(session)
    woken = session.fast(rows.WAKE, {"at": now, "most": _AT_ONCE})
    for job_id, target_id in woken:
        recount(session, target_id, JobState.DELAYED, JobState.READY)
        record(session, job_id, EventKind.AWAKE, now)
    return len(woken)


def reap(session: Session, now: datetime, settings: MasterSettings) -> list[int]:
    """Take the jobs whose lease is over from their builders; gives their ids, `_AT_ONCE` at most.

    Each goes to another builder, until `max_attempts` builders died of it: then only a person frees it.
    """
    return _lose(working(session), rows.OVERDUE, {"at": now}, now, settings)


def forsake(session: Session, builder_id: int, now: datetime, settings: MasterSettings) -> list[int]:
    """Take all jobs from a builder that has just started, and so knows nothing of them; gives their ids.

    Whatever ended it may have been a job, so each counts as lost, as in `reap`.
    """
    return _lose(working(session), rows.HELD_BY, {"builder": builder_id}, now, settings)


def _lose(
    session: WorkSession, which: Statement, values: dict[str, Any], now: datetime, settings: MasterSettings
) -> list[int]:
    jobs = [HeldJob(*row) for row in session.fast(which, values | {"most": _AT_ONCE})]
    session.fast_many(rows.ADD_BUILDS, [_build(_lost_build(job, now)) for job in jobs])
    for job in jobs:
        count_build(
            session,
            now,
            target_id=job.target_id,
            builder_id=job.builder_id,
            reason=FailureReason.BUILDER_LOST,
            build_id=None,
        )
        lost = replace(job, losses=job.losses + 1)
        record(session, job.id, EventKind.LOST, now, attempt=job.attempts, losses=lost.losses)
        if lost.losses >= settings.max_attempts:
            _put_back(session, lost, JobState.QUARANTINED, now)
            record(session, job.id, EventKind.QUARANTINED, now, losses=lost.losses)
            if job.is_awaited:
                chains.release(session, job.id, now)
        else:
            retry_elsewhere(session, lost, now, settings, reason=FailureReason.BUILDER_LOST.value)
    return [job.id for job in jobs]


def _lost_build(job: HeldJob, now: datetime) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "builder_id": job.builder_id,
        "attempt": job.attempts,
        "started_at": job.leased_at,
        "duration_s": (now - job.leased_at).total_seconds(),
        "outcome": Outcome.FAILED,
        "reason": FailureReason.BUILDER_LOST,
    }


def _build(columns: dict[str, Any]) -> dict[str, Any]:
    """Parameters of `ADD_BUILD`; raises TypeError for a column that `Build` has not."""
    if not columns.keys() <= rows.BUILD_COLUMNS:
        raise TypeError(f"no columns of a build: {columns.keys() - rows.BUILD_COLUMNS}")
    return {f"of_{name}": columns.get(name) for name in rows.BUILD_COLUMNS}


def _put_back(
    session: Session,
    job: Job | HeldJob,
    state: JobState,
    not_before_at: datetime,
    attempts: int | None = None,
) -> None:
    """End a lease; the job goes on as `state`."""
    session = working(session)
    attempts = job.attempts if attempts is None else attempts
    session.fast(
        rows.PUT_BACK,
        {
            "job": job.id,
            "after": state,
            "attempted": attempts,
            "lost": job.losses,
            "from_then": not_before_at,
        },
    )
    recount(session, job.target_id, job.state, state)
    _mirror(job, state=state, attempts=attempts, not_before_at=not_before_at)


def _mirror(job: Job | HeldJob, **changed: Any) -> None:
    """Tell an object of the session what was written past it: the lease is over, and more."""
    if isinstance(job, Job):
        ended = dict.fromkeys(("lease_token", "lease_until_at", "leased_at", "builder_id", "step"))
        for name, value in {**ended, **changed}.items():
            set_committed_value(job, name, value)


def _delay_s(job: Job | HeldJob, settings: MasterSettings) -> float:
    doublings = min(max(job.attempts - 1, 0), 32)
    return min(settings.retry_delay_s * 2.0**doublings, LONGEST_DELAY_S)


def _avoid(session: Session, job: Job | HeldJob, builder_id: int, now: datetime, for_s: float) -> None:
    until = now + timedelta(seconds=for_s)
    working(session).fast(rows.AVOID, {"job": job.id, "builder": builder_id, "until": until})
