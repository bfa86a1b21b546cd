# SPDX-License-Identifier: BSD-3-Clause
"""The session that a piece of work is given: SQLAlchemy's, and what is written once for the whole batch.

Counters, events and announcements are gathered while the pieces of a batch run, and written just before
the commit: a counter that 30 pieces change is one statement, and its row is locked for a moment only.
This module knows the tables of counters and events, and nothing of the queue.
"""

from __future__ import annotations

from collections import Counter as Bag
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session


@dataclass(eq=False)
class Tally:
    """What a piece, or a batch, has to say besides its rows. `topics` has how often each was announced."""

    counters: Bag[str] = field(default_factory=Bag)
    events: list[dict[str, Any]] = field(default_factory=list)
    topics: Bag[str] = field(default_factory=Bag)

    def add(self, other: Tally) -> None:
        """Take in what another one has."""
        for name, by in other.counters.items():
            self.counters[name] += by
        self.events.extend(other.events)
        self.topics.update(other.topics)


class WorkSession(Session):
    """A session inside the writer's transaction. Neither commit nor keep it.

    What `count`, `record` and `announce` gather cannot be read back before the commit.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
        self.tally = Tally()

    def count(self, name: str, by: int) -> None:
        """Change a counter, which is made where it is missing."""
        self.tally.counters[name] += by

    def record(self, job_id: int, at: datetime, kind: str, detail: dict[str, Any]) -> None:
        """Add a line to the history of a job that is in the database already."""
        self.tally.events.append({"job_id": job_id, "at": at, "kind": kind, "detail": detail})

    def announce(self, topic: str) -> None:
        """Tell all who subscribed, in every process, once this is committed."""
        self.tally.topics[topic] += 1


def working(session: Session) -> WorkSession:
    """The session as one that can write; raises TypeError for one of `Database.read`."""
    if isinstance(session, WorkSession):
        return session
    raise TypeError("this changes the database: call it from Database.write")
