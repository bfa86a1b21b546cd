# SPDX-License-Identifier: BSD-3-Clause
"""The tables of the master.

Times are UTC and aware, and their names end in `_at`; amounts carry their unit. A change here needs a
migration (docs/development.md); a test compares the two. Names of projects are normalised (PEP 503).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState, Outcome, Step

_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time, on databases with and without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time; SQLite keeps UTC without saying so."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone: {value}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Make what SQLite gives back aware again."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class EnumValue(TypeDecorator[Enum]):
    """An enum of `core`, stored by its value, so that a new member needs no migration."""

    impl = String(32)
    cache_ok = True

    def __init__(self, kind: type[Enum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Enum | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Store the member's value."""
        return None if value is None else str(value.value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Enum | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give the member back."""
        return None if value is None else self.kind(value)


_Id = BigInteger().with_variant(Integer, "sqlite")


class Model(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        datetime: UtcDateTime,
        float: Double,  # SQLAlchemy 2.0 would take Float, 2.1 Double
        JobState: EnumValue(JobState),
        Outcome: EnumValue(Outcome),
        FailureReason: EnumValue(FailureReason),
        Step: EnumValue(Step),
        BuilderState: EnumValue(BuilderState),
        Mode: EnumValue(Mode),
        FixState: EnumValue(FixState),
        dict[str, Any]: JSON,
        list[Any]: JSON,
    }


class Project(Model):
    """A project of PyPI. `serial` grows with every change of its index page, and is the page's ETag."""

    __tablename__ = "project"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    serial: Mapped[int] = mapped_column(BigInteger, default=0)
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)


