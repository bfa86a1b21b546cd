# SPDX-License-Identifier: BSD-3-Clause
"""A simulated builder: speaks the real API over real connections, builds nothing, and breaks on purpose.

    hello -> lease -> (heartbeats, log, wheel) -> report -> lease -> ...
        killed: all connections drop, and after a while it comes back with hello

Like a real one it has a connection for its work, one for heartbeats and one on which it waits for orders,
says everything again until it is heard or the lease is over, and stops where the lease is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from piwheels_node.core.builders import Mode
from piwheels_node.core.messages import (
    Health,
    Hello,
    Lease,
    LeaseRequest,
    Machine,
    OfferedTarget,
    Orders,
    OrdersRequest,
)
from simulator.assignment import Assignment, KilledError
from simulator.faults import Faults
from simulator.ledger import Attempt, Ledger
from simulator.wire import Address, Answer, Cut, Figures, Link, LinkError
from simulator.world import TARGETS, World

_BUSY = frozenset({429, 503})
_SHORT_S = 0.2
_MOST_PAUSE_S = 5.0
_RECENT = 200


@dataclass
class Shared:
    """What all builders of a fleet have in common."""

    world: World
    faults: Faults
    addresses: Sequence[Address]
    lease_s: float
    poll_s: float = 20.0
    operator_key: str = ""
    ledger: Ledger = field(default_factory=Ledger)
    figures: Figures = field(default_factory=Figures)
    recent: deque[Attempt] = field(default_factory=lambda: deque(maxlen=_RECENT))
    "The newest leases of all builders: what one builder should not be able to touch of another's."

    over: asyncio.Event = field(default_factory=asyncio.Event)
    "The fleet has done what it was to do."

    visits: set[asyncio.Task[None]] = field(default_factory=set)
    "What the person at the farm is doing."

    def visit(self, deed: Coroutine[None, None, None]) -> None:
        """Let the person at the farm do something beside the builders."""
        self.visits.add(asyncio.create_task(deed))


class SimulatedBuilder:
    """One builder; `run` goes on until it is cancelled."""

    def __init__(self, number: int, name: str, key: str, shared: Shared) -> None:
        self.name = name
        self.shared = shared
        self.chance = random.Random(f"{shared.world.seed}/{name}")
        self.mode = Mode.RUN
        self.skip: frozenset[int] = frozenset()
        self.is_paused = False
        "A person has paused it, or is about to, and has not let it run again."

        self._key = key
        self._serial = -1
        self.work, self.pulse, self.orders = (
            Link(shared.addresses, shared.figures, key, first=number) for _ in range(3)
        )
        # Each serves all targets but one in three; memory from 512 MiB to 8 GiB
        offered = [
            target for at, target in enumerate(TARGETS) if number % 3 == 0 or at != number % len(TARGETS)
        ]
        self._offer = [OfferedTarget(name=name, environment_id="fleet") for name in offered]
        self._memory_bytes = (512 << 20) << (number % 5)

    async def run(self) -> None:
        """Build, and be killed, and build."""
        while True:
            try:
                await self._live()
            except KilledError:
                self.shared.ledger.met["killed"] += 1
            finally:
                for link in (self.work, self.pulse, self.orders):
                    link.abort()
            await asyncio.sleep(self.chance.uniform(0.05, 1.5) * self.shared.lease_s)

    def another_link(self) -> Link:
        """One more connection of this builder's."""
        link = Link(self.shared.addresses, self.shared.figures, self._key)
        link.session = self.work.session
        return link

    def meets(self, fault: str) -> bool:
        """Draw whether this fault comes now, and note it."""
        if self.chance.random() >= getattr(self.shared.faults, fault):
            return False
        self.shared.ledger.met[fault] += 1
        return True

    def health(self) -> Health:
        """What a machine might say of itself."""
        return Health(
            at=datetime.now(UTC),
            load_1m=self.chance.uniform(0, 4),
            memory_available_bytes=self._memory_bytes // 2,
            memory_pressure_percent=self.chance.uniform(0, 5),
            io_pressure_percent=self.chance.uniform(0, 20),
            cpu_pressure_percent=self.chance.uniform(0, 50),
            disk_free_bytes=8 << 30,
            temperature_c=self.chance.uniform(45, 75),
            throttled=False,
            undervoltage=False,
        )

    async def ask(
        self,
        link: Link,
        kind: str,
        path: str,
        body: str | bytes = b"",
        *,
        method: str = "POST",
        headers: str = "",
        wait_s: float = 30.0,
        cut: Cut | None = None,
        until: float = float("inf"),
    ) -> Answer:
        """Ask again until there is an answer other than "later"; after `until` raises LinkError.

        Only the first request is cut, if any is.
        """
        data = body.encode() if isinstance(body, str) else body
        while True:
            try:
                answer = await link.call(
                    kind, method, f"/api/v1{path}", data, headers=headers, wait_s=wait_s, cut=cut
                )
                if answer.status not in _BUSY:
                    return answer
                pause_s = min(float(answer.headers.get("retry-after", _SHORT_S)), _MOST_PAUSE_S)
            except LinkError:
                pause_s = _SHORT_S
            if time.monotonic() > until:
                raise LinkError(f"{kind}: the lease is over")
            cut = None
            await asyncio.sleep(pause_s * self.chance.uniform(0.5, 1.0))

    async def ask_for_job(self, link: Link, wait_s: float) -> Answer:
        """Ask for a job, and wait so long for it."""
        return await self.ask(link, "lease", "/lease", self._wish(wait_s), wait_s=wait_s + 30)

    async def _live(self) -> None:
        session = f"{self.chance.getrandbits(128):032x}"
        for link in (self.work, self.pulse, self.orders):
            link.session = session
        follows = await self._hello(session)
        companion = asyncio.ensure_future(self._follow_orders()) if follows else None
        try:
            while True:
                lease = await self._lease()
                if lease is not None:
                    await Assignment(self, lease).carry_out()
        finally:
            if companion is not None:
                companion.cancel()
                with contextlib.suppress(asyncio.CancelledError, LinkError):
                    await companion

    async def _hello(self, session: str) -> bool:
        """Say hello; gives whether this master has orders for its builders."""
        hello = Hello(
            targets=self._offer,
            session=session,
            version="fleet",
            machine=Machine(
                fingerprint=hashlib.sha256(self.name.encode()).hexdigest(),
                model="Simulated Pi",
                cores=4,
                memory_bytes=self._memory_bytes,
            ),
        )
        answer = await self.ask(self.work, "hello", "/hello", hello.model_dump_json())
        if not answer.ok:
            self.shared.ledger.is_wrong(f"hello {answer.status}", answer.body.decode(errors="replace")[:200])
            await asyncio.sleep(1)
            return False
        if not answer.body:
            return False
        self._heed(Orders.model_validate_json(answer.body))
        return True

    async def _follow_orders(self) -> None:
        while True:
            asked = OrdersRequest(seen=self._serial, wait_s=self.shared.poll_s)
            answer = await self.ask(
                self.orders,
                "orders",
                "/orders",
                asked.model_dump_json(),
                wait_s=self.shared.poll_s + 30,
            )
            if answer.ok:
                self._heed(Orders.model_validate_json(answer.body))
                continue
            self.shared.ledger.is_wrong(f"orders {answer.status} {answer.code}")
            await asyncio.sleep(1)

    def _heed(self, orders: Orders) -> None:
        self._serial, self.mode, self.skip = orders.serial, orders.mode, frozenset(orders.skip)

    async def _lease(self) -> Lease | None:
        if self.meets("lease_lost"):
            asked = self._wish(self.shared.poll_s).encode()
            with contextlib.suppress(LinkError):
                await self.work.call("lease", "POST", "/api/v1/lease", asked, cut=Cut.ANSWER)
            return None
        answer = await self.ask_for_job(self.work, self.shared.poll_s)
        if answer.status == 204:  # noqa: PLR2004 - no content: there is no job
            return None
        if not answer.ok:
            self.shared.ledger.is_wrong(f"lease {answer.status} {answer.code}", str(json.loads(answer.body)))
            await asyncio.sleep(1)
            return None
        return Lease.model_validate_json(answer.body)

    def _wish(self, wait_s: float) -> str:
        wish = LeaseRequest(targets=self._offer, wait_s=wait_s, memory_bytes=self._memory_bytes)
        return wish.model_dump_json()
