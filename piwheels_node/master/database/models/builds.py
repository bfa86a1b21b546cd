# SPDX-License-Identifier: BSD-3-Clause
"""Builds, and the wheels that came of them, or are not wanted any more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome
from piwheels_node.master.database.models.base import Id, Model
from piwheels_node.master.database.models.builders import Builder
from piwheels_node.master.database.models.jobs import Job
from piwheels_node.master.database.models.releases import Release


class Build(Model):
    """One attempt at a job: who, in what, how long, and how it ended.

    `packages` were added to what the builder offered, which was then called `offered_id`; both are NULL where
    none were.
    """

    __tablename__ = "build"
    __table_args__ = (
        Index("ix_build_builder_id", "builder_id", "id"),
        Index(
            "ix_build_reason",
            "reason",
            "id",
            sqlite_where=text("reason IS NOT NULL"),
            postgresql_where=text("reason IS NOT NULL"),
        ),
        Index(
            "ix_build_failed",
            "id",
            sqlite_where=text("reason IS NOT NULL"),
            postgresql_where=text("reason IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
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

    id: Mapped[int] = mapped_column(Id, primary_key=True)
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


class BlockedWheel(Model):
    """Bytes that are never published again: a person distrusts who made them."""

    __tablename__ = "blocked_wheel"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    blocked_at: Mapped[datetime]
    why: Mapped[str] = mapped_column(String(500))
