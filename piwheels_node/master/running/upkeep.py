# SPDX-License-Identifier: BSD-3-Clause
"""What a master does by itself, as long as it runs; several masters on one database do it side by side.

    wake     every second: jobs whose delay is over become ready
    reap     every few seconds: jobs whose lease is over go to another builder
    release  every minute: jobs that still wait for one that has ended go on
    clean    every hour: uploads that nobody continues are removed, and old counts of statistics

Each is a loop of its own, and none ends because something fails: what cannot be done now is done in a later
round. What is wrong is said once, and once more when it is over, not in every round.

The time in which the database was away is nobody's fault: builders could not keep their leases. So a lease
that ended meanwhile begins anew when it is back (`renew_leases`), as after a time without a master.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from piwheels_node.core.errors import ContendedError, NodeError, UnavailableError
from piwheels_node.core.jobs import JobState
from piwheels_node.master.api import Context
from piwheels_node.master.database.models import Builder, Job
from piwheels_node.master.jobs import chains, queue
from piwheels_node.master.watching import statistics

_WAKE_EVERY_S = 1.0
_MOST_REAP_S = 5.0
_CLEAN_EVERY_S = 3600.0
_RELEASE_EVERY_S = 60.0
_AGAIN_S = 1.0
"""After a failure: builders come back as soon as the database does, and their leases may be over."""

_MOST_ROUNDS = 20
"""A round that has found as much as it may take looks again at once, so many times."""

_log = logging.getLogger(__name__)


def renew_leases(session: Session, since: datetime, now: datetime, lease_s: float) -> int:
    """Leases that were good at `since`, when builders could last be heard, begin anew; gives how many."""
    until = now + timedelta(seconds=lease_s)
    ended = (
        select(Job.id)
        .where(Job.state == JobState.LEASED, Job.lease_until_at > since, Job.lease_until_at < until)
        .with_for_update(skip_locked=True)  # its builder talks to another master: it needs no help
    )
    renewed = session.scalars(
        update(Job).where(Job.id.in_(ended)).values(lease_until_at=until).returning(Job.id),
        execution_options={"synchronize_session": False},
    )
    return len(renewed.all())


def renew_after_start(session: Session, now: datetime, lease_s: float) -> int:
    """Renew the leases of builders that had nobody to talk to until now; gives how many."""
    heard_at = session.scalar(select(func.max(Builder.last_seen_at)))
    return 0 if heard_at is None else renew_leases(session, heard_at, now, lease_s)


class Upkeep:
    """The loops of one process; `run` goes on until it is cancelled.

    `is_away`: the database does not answer, and what needs it need not be tried. It is False again once the
    leases are renewed, so that no builder is told before that its lease is over.
    """

    def __init__(self, context: Context) -> None:
        self._here = context
        self._trouble = _Trouble()
        self._heard_at = context.now()
        self.is_away = False
        self._was_away = False
        """Nobody could keep a lease: the database is away, or its disk is full."""

    async def run(self) -> None:
        """All loops, for ever."""
        reap_every_s = min(_MOST_REAP_S, self._here.settings.master.lease_s / 4)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat("waking jobs", _WAKE_EVERY_S, self._wake))
            tasks.create_task(self._repeat("reaping leases", reap_every_s, self._reap))
            tasks.create_task(self._repeat("releasing jobs", _RELEASE_EVERY_S, self._release))
            tasks.create_task(self._repeat("cleaning the store", _CLEAN_EVERY_S, self._clean))

    async def _repeat(self, name: str, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            wait_s = every_s
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - the boundary of a task: a later round may succeed
                if not isinstance(error, ContendedError):  # other masters keep the leases meanwhile
                    self._was_away |= isinstance(error, NodeError)
                    self.is_away |= isinstance(error, UnavailableError)
                self._trouble.has(name, error)
                wait_s = min(every_s, _AGAIN_S)
            else:
                self._trouble.over(name)
            await asyncio.sleep(wait_s)

    async def _wake(self) -> None:
        here = self._here
        if self._was_away:
            await self._renew()
        for _ in range(_MOST_ROUNDS):
            if not await here.database.awrite(lambda session: queue.wake(session, here.now())):
                break

    async def _reap(self) -> None:
        here, now = self._here, self._here.now()
        if self._was_away:  # `wake` tries it first
            return
        for _ in range(_MOST_ROUNDS):
            lost = await here.database.awrite(lambda session: queue.reap(session, now, here.settings.master))
            self._heard_at = now
            if not lost:
                break
            _log.warning("builders are gone; their jobs %s go to others", lost)

    async def _release(self) -> None:
        here = self._here
        for _ in range(_MOST_ROUNDS):
            if not await here.database.awrite(lambda session: chains.sweep(session, here.now())):
                break

    async def _renew(self) -> None:
        since, now = self._heard_at, self._here.now()
        renewed = await self._here.database.awrite(
            lambda session: renew_leases(session, since, now, self._here.settings.master.lease_s)
        )
        self._was_away = self.is_away = False
        if renewed:
            _log.warning("%d leases begin anew: builders could not be heard since %s", renewed, since)

    async def _clean(self) -> None:
        here = self._here
        await asyncio.to_thread(here.store.clean, here.now())
        await here.database.awrite(lambda session: statistics.prune(session, here.now()))


class _Trouble:
    """What is wrong now, loop by loop; the same trouble of several loops is said once."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}

    def has(self, name: str, error: Exception) -> None:
        # A database that is away says so in many words; and what an operator is meant to read needs no
        # traceback, which is for our own mistakes.
        what = type(error).__name__ if isinstance(error, UnavailableError) else f"{error!r}: {error}"
        if what not in self._now.values():
            trace = None if isinstance(error, NodeError) else error
            _log.error("%s failed, and is tried again and again: %s", name, error, exc_info=trace)
        self._now[name] = what

    def over(self, name: str) -> None:
        what = self._now.pop(name, None)
        if what is not None and what not in self._now.values():
            _log.warning("%s works again", name)
