# SPDX-License-Identifier: BSD-3-Clause
"""The farm at a glance, and its builders as rows of a table: what a home screen shows.

Both are asked for every two seconds by each screen, and are read without SQLAlchemy's objects: 300 builders
are five statements. This module knows no HTTP.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, case, cast, func, select
from sqlalchemy.orm import Session

from piwheels_node import __version__
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuilderColumns, BuilderRow, FarmView, JobInHand
from piwheels_node.core.standing import in_order
from piwheels_node.master import reports
from piwheels_node.master.builders import control
from piwheels_node.master.database.models import (
    Build,
    Builder,
    BuilderCount,
    BuilderTarget,
    Counter,
    Job,
    Project,
    Release,
    TargetRow,
)
from piwheels_node.master.database.statements import Statement, ask
from piwheels_node.master.jobs.rows import is_in
from piwheels_node.master.views import alive_since
from piwheels_node.master.watching import statistics

HOURS = 24
RECENT_DAYS = 7
"""The days whose builds a row counts, today included."""

_FROM_MACHINE = ("model", "os", "cores", "memory_bytes")
_FROM_HEALTH = (
    "memory_available_bytes",
    "disk_free_bytes",
    "load_1m",
    "temperature_c",
    "throttled",
    "undervoltage",
)


@dataclass(frozen=True)
class Disk:
    """The disk that the wheels are on."""

    free_bytes: int
    total_bytes: int


def farm(
    session: Session, disk: Disk | None, now: datetime, *, rows: bool = False, first: int | None = None
) -> FarmView:
    """The farm at a glance, with `rows` if wanted, only the `first` of them if that is given.

    `disk` is None where it cannot be told.
    """
    targets = session.execute(select(TargetRow.id, TargetRow.name).order_by(TargetRow.id)).all()
    counters = _counters(session, [target_id for target_id, _ in targets])
    waiting = {name: counters.get(f"jobs.ready.{target_id}", 0) for target_id, name in targets}
    told = control.farm_mode(session)
    newest = session.scalars(
        select(Build.id).where(Build.reason.is_not(None)).order_by(Build.id.desc()).limit(1)
    ).all()
    failed = reports.failed_builds_of(session, newest)
    return FarmView(
        at=now,
        version=__version__,
        mode=told.mode,
        why=told.why,
        queue={name: ready for name, ready in waiting.items() if ready > 0},
        jobs={state.value: counters.get(f"jobs.{state.value}", 0) for state in JobState},
        hours=statistics.hours(session, HOURS, now),
        disk_free_bytes=disk.free_bytes if disk else None,
        disk_total_bytes=disk.total_bytes if disk else None,
        wheels=counters.get("wheels", 0),
        wheels_bytes=counters.get("wheels.bytes", 0),
        newest_failure=failed[0] if failed else None,
        columns=BuilderColumns.of(builder_rows(session, now)[:first] if rows else ()),
        **_builder_totals(session, told.mode, now),
    )


def _counters(session: Session, target_ids: list[int]) -> dict[str, int]:
    names = ["wheels", "wheels.bytes", *(f"jobs.{state.value}" for state in JobState)]
    names += [f"jobs.ready.{target_id}" for target_id in target_ids]
    wanted = select(Counter.name, Counter.value).where(Counter.name.in_(names))
    return {row.name: row.value for row in session.execute(wanted)}


def _builder_totals(session: Session, mode: Mode, now: datetime) -> dict[str, int]:
    up = Builder.last_seen_at > alive_since(now)
    still = up & ((Builder.mode != Mode.RUN) | Builder.paused_itself.is_not(None))
    totals = session.execute(
        select(func.count(), _how_many(up), _how_many(up if mode is not Mode.RUN else still)).where(
            Builder.state == BuilderState.ACTIVE
        )
    ).one()
    busy = session.scalar(select(func.count(Job.builder_id.distinct())).where(is_in(JobState.LEASED)))
    names = "builders", "builders_up", "builders_still"
    return dict(zip(names, map(int, totals), strict=True)) | {"builders_busy": busy or 0}


def _how_many(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def builder_rows(session: Session, now: datetime) -> list[BuilderRow]:
    """All builders, those that stand worst first, then by name."""
    targets: dict[int, list[str]] = defaultdict(list)
    for builder_id, name in ask(session, _OFFERED, {}):
        targets[builder_id].append(name)
    since = str(now.astimezone(UTC).date() - timedelta(days=RECENT_DAYS - 1))
    recent = ask(session, _RECENT, {"since": since})
    counts = {builder_id: (int(built), int(failed)) for builder_id, built, failed in recent}
    in_hand: dict[int, list[JobInHand]] = defaultdict(list)
    for builder_id, *job in ask(session, _IN_HAND, {}):
        in_hand[builder_id].append(JobInHand(**dict(zip(_JOB, job, strict=True))))
    up_since = alive_since(now)
    return in_order(
        _row(one, targets[one[0]], in_hand[one[0]], counts.get(one[0], (0, 0)), up_since)
        for one in ask(session, _BUILDERS, {})
    )


_OFFERED = Statement(
    select(BuilderTarget.builder_id, TargetRow.name)
    .join(TargetRow, BuilderTarget.target_id == TargetRow.id)
    .order_by(TargetRow.name)
)
_RECENT = Statement(
    select(BuilderCount.builder_id, func.sum(BuilderCount.built), func.sum(BuilderCount.failed))
    .where(BuilderCount.day >= bindparam("since"))
    .group_by(BuilderCount.builder_id)
)
"""Built and failed of the last days, by builder."""

_JOB = "job_id", "project", "version", "target", "step", "leased_at"
_OF_JOB: tuple[Any, ...] = (
    Job.builder_id,
    Job.id,
    Project.name,
    Release.version,
    TargetRow.name,
    Job.step,
    Job.leased_at,
)
_IN_HAND = Statement(
    select(*_OF_JOB)
    .join(Release, Job.release_id == Release.id)
    .join(Project, Release.project_id == Project.id)
    .join(TargetRow, Job.target_id == TargetRow.id)
    .where(is_in(JobState.LEASED))
    .order_by(Job.leased_at, Job.id)
)
_STANDING: tuple[Any, ...] = (
    Builder.state,
    Builder.mode,
    Builder.why,
    Builder.paused_itself,
    Builder.slots,
    Builder.version,
    Builder.last_seen_at,
)
_BUILDERS = Statement(
    select(
        Builder.id,
        cast(Builder.machine, Text),
        cast(Builder.health, Text),
        Builder.name,
        *_STANDING,
    )
)
_FIELDS = ("name", *(column.key for column in _STANDING))


@lru_cache(2048)
def _machine(text: str) -> dict[str, Any]:
    """What does not change while a builder runs, read once."""
    machine = json.loads(text) or {}
    return {name: machine.get(name) for name in _FROM_MACHINE}


def _row(
    one: tuple[Any, ...],
    targets: list[str],
    jobs: list[JobInHand],
    counts: tuple[int, int],
    up_since: datetime,
) -> BuilderRow:
    _, machine, health, *standing = one
    fields: dict[str, Any] = dict(zip(_FIELDS, standing, strict=True))
    seen_at = fields["last_seen_at"]
    told = json.loads(health or "{}") or {}
    fields |= {name: told.get(name) for name in _FROM_HEALTH}
    fields |= _machine(machine or "{}")
    return BuilderRow(
        is_up=seen_at is not None and seen_at > up_since,
        targets=targets,
        jobs=jobs,
        built=counts[0],
        failed=counts[1],
        **fields,
    )
