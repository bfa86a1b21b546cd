# SPDX-License-Identifier: BSD-3-Clause
"""The builder's life: lease a job, build it, hand the wheel and the log back, again.

Each slot is one thread that does one build at a time. While it builds, a second thread tells the master
that it lives, sends what the log has grown by, and stops the build where the lease was lost. A master that
cannot be reached costs time only: what there is to say is said again until the lease is over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from piwheels_node.builder.build import Build, Record
from piwheels_node.builder.files import sha256_of
from piwheels_node.builder.health import health
from piwheels_node.builder.hooks import StoppedError
from piwheels_node.builder.workshop import Workshop
from piwheels_node.client import MasterClient
from piwheels_node.core.errors import LeaseLostError, MasterError, MasterUnreachableError, StorageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Step
from piwheels_node.core.messages import (
    LOG_PART_BYTES,
    Heartbeat,
    Hello,
    Lease,
    LeaseRequest,
    LogPart,
    OfferedTarget,
    Report,
    ReportAnswer,
    WheelClaim,
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_POLL_S = 20.0
_LOG_PART_BYTES = 1 << 20
_LOG_EVERY_S = 1.0
_LEAVE_S = 0.25
"""How long a slot that waits for a job may take to hear that there will be none, before it is left alone."""
_RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)


class Observer(Protocol):
    """Who wants to see what the builder does; called from its threads."""

    def started(self, lease: Lease) -> None:
        """A job was leased."""

    def step(self, lease: Lease, step: Step) -> None:
        """A step begins."""

    def finished(self, lease: Lease, answer: ReportAnswer | None) -> None:
        """The job is done with; None where it was handed back or lost."""


class BuilderService:
    """Builds what one master has for this machine, until it is stopped."""

    def __init__(
        self, client: MasterClient, workshop: Workshop, *, slots: int, observer: Observer | None = None
    ) -> None:
        self.client = client
        self.workshop = workshop
        self.observer = observer
        self._stop = threading.Event()
        self._working: set[threading.Event] = set()
        self._guard = threading.Condition()
        self._threads = [
            threading.Thread(target=self._slot, name=f"slot-{number}", daemon=True)
            for number in range(1, slots + 1)
        ]

    def start(self) -> None:
        """Tell the master what is offered here, and begin to take jobs; raises MasterError."""
        self.client.hello(Hello(targets=[self._offer()]))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Give up what is in hand: it goes back to the queue. Returns when all sandboxes are gone.

        A slot that waits for a job is left to wait: it gives back what it may still get.
        """
        with self._guard:
            self._stop.set()
            for event in self._working:
                event.set()
            self.workshop.stop.set()  # last: what this ends must know by then that it was no failure
            self._guard.wait_for(lambda: not self._working)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_LEAVE_S)

    def _slot(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                lease = self._lease()
                failures = 0
                if lease:
                    self._work(lease)
            except (MasterError, StorageError) as error:
                if self._stop.is_set():
                    return
                _log.warning("%s", error)
                self._stop.wait(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1
            except Exception:  # noqa: BLE001 - the boundary of a slot: one broken job must not end the builder
                _log.exception("a slot failed")
                self._stop.wait(_RETRY_S[-1])

    def _lease(self) -> Lease | None:
        return self.client.lease(LeaseRequest(targets=[self._offer()], wait_s=_POLL_S))

    def _offer(self) -> OfferedTarget:
        return OfferedTarget(
            name=str(self.workshop.interpreter.target), environment_id=self.workshop.environment_id()
        )

    def _work(self, lease: Lease) -> None:
        stop = threading.Event()
        with self._guard:
            self._working.add(stop)
            if self._stop.is_set():
                stop.set()
        answer = None
        try:
            if self.observer:
                self.observer.started(lease)
            with self.workshop.directory() as directory:
                answer = _Assignment(
                    self.client,
                    self.workshop,
                    lease,
                    directory=directory,
                    stop=stop,
                    observer=self.observer,
                ).carry_out()
            if not stop.is_set():
                self.workshop.environments.shrink()
        finally:
            with self._guard:
                self._working.discard(stop)
                self._guard.notify_all()
            if self.observer:
                self.observer.finished(lease, answer)


class _Assignment:
    """One leased job, from the first heartbeat to the report."""

    def __init__(
        self,
        client: MasterClient,
        workshop: Workshop,
        lease: Lease,
        *,
        directory: Path,
        stop: threading.Event,
        observer: Observer | None,
    ) -> None:
        self.client = client
        self.workshop = workshop
        self.lease = lease
        self.stop = stop
        self.observer = observer
        self.build = Build(workshop, lease, directory, on_step=self._on_step, stop=stop)
        self._step = self._told = Step.FETCH
        self._until = time.monotonic() + lease.expires_in_s
        self._sent_bytes = 0
        self._lost = False
        self._done = threading.Event()
        self._companion = threading.Thread(target=self._keep_alive, name=f"lease-{lease.job_id}", daemon=True)

    def carry_out(self) -> ReportAnswer | None:
        """Build and report; None where the job went back to the queue or to somebody else."""
        started = time.monotonic()
        self._companion.start()
        try:
            record = self.build.run()
            self._on_step(Step.UPLOAD)
            return self._hand_in(record, started)
        except (StoppedError, LeaseLostError):
            self._give_back()
            return None
        finally:
            self._done.set()
            self._companion.join()

    def _hand_in(self, record: Record, started: float) -> ReportAnswer:
        claim = None
        if record.wheel:
            path = record.wheel.path
            claim = WheelClaim(
                filename=path.name,
                size_bytes=path.stat().st_size,
                sha256=sha256_of(path),
                libraries=record.wheel.libraries,
            )
            claim = claim if self._upload(path, record) else None
        with contextlib.suppress(StorageError):  # how it ended is worth more than the rest of the log
            self._insist(lambda: self._send_log(leave_bytes=LOG_PART_BYTES))
        report = Report(
            token=self.lease.token,
            outcome=Outcome.BUILT if claim else Outcome.FAILED,
            reason=record.reason,
            captured=record.captured and record.captured[:500],
            evidence=record.evidence and record.evidence[:1000],
            evidence_line=record.evidence_line,
            duration_s=time.monotonic() - started,
            steps=record.steps,
            cpu_s=record.usage.cpu_s,
            peak_memory_bytes=record.usage.peak_memory_bytes,
            environment=self.workshop.describe(record.requirements),
            wheel=claim,
            log=self._rest_of_log(),
        )
        return self._insist(lambda: self.client.report(self.lease, report))

    def _upload(self, path: Path, record: Record) -> bool:
        """Send the wheel; where the master will not have it that is how the build ended, and recorded."""
        try:
            self._insist(lambda: self.client.upload_wheel(self.lease, path))
        except (LeaseLostError, MasterUnreachableError):
            raise
        except StorageError as error:
            record.reason, record.evidence = FailureReason.OUT_OF_DISK, error.what
        except MasterError as error:
            record.reason, record.evidence = FailureReason.BUILDER_FAILED, error.what
        else:
            return True
        return False

    def _give_back(self) -> None:
        if not self._lost:
            try:
                self.client.hand_back(self.lease)
            except (MasterError, StorageError) as error:  # the lease ends by itself
                _log.info("job %d could not be handed back: %s", self.lease.job_id, error)

    def _insist(self, call: Callable[[], _T]) -> _T:
        """Say it again while the master cannot be reached and the lease lasts."""
        tried = 0
        while True:
            try:
                return call()
            except MasterUnreachableError:
                if time.monotonic() > self._until or self.stop.wait(_RETRY_S[min(tried, len(_RETRY_S) - 1)]):
                    raise
                tried += 1

    def _on_step(self, step: Step) -> None:
        self._step = step
        if self.observer:
            self.observer.step(self.lease, step)

    def _send_log(self, *, leave_bytes: int = 0) -> None:
        """Send what the log has grown by, unless that is `leave_bytes` or less."""
        with contextlib.suppress(FileNotFoundError), self.build.log_path.open("rb") as file:
            while os.fstat(file.fileno()).st_size - self._sent_bytes > leave_bytes:
                chunk = os.pread(file.fileno(), _LOG_PART_BYTES, self._sent_bytes)
                self._sent_bytes = self.client.send_log(self.lease, self._sent_bytes, chunk)

    def _rest_of_log(self) -> LogPart | None:
        try:
            with self.build.log_path.open("rb") as file:
                rest = os.pread(file.fileno(), LOG_PART_BYTES, self._sent_bytes)
        except OSError:
            return None
        return LogPart.of(self._sent_bytes, rest) if rest else None

    def _keep_alive(self) -> None:
        every_s = min(self.lease.expires_in_s / 3, 20.0)
        next_beat = time.monotonic() + every_s
        while not self._done.wait(min(_LOG_EVERY_S, every_s)):
            try:
                if self._step is not Step.UPLOAD:
                    self._send_log()
                if time.monotonic() >= next_beat or self._step is not self._told:
                    next_beat = time.monotonic() + every_s
                    self._beat()
            except LeaseLostError:
                self._lost = True
                self.stop.set()
                return
            except (MasterError, StorageError) as error:
                _log.info("job %d: %s", self.lease.job_id, error)

    def _beat(self) -> None:
        self._told = self._step
        beat = Heartbeat(token=self.lease.token, step=self._told, health=health(self.workshop.root))
        answer = self.client.heartbeat(self.lease, beat)
        if not answer.carry_on:
            self._lost = True
            self.stop.set()
        self._until = time.monotonic() + answer.expires_in_s
