# SPDX-License-Identifier: BSD-3-Clause
"""What all messages share: their base, the kinds of texts and numbers in them, and how an error is told."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]
BuilderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
LOG_PART_BYTES = 64 << 10
"""The most of a log that a message carries."""

LeaseToken = Annotated[str, Field(min_length=16, max_length=64)]
Amount = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""What a database can store."""

DebianPackage = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]*[a-z0-9+]$", max_length=100)]
"""The name of a Debian package, as Debian policy 5.6.7 has it."""

PACKAGES_AT_MOST = 32
"""Debian packages that one job may need."""

Packages = Annotated[list[DebianPackage], Field(max_length=PACKAGES_AT_MOST)]
"""The Debian packages that a job needs; names only, that are never part of a command's options."""


class Message(BaseModel):
    """Base of all messages; a message is a value and never changes."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Problem(Message):
    """An error as the API tells it: the fields of `core.errors.NodeError`."""

    what: str
    where: str | None = None
    hint: str | None = None
    code: str = "error"
    """`lost` (the lease is gone), `offset` (an upload goes on), `superseded` (another process has this key),
    `cloned` (the key is another machine's), `revoked` (the key was taken back), `unavailable` (try again),
    `too-often`, `not-on-pypi`, `pypi`, `storage`, or `error`."""
    offset: int | None = None
    "With the code `offset`: where the upload must go on."
