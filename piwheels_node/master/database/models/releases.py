# SPDX-License-Identifier: BSD-3-Clause
"""What there is to build: projects, releases, their files on PyPI, and targets."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from piwheels_node.master.database.models.base import Id, Model


class Project(Model):
    """A project of PyPI. `serial` grows with every change of its index page, and is the page's ETag."""

    __tablename__ = "project"
    __table_args__ = (Index("ix_project_prefix", text('name COLLATE "C"')).ddl_if(dialect="postgresql"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    serial: Mapped[int] = mapped_column(BigInteger, default=0)
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)


class Release(Model):
    """A version of a project, spelled as PyPI spells it."""

    __tablename__ = "release"
    __table_args__ = (UniqueConstraint("project_id", "version"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("project.id"))
    version: Mapped[str] = mapped_column(String(200))
    project: Mapped[Project] = relationship()
    files: Mapped[list[PypiFile]] = relationship(back_populates="release")


class PypiFile(Model):
    """A file that PyPI serves of a release."""

    __tablename__ = "pypi_file"
    __table_args__ = (UniqueConstraint("release_id", "filename"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
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

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    created_at: Mapped[datetime]
