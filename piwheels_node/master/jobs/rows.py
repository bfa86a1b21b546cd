# SPDX-License-Identifier: BSD-3-Clause
"""The statements of the queue, as `WorkSession.fast` runs them, and what they give.

`queue` says when they are run, and what they mean.

The same on SQLite and PostgreSQL: what only one of them has (`FOR UPDATE SKIP LOCKED`) the other leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Insert,
    ScalarSelect,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    exists,
    insert,
    literal_column,
    select,
    text,
    union_all,
    update,
)

from piwheels_node.core.jobs import JobState, Step
from piwheels_node.master.database.models import Build, Job, JobAvoidance, PlanNote, TargetRow
from piwheels_node.master.database.statements import Statement

JOBS = cast("Table", Job.__table__)
_TARGETS = cast("Table", TargetRow.__table__)
_BUILDS = cast("Table", Build.__table__)
_AVOIDED = cast("Table", JobAvoidance.__table__)

_MOST_LANES = 256
"""How many claims of different lanes are kept compiled: builders of a farm are much alike."""


_ONE: ColumnElement[Any] = literal_column("1")
"""Not as a parameter: PostgreSQL would plan for a tenth of all rows."""


def value(name: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A parameter that is stored as a column is."""
    return bindparam(name, type_=column.type)


def is_in(state: JobState) -> ColumnElement[bool]:
    """The state, spelled out in the statement, so that any planner sees that a partial index fits."""
    return JOBS.c.state == literal_column(f"'{state.value}'")


@dataclass(frozen=True)
class Claimed:
    """A job that was leased just now; `attempt` counts from 1."""

    job_id: int
    token: str
    attempt: int


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A leased job as its row says, without relations; the names are those of `Job`."""

    id: int
    release_id: int
    target_id: int
    memory_class: int
    attempts: int
    losses: int
    step: Step | None
    lease_until_at: datetime
    leased_at: datetime
    builder_id: int
    is_awaited: bool
    state: JobState = JobState.LEASED


def _of_ended_lease() -> dict[str, Any]:
    return dict.fromkeys(
        ("lease_token", "lease_until_at", "leased_at", "builder_id", "step", "blocked_on_id")
    )


_HELD = (
    JOBS.c.id,
    JOBS.c.release_id,
    JOBS.c.target_id,
    JOBS.c.memory_class,
    JOBS.c.attempts,
    JOBS.c.losses,
    JOBS.c.step,
    JOBS.c.lease_until_at,
    JOBS.c.leased_at,
    JOBS.c.builder_id,
    JOBS.c.is_awaited,
)
"""The fields of `HeldJob`, in order."""

_BY_ID = select(JOBS.c.state, JOBS.c.lease_token, *_HELD).where(JOBS.c.id == bindparam("job"))
LOOK = Statement(_BY_ID)
LOCK = Statement(_BY_ID.with_for_update())
"""A job's state, token and `_HELD`; `LOCK` for who is going to change it."""

BEAT = Statement(
    update(JOBS)
    .where(JOBS.c.id == bindparam("job"))
    .values(
        lease_until_at=value("until", JOBS.c.lease_until_at),
        step=value("at_step", JOBS.c.step),
    )
)

_END: Update = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("job"))
    .values(state=value("after", JOBS.c.state), **_of_ended_lease())
)
END = Statement(_END)
"""The job goes from who holds it to a final state."""

PUT_BACK = Statement(
    _END.values(
        attempts=bindparam("attempted", type_=JOBS.c.attempts.type),
        losses=bindparam("lost", type_=JOBS.c.losses.type),
        not_before_at=value("from_then", JOBS.c.not_before_at),
    )
)
"""The job goes back into the queue."""

AVOID = Statement(
    text(
        "INSERT INTO job_avoidance (job_id, builder_id, until_at) VALUES (:job, :builder, :until)"
        " ON CONFLICT (job_id, builder_id) DO UPDATE SET until_at = excluded.until_at"
    ).bindparams(bindparam("until", type_=_AVOIDED.c.until_at.type))
)

THINK_AGAIN = Statement(
    text(
        "INSERT INTO plan_note (name, noted_at) SELECT project.name, :at FROM release"
        " JOIN project ON project.id = release.project_id"
        " JOIN pypi_project ON pypi_project.name = project.name"
        " WHERE release.id = :release AND (SELECT count(*) FROM target) > 1"
        " ON CONFLICT (name) DO UPDATE SET noted_at = excluded.noted_at"
    ).bindparams(bindparam("at", type_=PlanNote.noted_at.type))
)
"""A job of a project that is followed has ended: what that means for other targets is to be planned."""

AVOID_NO_MORE = Statement(delete(_AVOIDED).where(_AVOIDED.c.job_id == bindparam("job")))

TARGET_NAME = Statement(select(_TARGETS.c.name).where(_TARGETS.c.id == bindparam("target")))

