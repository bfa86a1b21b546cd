# SPDX-License-Identifier: BSD-3-Clause
"""The person at the farm: pauses builders in the middle of a build and lets them run again, cancels jobs.

    pause_a_while     the order; the builder hears of it, and is given no job; the order to run again
    cancel            a job, whoever holds it by then; what the master says of it goes into the ledger

They go on when the builder that they are about has died, and end in order when the fleet does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from piwheels_node.core.builders import Mode
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuilderOrder, JobView
from simulator.wire import Link, LinkError

if TYPE_CHECKING:
    from simulator.builder import Shared, SimulatedBuilder

_HEARD_S = 60.0
"""A builder that has not heard of its orders by then never will."""

_LOOK_S = 0.02
_WAITS = 204


async def pause_a_while(builder: SimulatedBuilder, after_s: float) -> None:
    """Pause a builder in `after_s`, for up to two leases; it keeps its job meanwhile."""
    shared = builder.shared
    if builder.is_paused or await _is_over(shared, after_s):
        return
    builder.is_paused = True
    with contextlib.closing(_Person(builder)) as person:
        try:
            await person.order(Mode.PAUSE)
            asked = time.monotonic()
            if await _until(lambda: builder.mode is Mode.PAUSE or shared.over.is_set()):
                shared.figures.took_s["pause heard"].append(time.monotonic() - asked)
            else:
                shared.ledger.is_wrong("a builder never heard that it is paused", builder.name)
            with contextlib.suppress(LinkError):
                answer = await builder.ask_for_job(person.asks, wait_s=0)
                if answer.ok and answer.status != _WAITS:
                    shared.ledger.is_wrong("a builder was given a job while it was paused", builder.name)
            await _is_over(shared, builder.chance.uniform(0.1, 2.0) * shared.lease_s)
        finally:
            await person.order(Mode.RUN)
            builder.is_paused = False


async def cancel(builder: SimulatedBuilder, job_id: int, after_s: float) -> None:
    """Cancel a job in `after_s`, whoever has it."""
    ledger = builder.shared.ledger
    if await _is_over(builder.shared, after_s):
        return
    ledger.unwanted.add(job_id)
    with contextlib.closing(_Person(builder)) as person:
        if await person.cancel(job_id):
            ledger.cancelled.add(job_id)


class _Person:
    """Connections of one who is about to act: with the operator's key, and with the builder's."""

    def __init__(self, builder: SimulatedBuilder) -> None:
        shared = builder.shared
        self._builder = builder
        self._says = Link(shared.addresses, shared.figures, shared.operator_key)
        self.asks = builder.another_link()

    def close(self) -> None:
        """Hang up."""
        self._says.abort()
        self.asks.abort()

    async def order(self, mode: Mode) -> None:
        """Tell the builder what to do."""
        order = BuilderOrder(mode=mode, why="the simulator").model_dump_json()
        answer = await self._builder.ask(self._says, "order", f"/builders/{self._builder.name}/order", order)
        if not answer.ok:
            complaint = f"order {answer.status} {answer.code}"
            self._builder.shared.ledger.is_wrong(complaint, answer.body.decode(errors="replace")[:200])

    async def cancel(self, job_id: int) -> bool:
        """True where the job is cancelled; False where it had ended before."""
        await self._builder.ask(self._says, "cancel", f"/jobs/{job_id}/cancel")
        answer = await self._builder.ask(self._says, "job", f"/jobs/{job_id}", method="GET")
        state = JobView.model_validate_json(answer.body).state
        if not state.is_final:
            self._builder.shared.ledger.is_wrong(f"a job goes on that was cancelled: {state.value}")
        return state is JobState.CANCELLED


async def _is_over(shared: Shared, within_s: float) -> bool:
    """True as soon as the fleet ends; False where it goes on for so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(shared.over.wait(), within_s)
    return shared.over.is_set()


async def _until(holds: Callable[[], bool]) -> bool:
    """Wait until something is true; False where it never is."""
    deadline = time.monotonic() + _HEARD_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_S)
    return True
