# SPDX-License-Identifier: BSD-3-Clause
"""Jobs, builders and keys, put straight into the database, before a master starts."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.jobs import EventKind, JobState, Priority
from piwheels_node.core.places import OPERATOR_KEY
from piwheels_node.master.builders import keys
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    Builder,
    Counter,
    Event,
    Job,
    Model,
    Project,
    PypiFile,
    Release,
    TargetRow,
    Token,
)
from simulator.world import TARGETS, World

_AT_ONCE = 2000
_CLASSES = (0,) * 17 + (1, 1, 3)
"""Memory classes of jobs, by share: most need little."""


@dataclass(frozen=True)
class Keys:
    """What opens the API. Builder number N, `builder_name(N)`, has the key before that."""

    operator: str
    builders: list[str]


def fill(url: str, data: Path, world: World, builders: int) -> Keys:
    """Fill an empty database, and put the operator's key where the master of the directory looks for it."""
    now = datetime.now(UTC)
    chance = random.Random(f"{world.seed}/fill")
    made = [f"{chance.getrandbits(192):048x}" for _ in range(builders)]

    def work(session: Session) -> str:
        for model, rows in _rows(world, now, chance):
            for at in range(0, len(rows), _AT_ONCE):
                session.execute(insert(model), rows[at : at + _AT_ONCE])
        for number, key in enumerate(made, 1):
            session.execute(insert(Builder), [_builder(number, now)])
            digest = hashlib.sha256(key.encode()).hexdigest()
            kind = keys.KeyKind.BUILDER.value
            session.add(Token(sha256=digest, kind=kind, builder_id=number, created_at=now))
        session.flush()
        _set_sequences(session)
        return keys.create_key(session, keys.KeyKind.OPERATOR, None, now)

    with Database.open(url) as database:
        operator = database.write(work)
    path = data / OPERATOR_KEY
    path.parent.mkdir(mode=0o700)
    path.write_text(f"{operator}\n")
    return Keys(operator, made)


def builder_name(number: int) -> str:
    """What a simulated builder is called; numbers begin at 1."""
    return f"pi-{number:04d}"


def _builder(number: int, now: datetime) -> dict[str, Any]:
    fingerprint = hashlib.sha256(builder_name(number).encode()).hexdigest()
    return {
        "id": number,
        "name": builder_name(number),
        "created_at": now,
        "state": BuilderState.ACTIVE,
        "mode": Mode.RUN,
        "orders": 0,
        "slots": 1,
        "fingerprint": fingerprint,
    }


def _rows(
    world: World, now: datetime, chance: random.Random
) -> Iterable[tuple[type[Model], list[dict[str, Any]]]]:
    target_ids = {name: number for number, name in enumerate(TARGETS, 1)}
    projects: dict[str, int] = {}
    releases: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    number = 0
    while len(jobs) < world.jobs:
        project, version = world.release(number)
        project_id = projects.setdefault(project, len(projects) + 1)
        number += 1
        releases.append({"id": number, "project_id": project_id, "version": version})
        filename = f"{project.replace('-', '_')}-{version}.tar.gz"
        digest = hashlib.sha256(filename.encode()).hexdigest()
        url = f"https://files.example/{filename}"
        files.append({"id": number, "release_id": number, "filename": filename, "url": url, "sha256": digest})
        for target in world.targets_of(number - 1)[: world.jobs - len(jobs)]:
            job = {"id": len(jobs) + 1, "release_id": number, "sdist_id": number}
            jobs.append(job | _job(target_ids[target], now, chance))
    yield TargetRow, [{"id": one, "name": name, "created_at": now} for name, one in target_ids.items()]
    yield Project, [{"id": one, "name": name, "serial": 0} for name, one in projects.items()]
    yield Release, releases
    yield PypiFile, files
    yield Job, jobs
    yield (
        Event,
        [
            {"job_id": job["id"], "at": now, "kind": EventKind.QUEUED.value, "detail": {"priority": 0}}
            for job in jobs
        ],
    )
    counted = [{"name": "jobs.ready", "value": len(jobs)}]
    for one in target_ids.values():
        ready = sum(job["target_id"] == one for job in jobs)
        counted.append({"name": f"jobs.ready.{one}", "value": ready})
    yield Counter, counted


def _job(target_id: int, now: datetime, chance: random.Random) -> dict[str, Any]:
    return {
        "target_id": target_id,
        "state": JobState.READY,
        "memory_class": chance.choice(_CLASSES),
        "priority": chance.choice(
            [Priority.BACKLOG, Priority.BACKLOG, Priority.RELEASED, Priority.REQUESTED]
        ),
        "created_at": now,
        "not_before_at": now,
        "attempts": 0,
        "losses": 0,
    }


def _set_sequences(session: Session) -> None:
    """PostgreSQL counts for itself, and has not seen the numbers that were given here."""
    if session.get_bind().dialect.name != "postgresql":
        return
    for model in (TargetRow, Project, Release, PypiFile, Job, Builder):
        table = model.__tablename__
        newest = session.scalar(select(func.max(model.id)))
        if newest:
            session.execute(select(func.setval(func.pg_get_serial_sequence(table, "id"), newest)))