class Release(Model):
    """A version of a project, spelled as PyPI spells it."""

    __tablename__ = "release"
    __table_args__ = (UniqueConstraint("project_id", "version"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    version: Mapped[str] = mapped_column(String(200))
    project: Mapped[Project] = relationship()
    files: Mapped[list[PypiFile]] = relationship(back_populates="release")


class PypiFile(Model):
    """A file that PyPI serves of a release."""

    __tablename__ = "pypi_file"
    __table_args__ = (UniqueConstraint("release_id", "filename"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("release.id"))
    filename: Mapped[str] = mapped_column(String(255))
    url: Mapped[str] = mapped_column(String(1000))
    sha256: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    requires_python: Mapped[str | None] = mapped_column(String(500))
    yanked: Mapped[str | None] = mapped_column(String(500))
    uploaded_at: Mapped[datetime | None]
    release: Mapped[Release] = relationship(back_populates="files")


class TargetRow(Model):
    """A target that builders of this master serve, or have served."""

    __tablename__ = "target"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    created_at: Mapped[datetime]


class Builder(Model):
    """A machine that builds. Its key is stored as a SHA-256 only.

    `mode` is what a person has told it, `paused_itself` why it takes no jobs by its own decision. `orders`
    grows with each change of what it is told. `session` is the process that speaks for it, `memory_bytes`
    what one build may use there.
    """

    __tablename__ = "builder"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    created_at: Mapped[datetime]
    state: Mapped[BuilderState] = mapped_column(default=BuilderState.ACTIVE, server_default="active")
    mode: Mapped[Mode] = mapped_column(default=Mode.RUN, server_default="run")
    why: Mapped[str | None] = mapped_column(String(500))
    paused_itself: Mapped[str | None] = mapped_column(String(500))
    orders: Mapped[int] = mapped_column(default=0, server_default="0")
    session: Mapped[str | None] = mapped_column(String(64))
    slots: Mapped[int] = mapped_column(default=1, server_default="1")
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    version: Mapped[str | None] = mapped_column(String(50))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    machine: Mapped[dict[str, Any] | None]
    last_seen_at: Mapped[datetime | None]
    health: Mapped[dict[str, Any] | None]
    health_at: Mapped[datetime | None]


class BuilderTarget(Model):
    """A target that a builder serves, in which environment, and whether it can add Debian packages to it."""

    __tablename__ = "builder_target"

    builder_id: Mapped[int] = mapped_column(ForeignKey("builder.id"), primary_key=True)
    target_id: Mapped[int] = mapped_column(ForeignKey("target.id"), primary_key=True)
    environment_id: Mapped[str] = mapped_column(String(64))
    offered_at: Mapped[datetime]
    layers: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class Token(Model):
    """A key that opens the API: a builder's, or an operator's. Only its SHA-256 is stored."""

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    builder_id: Mapped[int | None] = mapped_column(ForeignKey("builder.id"))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    builder: Mapped[Builder | None] = relationship()


class JoinToken(Model):
    """What a machine shows to become a builder. Only its SHA-256 is stored."""

    __tablename__ = "join_token"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    uses_left: Mapped[int]
    needs_approval: Mapped[bool] = mapped_column(default=False)
    note: Mapped[str | None] = mapped_column(String(200))
    revoked_at: Mapped[datetime | None]


class BuilderEvent(Model):
    """Something that happened to a builder: append-only."""

    __tablename__ = "builder_event"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    builder_id: Mapped[int] = mapped_column(ForeignKey("builder.id"), index=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Job(Model):
    """A release to build for a target. The queue is the rows that are ready.

    A lane is a target, a memory class (`core.builders`) and whether Debian packages must be added;
    `ix_job_ready` gives the first job of each. `lease_token` is the fencing token: who does not know it cannot
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

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
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

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
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


class Build(Model):
    """One attempt at a job: who, in what, how long, and how it ended.

    `packages` were added to what the builder offered, which was then called `offered_id`; both are NULL where
    none were.
    """

    __tablename__ = "build"
    __table_args__ = (
        Index("ix_build_builder_id", "builder_id", "started_at"),
        Index(
            "ix_build_reason",
            "reason",
            "id",
            sqlite_where=text("reason IS NOT NULL"),
            postgresql_where=text("reason IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    builder_id: Mapped[int] = mapped_column(ForeignKey("builder.id"))
    attempt: Mapped[int]
    started_at: Mapped[datetime]
    duration_s: Mapped[float]
    cpu_s: Mapped[float | None]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    outcome: Mapped[Outcome]
    reason: Mapped[FailureReason | None]
    captured: Mapped[str | None] = mapped_column(String(500))
    debian_package: Mapped[str | None] = mapped_column(String(200))
    evidence: Mapped[str | None] = mapped_column(String(1000))
    evidence_line: Mapped[int | None]
    environment_id: Mapped[str | None] = mapped_column(String(64))
    environment: Mapped[dict[str, Any] | None]
    packages: Mapped[list[Any] | None]
    offered_id: Mapped[str | None] = mapped_column(String(64))
    steps: Mapped[list[Any] | None]
    written_bytes: Mapped[int | None] = mapped_column(BigInteger)
    job: Mapped[Job] = relationship()
    builder: Mapped[Builder] = relationship()
    wheel: Mapped[Wheel | None] = relationship(back_populates="build")


class Wheel(Model):
    """A published file. Its name and bytes never change; `withdrawn_at` takes it out of the index."""

    __tablename__ = "wheel"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id"), unique=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("release.id"), index=True)
    filename: Mapped[str] = mapped_column(String(255), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    metadata_sha256: Mapped[str] = mapped_column(String(64))
    requires_python: Mapped[str | None] = mapped_column(String(500))
    published_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_why: Mapped[str | None] = mapped_column(String(500))
    build: Mapped[Build] = relationship(back_populates="wheel")
    release: Mapped[Release] = relationship()
    libraries: Mapped[list[WheelLibrary]] = relationship()


class WheelLibrary(Model):
    """A shared library that a wheel needs from the system, and the Debian package that has it."""

    __tablename__ = "wheel_library"

    wheel_id: Mapped[int] = mapped_column(ForeignKey("wheel.id"), primary_key=True)
    soname: Mapped[str] = mapped_column(String(200), primary_key=True)
    debian_package: Mapped[str | None] = mapped_column(String(200))


class Event(Model):
    """Something that happened to a job: append-only."""

    __tablename__ = "event"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class BlockedWheel(Model):
    """Bytes that are never published again: a person distrusts who made them."""

    __tablename__ = "blocked_wheel"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    blocked_at: Mapped[datetime]
    why: Mapped[str] = mapped_column(String(500))


class Flag(Model):
    """Something that is true of the whole farm, as what all builders have been told (`mode`)."""

    __tablename__ = "flag"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]]
    changed_at: Mapped[datetime]


class Counter(Model):
    """A number that a page or screen shows, kept with each change, so that nobody counts millions of rows."""

    __tablename__ = "counter"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger, default=0)


class BuildCount(Model):
    """How many builds of a target ended on a day (UTC, `2026-11-23`) in one way: `built`, or its reason.

    Kept with each build, as counters are: a report over years reads some thousand rows, however many builds
    there were. `newest_build_id` is an example; there is none where the builder was lost.
    """

    __tablename__ = "build_count"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    target_id: Mapped[int] = mapped_column(ForeignKey("target.id"), primary_key=True)
    result: Mapped[str] = mapped_column(String(32), primary_key=True)
    builds: Mapped[int] = mapped_column(BigInteger)
    newest_build_id: Mapped[int | None] = mapped_column(BigInteger)


class PypiProject(Model):
    """What PyPI has of a project. `serial` is PyPI's; `listing` is read by `pypi.stored`; None: it is gone.

    `status` is that of PEP 792, or `deleted`. `newest_at` is the newest upload. `popularity` is its place in
    the list that an operator has loaded, from 1.
    """

    __tablename__ = "pypi_project"
    __table_args__ = (Index("ix_pypi_project_newest_at", "newest_at", "id"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    serial: Mapped[int] = mapped_column(BigInteger, default=0)
    status: Mapped[str] = mapped_column(String(32), default="active")
    etag: Mapped[str | None] = mapped_column(String(200))
    listing: Mapped[bytes | None] = mapped_column(LargeBinary)
    newest_at: Mapped[datetime]
    read_at: Mapped[datetime]
    popularity: Mapped[int | None]


class PypiNote(Model):
    """A project that PyPI must be asked about: something changed there, at `serial` or later."""

    __tablename__ = "pypi_note"
    __table_args__ = (Index("ix_pypi_note_not_before_at", "not_before_at"),)

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    serial: Mapped[int] = mapped_column(BigInteger, default=0)
    heard_at: Mapped[datetime]
    not_before_at: Mapped[datetime]
    tries: Mapped[int] = mapped_column(default=0)


class PlanNote(Model):
    """A project whose jobs must be thought about again: one of them has ended, or a rule has changed."""

    __tablename__ = "plan_note"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    noted_at: Mapped[datetime]


class Walk(Model):
    """How far the planning of all projects for a target has come, from the newest upload to the oldest."""

    __tablename__ = "walk"

    target_id: Mapped[int] = mapped_column(ForeignKey("target.id"), primary_key=True)
    newest_at: Mapped[datetime | None]
    project_id: Mapped[int] = mapped_column(BigInteger, default=0)
    projects: Mapped[int] = mapped_column(BigInteger, default=0)
    jobs: Mapped[int] = mapped_column(BigInteger, default=0)
    done_at: Mapped[datetime | None]


class SkipRule(Model):
    """Releases that a person wants nothing built of; `versions` is a PEP 440 specifier, empty: all."""

    __tablename__ = "skip_rule"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    project: Mapped[str] = mapped_column(String(200), index=True)
    versions: Mapped[str] = mapped_column(String(200), default="")
    reason: Mapped[str] = mapped_column(String(500))
    who: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime]


class Miss(Model):
    """A project that somebody's pip wanted from the index, for a target, and that was not there."""

    __tablename__ = "miss"

    project: Mapped[str] = mapped_column(String(200), primary_key=True)
    target_id: Mapped[int] = mapped_column(ForeignKey("target.id"), primary_key=True)
    times: Mapped[int] = mapped_column(BigInteger, default=0)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
