# SPDX-License-Identifier: BSD-3-Clause
"""What is remembered of PyPI as a whole, and what is to be planned because of it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Double, ForeignKey, Index, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from piwheels_node.master.database.models.base import Id, Model


class PypiProject(Model):
    """What PyPI has of a project. `serial` is PyPI's; `listing` is read by `pypi.stored`; None: it is gone.

    `status` is that of PEP 792, or `deleted`. `newest_at` is the newest upload. `popularity` is its place in
    the list that an operator has loaded, from 1; `asks`: how often our index was asked for it, as it counted
    at `asks_at` (`pypi.demand`).
    """

    __tablename__ = "pypi_project"
    __table_args__ = (
        Index("ix_pypi_project_newest_at", "newest_at", "id"),
        Index("ix_pypi_project_prefix", text('name COLLATE "C"')).ddl_if(dialect="postgresql"),
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    serial: Mapped[int] = mapped_column(BigInteger, default=0)
    status: Mapped[str] = mapped_column(String(32), default="active")
    etag: Mapped[str | None] = mapped_column(String(200))
    listing: Mapped[bytes | None] = mapped_column(LargeBinary)
    newest_at: Mapped[datetime]
    read_at: Mapped[datetime]
    popularity: Mapped[int | None]
    asks: Mapped[float] = mapped_column(Double, server_default="0")
    asks_at: Mapped[datetime | None]


class PypiNote(Model):
    """A project that PyPI must be asked about: something changed there, at `serial` or later."""

    __tablename__ = "pypi_note"
    __table_args__ = (
        Index("ix_pypi_note_not_before_at", "not_before_at"),
        Index("ix_pypi_note_serial", "serial", "name"),
    )

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

    id: Mapped[int] = mapped_column(Id, primary_key=True)
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