WAKE = Statement(
    update(JOBS)
    .where(
        JOBS.c.id.in_(
            select(JOBS.alias("due").c.id)
            .where(
                literal_column("due.state = 'delayed'"),
                literal_column("due.not_before_at", JOBS.c.not_before_at.type)
                <= value("at", JOBS.c.not_before_at),
            )
            .order_by(literal_column("due.not_before_at"))
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(state=JobState.READY)
    .returning(JOBS.c.id, JOBS.c.target_id)
)
"""Jobs whose delay is over become ready, `most` of them."""


def _lost(*conditions: ColumnElement[bool]) -> Statement:
    return Statement(
        select(*_HELD)
        .where(is_in(JobState.LEASED), *conditions)
        .order_by(JOBS.c.lease_until_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )


OVERDUE = _lost(JOBS.c.lease_until_at <= value("at", JOBS.c.lease_until_at))
HELD_BY = _lost(JOBS.c.builder_id == bindparam("builder"))
"""`_HELD` of jobs that are lost to their builders."""


BUILD_COLUMNS = frozenset(column.name for column in _BUILDS.c if column.name != "id")


def _insert_build(names: Iterable[str]) -> Insert:
    return insert(_BUILDS).values({name: value(f"of_{name}", _BUILDS.c[name]) for name in names})


ADD_BUILDS = Statement(_insert_build(sorted(BUILD_COLUMNS)))
ADD_BUILD_AS = Statement(_insert_build(["id", *sorted(BUILD_COLUMNS)]))
ADD_BUILD = Statement(cast("Insert", _insert_build(sorted(BUILD_COLUMNS)).returning(_BUILDS.c.id)))
"""A row of `build`: without an id, with one, and telling it; parameters are columns, `of_` before each."""


def _ready(target: int, memory_class: int, *, needs_layers: bool) -> Select[Any]:
    """The first job of a lane that the builder does not avoid: one probe of `ix_job_ready`."""
    target_id = (
        select(_TARGETS.c.id).where(_TARGETS.c.name == bindparam(f"target_{target}")).scalar_subquery()
    )
    return _first(target_id, literal_column(str(memory_class)), literal_column(str(needs_layers).lower()))


def _first(
    target_id: ScalarSelect[Any], memory_class: ColumnElement[Any], needs_layers: ColumnElement[Any]
) -> Select[Any]:
    return (
        select(JOBS.c.target_id, JOBS.c.memory_class, JOBS.c.needs_layers, JOBS.c.priority, JOBS.c.id)
        .where(
            JOBS.c.target_id == target_id,
            JOBS.c.memory_class == memory_class,
            JOBS.c.needs_layers == needs_layers,
            is_in(JobState.READY),
            ~exists().where(
                _AVOIDED.c.job_id == JOBS.c.id,
                _AVOIDED.c.builder_id == bindparam("builder"),
                _AVOIDED.c.until_at > value("at", _AVOIDED.c.until_at),
            ),
        )
        .order_by(JOBS.c.priority.desc(), JOBS.c.id)
        .limit(_ONE)
    )


def _lanes(layers: Sequence[bool], classes: Sequence[int], *, locks: bool) -> Any:
    firsts = [
        _ready(target, number, needs_layers=needs_layers)
        for target, has_layers in enumerate(layers)
        for number in classes
        for needs_layers in ((False, True) if has_layers else (False,))
    ]
    if locks:
        firsts = [one.with_for_update(skip_locked=True) for one in firsts]
    named = [one.subquery(f"lane_{number}") for number, one in enumerate(firsts)]
    lanes = union_all(*(select(lane) for lane in named)).subquery("lanes")
    return select(lanes).order_by(lanes.c.priority.desc(), lanes.c.id).limit(_ONE)


def _take(job_id: ScalarSelect[Any]) -> Statement:
    return Statement(
        update(JOBS)
        .where(JOBS.c.id == job_id)
        .values(
            state=JobState.LEASED,
            lease_token=value("token", JOBS.c.lease_token),
            lease_until_at=value("until", JOBS.c.lease_until_at),
            leased_at=value("at", JOBS.c.leased_at),
            builder_id=bindparam("builder"),
            attempts=JOBS.c.attempts + 1,
            step=None,
        )
        .returning(JOBS.c.id, JOBS.c.target_id, JOBS.c.attempts)
    )


@lru_cache(_MOST_LANES)
def claim(layers: tuple[bool, ...], classes: tuple[int, ...]) -> Statement:
    """Take the first ready job of the targets (`target_0`...) and these memory classes.

    `layers` says of each target whether jobs that need Debian packages may be taken, too.
    The best lane is found without a lock, then its first job that nobody else is taking is locked and taken.
    So where another master takes the last of that lane, nothing is found: `claim_any` is for that.
    """
    best = _lanes(layers, classes, locks=False).cte("best")
    ready = _first(
        select(best.c.target_id).scalar_subquery(),
        select(best.c.memory_class).scalar_subquery(),
        select(best.c.needs_layers).scalar_subquery(),
    ).with_for_update(skip_locked=True)
    return _take(ready.with_only_columns(JOBS.c.id).scalar_subquery())


@lru_cache(_MOST_LANES)
def peek(layers: tuple[bool, ...], classes: tuple[int, ...]) -> Statement:
    """The first ready job of these lanes, as the last commits left them."""
    return Statement(_lanes(layers, classes, locks=False))


@lru_cache(_MOST_LANES)
def claim_any(layers: tuple[bool, ...], classes: tuple[int, ...]) -> Statement:
    """Take the first job that no other master is taking; for a moment one of each lane is locked."""
    first = _lanes(layers, classes, locks=True).subquery("first")
    return _take(select(first.c.id).scalar_subquery())
