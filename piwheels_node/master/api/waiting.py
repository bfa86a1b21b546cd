# SPDX-License-Identifier: BSD-3-Clause
"""Where builders' requests wait: for a job of their targets, or for other orders.

    with waiting.ticket(builder_id, targets) as ticket:     taken before the first look, so that nothing
        while not waiting.closing:                          that is announced meanwhile is missed
            turn = ticket.begin()
            ... look for a job; are there more of `turn`? ...
            ticket.looked(more=...)
            await ticket.wait(timeout_s, for_jobs=True)

Hundreds of builders wait at a time, and a job is for one of them. So a job that is announced wakes one: it is
the turn of who has waited longest. Who leaves jobs behind, because there were several or because it may not
have this one, gives the turn to the next; it goes round once at most. Changed orders wake those whom they are
for. Announcements come from any thread (`announce`); all the rest is for one event loop. This module knows
neither HTTP nor the database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from piwheels_node.master.api.problems import ClosingError

LOOK_AGAIN_S = 30.0
"""How often a request that waits looks by itself, in case an announcement was lost."""

_TURNS_AT_ONCE = 32
"""Most turns of one target at a time: a thousand jobs that nobody here may have must not wake everybody
a thousand times."""

_READY = "ready:"
_ORDERS = "orders"
_ANYTHING = "*"
T = TypeVar("T")


@dataclass(frozen=True)
class _Turn:
    """Somebody's turn to look for a job of a target; after it, that of later ones up to number `last`."""

    target: str
    last: int


@dataclass
class _Room:
    """Who waits for the jobs of one target, in the order in which they came."""

    tickets: dict[int, Ticket] = field(default_factory=dict)
    turns: int = 0
    again: bool = False
    "A job was announced when all turns were taken."


class Ticket:
    """One request that waits, or is about to."""

    def __init__(self, waiting: Waiting, number: int, targets: frozenset[str]) -> None:
        self.number = number
        self.targets = targets
        self.wants_jobs = True
        self.turn: _Turn | None = None
        self._taken: _Turn | None = None
        self._waiting = waiting
        self._event = asyncio.Event()

    @property
    def is_free(self) -> bool:
        """True where it would take a job, and has no turn."""
        return self.wants_jobs and self.turn is None and self._taken is None

    def wake(self) -> None:
        """Let it look at everything."""
        self._event.set()

    def begin(self) -> str | None:
        """It looks for a job now; gives the target whose turn it has, if any."""
        self._event.clear()
        self.wants_jobs = True
        self._taken, self.turn = self.turn, None
        return None if self._taken is None else self._taken.target

    def looked(self, *, more: bool) -> None:
        """It has looked; `more`: it leaves jobs of its turn behind, for whoever may have them."""
        turn, self._taken = self._taken, None
        if turn is not None:
            self._waiting.pass_on(turn, self.number if more else turn.last)

    async def wait(self, timeout_s: float, *, for_jobs: bool) -> None:
        """Sleep until there is something to look at, or `timeout_s` or `LOOK_AGAIN_S` have passed.

        Not `for_jobs`: until the orders of its builder change.
        """
        self.wants_jobs = for_jobs
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), min(timeout_s, LOOK_AGAIN_S))
        self._event.clear()

    def leave(self) -> None:
        """It waits no more; a turn that it did not use is the next one's."""
        for turn in (self.turn, self._taken):
            if turn is not None:
                self._waiting.pass_on(turn, self.number)
        self.turn = self._taken = None


class Waiting:
    """All requests of one process that wait."""

    def __init__(self) -> None:
        self.closing = False
        self._closed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = 0
        self._rooms: dict[str, _Room] = {}
        self._of_builder: dict[int, set[Ticket]] = {}

    @contextlib.contextmanager
    def ticket(self, builder_id: int, targets: Iterable[str] = ()) -> Iterator[Ticket]:
        """A place among those who wait for jobs of these targets, and for a builder's orders."""
        self._loop = asyncio.get_running_loop()
        self._numbers += 1
        made = Ticket(self, self._numbers, frozenset(targets))
        for one in made.targets:
            self._rooms.setdefault(one, _Room()).tickets[made.number] = made
        self._of_builder.setdefault(builder_id, set()).add(made)
        try:
            yield made
        finally:
            self._forget(builder_id, made)

    def announce(self, topic: str) -> None:
        """Something has happened (topics of `queue.announce`); from any thread."""
        if self._loop is not None and not self.closing:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._announced, topic)

    def pass_on(self, turn: _Turn, after: int) -> None:
        """A turn is over: it is that of the next, of those who came after number `after`."""
        room = self._rooms.get(turn.target)
        if room is None:
            return
        room.turns -= 1
        later = (one for one in room.tickets.values() if after < one.number <= turn.last)
        chosen = next((one for one in later if one.is_free), None)
        if chosen is not None:
            _give(room, turn, chosen)
        elif room.again:
            room.again = False
            self._ready(turn.target)

    def close(self) -> None:
        """Wake all, for the last time: there will be no more jobs."""
        self.closing = True
        self._closed.set()
        self._wake_all()

    async def unless_closed(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives; where this is closed first, `work` is cancelled, with ClosingError."""
        working, closed = asyncio.ensure_future(work), asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({working, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClosingError("the master is about to end", hint="ask again when it is back")
            return working.result()
        finally:
            working.cancel()
            closed.cancel()

    def _announced(self, topic: str) -> None:
        if topic.startswith(_READY):
            self._ready(topic.removeprefix(_READY))
        elif topic in {_ORDERS, _ANYTHING}:
            self._wake_all()
        elif topic.startswith(f"{_ORDERS}:"):
            builder = topic.rpartition(":")[2]
            for ticket in self._of_builder.get(int(builder), ()) if builder.isdecimal() else ():
                ticket.wake()

    def _ready(self, target: str) -> None:
        """It is the turn of who has waited longest; who is just looking will look once more."""
        room = self._rooms.get(target)
        if room is None:
            return
        if room.turns >= _TURNS_AT_ONCE:
            room.again = True
            return
        chosen = next((one for one in room.tickets.values() if one.is_free), None)
        if chosen is not None:
            _give(room, _Turn(target, self._numbers), chosen)

    def _wake_all(self) -> None:
        for tickets in self._of_builder.values():
            for ticket in tickets:
                ticket.wake()

    def _forget(self, builder_id: int, ticket: Ticket) -> None:
        mine = self._of_builder[builder_id]
        mine.discard(ticket)
        if not mine:
            del self._of_builder[builder_id]
        for one in ticket.targets:
            self._rooms[one].tickets.pop(ticket.number)
        ticket.leave()
        for one in ticket.targets:
            if not self._rooms[one].tickets:
                del self._rooms[one]


def _give(room: _Room, turn: _Turn, ticket: Ticket) -> None:
    room.turns += 1
    ticket.turn = turn
    ticket.wake()
