# SPDX-License-Identifier: BSD-3-Clause
"""The builder's life: lease a job, build it, hand the wheel and the log back, again.

    slot-N     a thread per build at a time; the first that is free waits for a job, for all of them
    lease-N    a companion for each build (`assignment`): heartbeats, the log, a lost lease
    orders     a long poll (`orders`): run, pause, drain, skip
    lookout    a look at the machine every few seconds (`lookout`): heat, power, memory, disk

A job that needs more memory than a slot's share has the machine to itself (`sharing`).

Two things close the gate at which all builds stand still: an order to pause, and the machine's own state.
Heartbeats go on meanwhile, so the lease lives. A builder that waits for work has two requests open and
wakes four times a minute.

A master that is away costs time only. Where the key is somebody else's by now, or opens nothing any more,
the service ends for good: `wait` returns, and `error` says why.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from piwheels_node import __version__
from piwheels_node.builder.farm.assignment import Assignment, Observer
from piwheels_node.builder.farm.orders import OrderListener
from piwheels_node.builder.farm.patience import Patience
from piwheels_node.builder.farm.sharing import Sharing
from piwheels_node.builder.farm.window import end_of
from piwheels_node.builder.machine.conditions import Cause, Judgement, unfit
from piwheels_node.builder.machine.lookout import Lookout
from piwheels_node.builder.workshop import Workshop
from piwheels_node.client import MasterClient
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.errors import KeyRefusedError, MasterError, NodeError, StorageError, SupersededError
from piwheels_node.core.messages import (
    Hello,
    Lease,
    LeaseRequest,
    LocalBuilder,
    LocalEnd,
    Machine,
    OfferedTarget,
    Orders,
    ReportAnswer,
)
from piwheels_node.sensors import Sensors

__all__ = ["BuilderService", "Observer"]

_log = logging.getLogger(__name__)
_POLL_S = 50.0
_HANG_S = 5.0
"""How long what all threads share may be taken, before the service counts as one that hangs."""

_TOO_SOON_S = 1.0
"""A master that has no job before this time is being stopped."""

_LEAVE_S = 0.25
"""How long threads that wait for the master may take to hear that it is over, before they are left alone."""

_LAST = 5
"""How many jobs that have ended are remembered."""

_MEMORY_PATIENCE_S = 120.0
"""Builds that stand still keep their memory: where it is short for so long, the youngest gives up."""


class BuilderService:
    """Builds what one master has for this machine, until it is stopped.

    `client` shows the session of this process, drawn at random (`core.messages.Hello`). `machine` is what
    the master is told of this computer, `sensors` where its state is read; `poll_s` is how long one request
    for a job waits, so that what the master does not announce is found as often.
    """

    def __init__(
        self,
        client: MasterClient,
        workshop: Workshop,
        *,
        slots: int,
        observer: Observer | None = None,
        machine: Machine | None = None,
        sensors: Sensors | None = None,
        poll_s: float = _POLL_S,
    ) -> None:
        self.client = client
        self.workshop = workshop
        self.slots = slots
        self.poll_s = poll_s
        self.observer = observer
        self.machine = machine
        self.sensors = sensors or Sensors(workshop.root)
        self.error: MasterError | None = None
        self.orders = Orders(serial=-1)
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._working: list[Assignment] = []
        self._guard = threading.Condition()
        self._turn = threading.Lock()
        self._trouble: str | None = None
        self._started_at = datetime.now(UTC)
        self._last: deque[LocalEnd] = deque(maxlen=_LAST)
        self._made_room_s = 0.0
        self._sharing = Sharing(workshop, self.sensors)
        self._told_paused: str | None = None
        self._paused_before: str | None = None
        self._lookout = Lookout(
            self.sensors,
            workshop.settings.builder,
            seen=self._seen,
            busy=lambda: bool(self._working),
            stop=self._stop,
        )
        self._listener = OrderListener(
            client,
            obey=self._obey,
            end=self._end,
            paused_itself=lambda: self._lookout.judgement.idle,
            stop=self._stop,
        )
        self._threads = [
            threading.Thread(target=self._slot, name=f"slot-{number}", daemon=True)
            for number in range(1, slots + 1)
        ]

    # --- for the one who runs it -------------------------------------------------------------------

    def start(self) -> None:
        """Tell the master what is offered here, and begin to take jobs; raises MasterError."""
        hello = Hello(
            targets=self._offer(),
            session=self.client.session,
            version=__version__,
            slots=self.slots,
            machine=self.machine,
        )
        try:
            orders = self.client.hello(hello)
        except MasterError as error:
            self._trouble = error.what
            raise
        self._trouble = None
        self._obey(orders)
        self._lookout.start()
        self._listener.start(orders)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Give up what is in hand: it goes back to the queue. Returns when all sandboxes are gone.

        A thread that waits for the master is left to wait: it gives back what it may still get.
        """
        self._halt(Assignment.stop)
        with self._guard:
            self._guard.wait_for(lambda: not self._working)
        until = time.monotonic() + _LEAVE_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        self._listener.join(max(0.0, until - time.monotonic()))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the service has ended by itself; True where it has, and `error` says why."""
        return self._ended.wait(timeout_s)

    def is_well(self) -> bool:
        """True where no thread has died, and none keeps the others waiting."""
        if not self._guard.acquire(timeout=_HANG_S):
            return False
        self._guard.release()
        return all(thread.is_alive() for thread in self._threads)

    @property
    def doing(self) -> str:
        """What it does now, in a line."""
        with self._guard:
            jobs = ", ".join(f"{one.lease.project} {one.lease.version}" for one in self._working)
            why = self._why_not()
        words = [f"building {jobs}" if jobs else "", f"no jobs are taken: {why}" if why else ""]
        return "; ".join(filter(None, words)) or "waiting for jobs"

    @property
    def paused(self) -> str | None:
        """Why no jobs are taken now; None: they are."""
        with self._guard:
            return self._why_not()

    def view(self, data: Path, name: str) -> LocalBuilder:
        """How it stands, for other programs of this machine; `data` is its directory, `name` its own."""
        with self._guard:
            working, ended = list(self._working), list(self._last)
            paused, trouble = self._why_not(), self._trouble
        return LocalBuilder(
            at=datetime.now(UTC),
            started_at=self._started_at,
            data=str(data),
            name=name,
            master=self.client.url,
            version=__version__,
            slots=self.slots,
            paused=paused,
            trouble=trouble,
            builds=[one.view() for one in working],
            ended=ended,
            health=self._lookout.latest,
        )

    # --- what others decide ------------------------------------------------------------------------

    def _obey(self, orders: Orders) -> None:
        """Do as the master says; jobs to be skipped are asked for, since they may have been leased anew."""
        with self._guard:
            if orders.state is not self.orders.state and orders.state is BuilderState.PENDING:
                _log.warning("the master takes this builder once a person approves it")
            self.orders = orders
            skipped = [one for one in self._working if one.lease.job_id in orders.skip]
        for one in skipped:
            one.check()
        self._pause_or_go_on()

    def _seen(self, judgement: Judgement) -> None:
        """Act on a look at the machine."""
        self._pause_or_go_on()
        if judgement.idle != self._told_paused:
            self._told_paused = judgement.idle
            self._listener.tell()
        self._make_room(judgement)

    def _make_room(self, judgement: Judgement) -> None:
        """Give the youngest build up where standing still does not bring memory back."""
        short, now_s = judgement.standing.get(Cause.MEMORY), time.monotonic()
        if short is None or now_s - max(short.since_s, self._made_room_s) < _MEMORY_PATIENCE_S:
            return
        with self._guard:
            self._made_room_s = now_s
            youngest = self._working[-1] if self._working else None
        if youngest:
            youngest.refuse(short.sentence)

    def _pause_or_go_on(self) -> None:
        """Close or open the gate, and tell who waits or wants to know."""
        with self._guard:
            before = self._paused_before
            ordered = self._ordered() if self.orders.mode is Mode.PAUSE else None
            still = ordered or self._lookout.judgement.freeze
            if still:
                self.workshop.gate.close(still)
            else:
                self.workshop.gate.open()
            self._paused_before = now = self._why_not()
            self._guard.notify_all()
        if now == before:
            return
        if now:
            _log.warning("no jobs are taken: %s", now)
        else:
            _log.info("jobs are taken again")
        if self.observer:
            self.observer.paused(now)

    def _why_not(self) -> str | None:
        return self._ordered() or self._lookout.judgement.idle

    def _ordered(self) -> str | None:
        """What the master said that keeps us from taking jobs."""
        if self.orders.state is not BuilderState.ACTIVE:
            return f"this builder is {self.orders.state.value} on its master"
        if self.orders.mode is Mode.RUN:
            return None
        return f"told to {self.orders.mode.value}" + (f": {self.orders.why}" if self.orders.why else "")

    def _end(self, error: MasterError) -> None:
        """Stop for good: nothing that is said with this key is heard any more."""
        with self._guard:
            if self.error or self._stop.is_set():
                return
            self.error = error
        _log.error("%s", error)
        self._halt(Assignment.void)
        self._ended.set()

    def _halt(self, give_up: Callable[[Assignment], None]) -> None:
        with self._guard:
            self._stop.set()
            for one in self._working:
                give_up(one)
            self.workshop.stop.set()  # last: what this ends must know by then that it was no failure
            self._guard.notify_all()
        self._lookout.wake()

    # --- jobs --------------------------------------------------------------------------------------

    def _slot(self) -> None:
        """One build after the other."""
        while not self._stop.is_set():
            try:
                with self._turn:
                    lease = self._next()
                    assignment = self._begin(lease) if lease else None
                if assignment:
                    self._carry_out(assignment)
            except (SupersededError, KeyRefusedError) as error:
                self._end(error)
            except (MasterError, StorageError) as error:
                _log.warning("%s", error)
            except Exception:  # noqa: BLE001 - the boundary of a slot: one broken job must not end the builder
                if not self._stop.is_set():  # then it is the client, which was closed under our hands
                    _log.exception("a slot failed")
                self._stop.wait(_TOO_SOON_S)

    def _next(self) -> Lease | None:
        """Wait for a job; None where we are to stop."""
        patience = Patience()
        while self._wait_until_taking():
            asked_at = time.monotonic()
            # A master that was away is asked without waiting first: that it is back is to be known at once.
            wait_s = 0.0 if self._trouble else self._sharing.poll_s(self._working, self.poll_s)
            try:
                lease = self.client.lease(
                    LeaseRequest(
                        targets=self._offer(),
                        wait_s=wait_s,
                        memory_bytes=self._sharing.next_bytes(self._working),
                        most_memory_bytes=self._sharing.most_bytes(alone=True),
                    )
                )
            except (SupersededError, KeyRefusedError):
                raise
            except (MasterError, StorageError) as error:
                self._complain(error)
                patience.wait(self._stop)
                continue
            self._complain(None)
            patience.reset()
            if lease and self._takes(lease):
                return lease
            if time.monotonic() - asked_at < min(_TOO_SOON_S, self.poll_s / 2):
                self._stop.wait(_TOO_SOON_S)
        return None

    def _wait_until_taking(self) -> bool:
        """Return True once jobs are taken; False where we are to stop."""
        with self._guard:
            self._guard.wait_for(self._may_go_on)
        return not self._stop.is_set()

    def _may_go_on(self) -> bool:
        return self._stop.is_set() or not (self._why_not() or self._sharing.is_full(self._working))

    def _takes(self, lease: Lease) -> bool:
        """True where the job can be begun; else it has gone back to the master."""
        health = self._lookout.look()
        what = unfit(lease.sdist.size_bytes, health, self.workshop.settings.builder)
        if not what and not self._stop.is_set() and not self._lookout.judgement.idle:
            return True  # what was ordered since is for a job in hand: the master knew what it had ordered
        with contextlib.suppress(StorageError):
            if what:
                _log.info("job %d is refused: %s", lease.job_id, what)
                self.client.refuse(lease, what)
            else:
                self.client.hand_back(lease)
        return False

    def _complain(self, error: NodeError | None) -> None:
        """Say once that the master is away, and once that it is back."""
        if error and not self._trouble:
            _log.warning("%s", error)
        elif self._trouble and not error:
            _log.warning("the master answers again")
        self._trouble = error.what if error else None

    def _offer(self) -> list[OfferedTarget]:
        return [
            OfferedTarget(
                name=target, environment_id=workshop.environment_id(), layers=workshop.why_no_layers is None
            )
            for target, workshop in self.workshop.by_target().items()
        ]

    def _begin(self, lease: Lease) -> Assignment:
        assignment = Assignment(
            self.client,
            self.workshop.by_target().get(lease.target, self.workshop),
            lease,
            health=self._lookout.health,
            end=self._end,
            observer=self.observer,
        )
        with self._guard:
            self._working.append(assignment)
            if self._stop.is_set():
                assignment.stop()
        return assignment

    def _carry_out(self, assignment: Assignment) -> None:
        self._lookout.wake()
        lease = assignment.lease
        answer: ReportAnswer | None = None
        try:
            if self.observer:
                self.observer.started(lease)
            answer = assignment.carry_out()
            if not self._stop.is_set():
                self.workshop.shrink()
        finally:
            with self._guard:
                self._working.remove(assignment)
                self._last.appendleft(end_of(lease, answer))
                self._guard.notify_all()
            if self.observer:
                self.observer.finished(lease, answer)
