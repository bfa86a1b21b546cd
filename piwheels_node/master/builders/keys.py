# SPDX-License-Identifier: BSD-3-Clause
"""Keys that open the API: made here, shown once, and kept as a SHA-256 only.

A key has 256 random bits, so a plain hash of it cannot be turned back and needs no salt. Functions take
a session; this module knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import UsageError
from piwheels_node.master.database.models import Builder, Token


class KeyKind(Enum):
    """What a key is for."""

    BUILDER = "builder"
    "To lease jobs and hand in what came of them, as one builder."

    OPERATOR = "operator"
    "To ask for builds."


@dataclass(frozen=True)
class Caller:
    """Whose key a request shows."""

    kind: KeyKind
    builder_id: int | None


def create_key(session: Session, kind: KeyKind, builder: str | None, now: datetime) -> str:
    """Make a key, and the builder that it is for; raises UsageError where the two do not fit."""
    if (kind is KeyKind.BUILDER) != bool(builder):
        raise UsageError("a builder's key needs the name of a builder, and no other key has one")
    row = None
    if builder:
        row = session.scalar(select(Builder).where(Builder.name == builder))
        if row is None:
            row = Builder(name=builder, created_at=now)
            session.add(row)
    key = secrets.token_urlsafe(32)
    session.add(Token(sha256=digest(key), kind=kind.value, builder=row, created_at=now))
    return key


def find_key(session: Session, key: str) -> Caller | None:
    """Whose key this is; None where it is nobody's, or was revoked."""
    sha256 = digest(key)
    row = session.scalar(select(Token).where(Token.sha256 == sha256, Token.revoked_at.is_(None)))
    if row is None or not hmac.compare_digest(row.sha256, sha256):
        return None
    return Caller(KeyKind(row.kind), row.builder_id)


def digest(key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
