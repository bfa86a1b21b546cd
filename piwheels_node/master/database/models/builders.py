# SPDX-License-Identifier: BSD-3-Clause
"""Builders, what they offer, and the keys that open the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.master.database.models.base import Id, Model


class Builder(Model):
    """A machine that builds. Its key is stored as a SHA-256 only.

    `mode` is what a person has told it, `paused_itself` why it takes no jobs by its own decision. `orders`
    grows with each change of what it is told. `session` is the process that speaks for it, `memory_bytes`
    what one build may use there.
    """

    __tablename__ = "builder"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
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

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    builder_id: Mapped[int | None] = mapped_column(ForeignKey("builder.id"))
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    builder: Mapped[Builder | None] = relationship()


class JoinToken(Model):
    """What a machine shows to become a builder. Only its SHA-256 is stored."""

    __tablename__ = "join_token"

    id: Mapped[int] = mapped_column(Id, primary_key=True)
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

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    builder_id: Mapped[int] = mapped_column(ForeignKey("builder.id"), index=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
