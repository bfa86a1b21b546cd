# SPDX-License-Identifier: BSD-3-Clause
"""What people tell builders to do: run, pause, drain, skip; one of them, or the whole farm.

    order_builder, order_all, skip_builder, skip_all, cancel_job   a person acts: rows, events, announcement
    orders_of                                                      what a builder is told when it asks

A builder asks for its orders and waits until they change (`serial`). The farm's order is the flag `mode`;
where it and the builder's own differ, the stricter one holds. What a builder shall skip is derived: the jobs
that were taken from it by a person lately, unless it has leased them again since.
Functions take a session and do their part of one transaction; this module knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from piwheels_node.core.builders import BuilderEventKind, BuilderState, Mode
from piwheels_node.core.errors import KeyRefusedError, NodeError, SupersededError, UsageError
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuilderOrder, Health, Orders
from piwheels_node.master.database.models import Builder, BuilderEvent, Flag, Job
from piwheels_node.master.database.session import working
from piwheels_node.master.database.statements import Statement
from piwheels_node.master.jobs import queue
from piwheels_node.master.jobs.rows import is_in

MODE_FLAG = "mode"
SKIPPED_S = 3600.0
"""How long a builder is told that a job in its hands was skipped."""

_SKIPPED_AT_ONCE = 200
_SKIPPED_MOST = 100
_STRICTNESS = [Mode.RUN, Mode.DRAIN, Mode.PAUSE]

_STANDING = Statement(
    select(
        Builder.state,
        Builder.mode,
        Builder.session,
        select(Flag.value).where(Flag.name == MODE_FLAG).scalar_subquery(),
    ).where(Builder.id == bindparam("builder"))
)


class UnknownBuilderError(NodeError):
    """There is no builder of this name."""


@dataclass(frozen=True)
class Speaker:
    """The builder that a request comes from, and the session of the process that speaks for it."""

    id: int
    name: str
    session: str | None = None


@dataclass(frozen=True)
class FarmMode:
    """What the whole farm has been told. `serial` grows with each change."""

    mode: Mode = Mode.RUN
    why: str | None = None
    serial: int = 0


def builder_named(session: Session, name: str) -> Builder:
    """The builder's row; raises UnknownBuilderError."""
    row = session.scalar(select(Builder).where(Builder.name == name))
    if row is None:
        raise UnknownBuilderError("there is no such builder", where=name, hint="is the name right?")
    return row


def record(session: Session, builder_id: int, kind: BuilderEventKind, now: datetime, **detail: Any) -> None:
    """Add a line to a builder's history. `detail` has plain values only."""
    session.add(BuilderEvent(builder_id=builder_id, at=now, kind=kind.value, detail=detail))


def farm_mode(session: Session) -> FarmMode:
    """What the whole farm has been told to do."""
    value = session.scalar(select(Flag.value).where(Flag.name == MODE_FLAG))
    if not value:
        return FarmMode()
    return FarmMode(Mode(value["mode"]), value.get("why"), value["serial"])


def order_builder(session: Session, builder: Builder, order: BuilderOrder, now: datetime) -> None:
    """Tell one builder what to do; the farm's order, where it is stricter, goes on holding."""
    if (builder.mode, builder.why) == (order.mode, order.why):
        return
    builder.mode, builder.why = order.mode, order.why
    record(session, builder.id, BuilderEventKind.ORDERED, now, mode=order.mode.value, why=order.why)
    changed(session, builder)


def order_all(session: Session, order: BuilderOrder, now: datetime) -> None:
    """Tell the whole farm what to do. A builder that was told to stand still by itself goes on doing so."""
    row = session.get(Flag, MODE_FLAG, with_for_update=True)
    before = farm_mode(session)
    if (before.mode, before.why) == (order.mode, order.why):
        return
    if row is None:
        row = Flag(name=MODE_FLAG)
        session.add(row)
    row.value = {"mode": order.mode.value, "why": order.why, "serial": before.serial + 1}
    row.changed_at = now
    queue.announce(session, "orders")


def skip_builder(session: Session, builder: Builder, now: datetime) -> list[int]:
    """Cancel the jobs that a builder holds; gives their ids. Its tokens are void, and it is told to stop."""
    return _skip(session, select(Job).where(is_in(JobState.LEASED), Job.builder_id == builder.id), now)


def skip_all(session: Session, now: datetime, before: datetime) -> list[int]:
    """Cancel jobs that builders have held since before a time, so many at once; gives their ids.

    Call it again until it gives none.
    """
    return _skip(session, select(Job).where(is_in(JobState.LEASED), Job.leased_at <= before), now)


