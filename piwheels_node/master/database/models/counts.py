# SPDX-License-Identifier: BSD-3-Clause
"""What a page or screen shows without counting rows, and what holds for the whole farm."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from piwheels_node.master.database.models.base import Model


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


class HourCount(Model):
    """How many builds ended in one hour (UTC, `2026-11-23T07`); kept as `BuildCount` is."""

    __tablename__ = "hour_count"

    hour: Mapped[str] = mapped_column(String(13), primary_key=True)
    built: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)


class BuilderCount(Model):
    """How many builds of a builder ended on a day (UTC); kept as `BuildCount` is."""

    __tablename__ = "builder_count"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    builder_id: Mapped[int] = mapped_column(ForeignKey("builder.id"), primary_key=True)
    built: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
