# SPDX-License-Identifier: BSD-3-Clause
"""Whose key a request shows, remembered for a while: hundreds of builders show theirs again and again.

A builder whose orders, session or key change is forgotten at once, in every process: such changes announce
the topic `orders:<builder>`, and where announcements may have been missed everybody is forgotten. Besides,
nothing is believed for longer than `BELIEVED_S`. Of a key only its SHA-256 is kept.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import select

from piwheels_node.core.builders import BuilderState
from piwheels_node.master.builders.keys import KeyKind, digest
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Builder, Token

BELIEVED_S = 20.0
_MOST = 10_000


@dataclass(frozen=True)
class Caller:
    """Whose key it is; of a builder, how it stands. `is_good` is False for a key that was taken back."""

    kind: KeyKind
    is_good: bool
    builder_id: int | None = None
    name: str | None = None
    session: str | None = None
    state: BuilderState | None = None


class Callers:
    """Callers by their keys."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Caller | None]] = {}

    def known(self, sha256: str) -> Caller | None:
        """The caller, where it is remembered."""
        found = self._known.get(sha256)
        return None if found is None or found[0] < time.monotonic() else found[1]

    async def find(self, database: Database, key: str, *, afresh: bool = False) -> Caller | None:
        """Whose key this is, None where it is nobody's; asks the database where that is not remembered."""
        sha256 = digest(key)
        found = self._known.get(sha256)
        if found is not None and found[0] >= time.monotonic() and not afresh:
            return found[1]
        caller = await asyncio.to_thread(_load, database, sha256)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[sha256] = time.monotonic() + BELIEVED_S, caller
        return caller

    def announced(self, topic: str) -> None:
        """Forget who has changed; from any thread."""
        name, _, builder = topic.partition(":")
        if name == "orders" and builder:
            for sha256, (_, caller) in list(self._known.items()):
                if caller is not None and str(caller.builder_id) == builder:
                    self._known.pop(sha256, None)
        elif name in {"orders", "*"}:
            self._known.clear()


def _load(database: Database, sha256: str) -> Caller | None:
    wanted = (
        select(Token.kind, Token.revoked_at, Builder.id, Builder.name, Builder.session, Builder.state)
        .outerjoin(Builder, Token.builder_id == Builder.id)
        .where(Token.sha256 == sha256)
    )
    with database.read() as session:
        row = session.execute(wanted).one_or_none()
    if row is None:
        return None
    return Caller(KeyKind(row.kind), row.revoked_at is None, row.id, row.name, row.session, row.state)