def cancel_job(session: Session, job_id: int, now: datetime) -> bool:
    """Nobody wants the job any more. False where there is none; raises UsageError where it has ended."""
    job = session.get(Job, job_id, with_for_update=True)
    if job is None:
        return False
    if job.state is JobState.LEASED:
        _take_from_builders(session, [job], now)
    elif not queue.cancel(session, job, now, why="a person cancelled it"):
        raise UsageError(f"this job has ended already: {job.state.value}", where=f"job {job_id}")
    return True


def orders_of(session: Session, builder_id: int, now: datetime) -> Orders:
    """What a builder is to do."""
    builder, farm = session.get_one(Builder, builder_id), farm_mode(session)
    strictest = max((builder.mode, farm.mode), key=_STRICTNESS.index)
    return Orders(
        serial=builder.orders + farm.serial,
        mode=strictest,
        why=builder.why if builder.mode is strictest else farm.why,
        skip=_skipped(session, builder_id, now),
        state=builder.state,
    )


def may_lease(session: Session, speaker: Speaker) -> bool:
    """True where a builder may get a job now.

    Raises KeyRefusedError where its key was taken back, SupersededError where another process speaks for it.
    """
    ((state, mode, session_now, farm),) = working(session).fast(_STANDING, {"builder": speaker.id})
    check_speaker(session_now, speaker.session)
    if state is BuilderState.REVOKED:
        raise revoked()
    return (
        state is BuilderState.ACTIVE and mode is Mode.RUN and (farm is None or Mode(farm["mode"]) is Mode.RUN)
    )


def check_speaker(session_now: str | None, speaker: str | None) -> None:
    """Raises SupersededError where another process speaks for the builder by now."""
    if session_now is not None and session_now != speaker:
        raise SupersededError(
            "another process speaks for this builder by now",
            hint="is it started twice, or was its card copied? stop one, or let it join under its own name",
        )


def revoked() -> KeyRefusedError:
    """The error for a builder whose key was taken back."""
    return KeyRefusedError("this builder's key was revoked", hint="ask whoever runs the master")


def changed(session: Session, builder: Builder) -> None:
    """The builder's orders or state have changed: it is told at once."""
    builder.orders += 1
    queue.announce(session, f"orders:{builder.id}")


def note_health(session: Session, builder_id: int, health: Health, now: datetime) -> None:
    """Note how a builder's machine is doing, and with it that the builder lives."""
    row = session.get_one(Builder, builder_id)
    row.health = health.model_dump(mode="json", exclude={"paused_itself"})
    row.health_at = now
    note_pause(session, builder_id, health.paused_itself, now)


def note_pause(session: Session, builder_id: int, why: str | None, now: datetime) -> None:
    """Note that a builder lives, and why it takes no jobs by its own decision; None where it does."""
    row = session.get_one(Builder, builder_id)
    row.last_seen_at = now
    if why is not None and row.paused_itself is None:
        record(session, builder_id, BuilderEventKind.PAUSED_ITSELF, now, why=why)
    elif why is None and row.paused_itself is not None:
        record(session, builder_id, BuilderEventKind.RESUMED_ITSELF, now)
    row.paused_itself = why


def _skip(session: Session, which: Any, now: datetime) -> list[int]:
    jobs = session.scalars(which.order_by(Job.id).limit(_SKIPPED_AT_ONCE).with_for_update()).all()
    _take_from_builders(session, jobs, now)
    return [job.id for job in jobs]


def _take_from_builders(session: Session, jobs: Any, now: datetime) -> None:
    holders = {job.builder_id for job in jobs}
    builders = {row.id: row for row in session.scalars(select(Builder).where(Builder.id.in_(holders)))}
    for job in jobs:
        builder = builders[job.builder_id]
        record(session, builder.id, BuilderEventKind.ORDERED, now, skip=job.id)
        queue.cancel(session, job, now, builder=builder.name, why="a person had the builder skip it")
    for builder in builders.values():
        changed(session, builder)


def _skipped(session: Session, builder_id: int, now: datetime) -> list[int]:
    events = session.scalars(
        select(BuilderEvent.detail)
        .where(
            BuilderEvent.builder_id == builder_id,
            BuilderEvent.kind == BuilderEventKind.ORDERED.value,
            BuilderEvent.at > now - timedelta(seconds=SKIPPED_S),
        )
        .order_by(BuilderEvent.id.desc())
        .limit(_SKIPPED_MOST)
    )
    skipped = {detail["skip"] for detail in events if "skip" in detail}
    if not skipped:
        return []
    again = session.scalars(
        select(Job.id).where(Job.id.in_(skipped), is_in(JobState.LEASED), Job.builder_id == builder_id)
    )
    return sorted(skipped - set(again))
