# SPDX-License-Identifier: BSD-3-Clause
"""The queue, what happened to its jobs, and what was learned of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState, Step
from piwheels_node.master.database.models.base import Id, Model
from piwheels_node.master.database.models.builders import Builder
from piwheels_node.master.database.models.releases import Project, PypiFile, Release, TargetRow


class Job(Model):
    """A release to build for a target. The queue is the rows that are ready.

    A lane is a target, a memory class (`core.builders`) and whether Debian packages must be added;
    `ix_job_ready` gives the first job of each. `lease_token` is the fencing token: who has it not cannot
    speak for the job. `losses` counts the builders that died of it, `rounds` how often it came back with more
    packages (`fixes`), `waits` how often it waited for a requirement; `is_awaited`: others may wait for it.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("release_id", "target_id"),
        Index(
            "ix_job_ready",
            "target_id",
            "memory_class",
            "needs_layers",
            text("priority DESC"),
            "id",
            sqlite_where=text("state = 'ready'"),
            postgresql_where=text("state = 'ready'"),
        ),
        Index(
            "ix_job_delayed",
            "not_before_at",
            sqlite_where=text("state = 'delayed'"),
            postgresql_where=text("state = 'delayed'"),
        ),
        Index(
            "ix_job_blocked",
            "blocked_on_id",
            sqlite_where=text("state = 'blocked'"),
            postgresql_where=text("state = 'blocked'"),
        ),
        Index(
            "ix_job_leased",
            "lease_until_at",
            sqlite_where=text("state = 'leased'"),
            postgresql_where=text("state = 'leased'"),
        ),
        Index(
            "ix_job_quarantined",
            "id",
            sqlite_where=text("state = 'quarantined'"),
            postgresql_where=text("state = 'quarantined'"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("release.id"))
    target_id: Mapped[int] = mapped_column(ForeignKey("target.id"))
    sdist_id: Mapped[int] = mapped_column(ForeignKey("pypi_file.id"))
    state: Mapped[JobState]
    memory_class: Mapped[int] = mapped_column(default=0, server_default="0")
    priority: Mapped[int]
    created_at: Mapped[datetime]
    not_before_at: Mapped[datetime]
    blocked_on_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"))
    is_awaited: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    packages: Mapped[list[Any] | None]
    needs_layers: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    rounds: Mapped[int] = mapped_column(default=0, server_default="0")
    waits: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    step: Mapped[Step | None]
    lease_token: Mapped[str | None] = mapped_column(String(64))
    lease_until_at: Mapped[datetime | None]
    leased_at: Mapped[datetime | None]
    builder_id: Mapped[int | None] = mapped_column(ForeignKey("builder.id"))
    release: Mapped[Release] = relationship()
    target: Mapped[TargetRow] = relationship()
    sdist: Mapped[PypiFile] = relationship()
    builder: Mapped[Builder | None] = relationship()


class JobAvoidance(Model):
    """A builder that shall not get a job for a while: it failed there, or was refused."""

    __tablename__ = "job_avoidance"
    __table_args__ = (Index(None, "builder_id", "until_at"),)

    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), primary_key=True)
    builder_id: Mapped[int] = mapped_column(ForeignKey("builder.id"), primary_key=True)
    until_at: Mapped[datetime]


class FixRule(Model):
    """A project needs these Debian packages, on one release of Debian or on any (`release` NULL).

    What the master found has the `reason` and `captured` that it is to mend, and the build that showed them.
    `decided_by` is the master itself, or a person.
    """

    __tablename__ = "fix_rule"
    __table_args__ = (Index("ix_fix_rule_state_id", "state", "id"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"), index=True)
    release: Mapped[str | None] = mapped_column(String(32))
    packages: Mapped[list[Any]]
    state: Mapped[FixState]
    reason: Mapped[FailureReason | None]
    captured: Mapped[str | None] = mapped_column(String(500))
    build_id: Mapped[int | None] = mapped_column(ForeignKey("build.id"))
    decided_by: Mapped[str] = mapped_column(String(16))
    why: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    project: Mapped[Project] = relationship()


class Event(Model):
    """Something that happened to a job: append-only."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
