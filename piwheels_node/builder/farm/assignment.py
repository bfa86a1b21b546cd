# SPDX-License-Identifier: BSD-3-Clause
"""One leased job, from the first heartbeat to the report.

The build has a thread; a companion tells the master that it lives, sends what the log has grown by, and
ends the build where the lease was lost. A master that cannot be reached costs time only: the build goes on,
and what there is to say is said again until the lease is surely over. "Surely" is by a clock of our own that
nobody sets, counted from when the master's last answer arrived.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar

from piwheels_node.builder.build import Build, Record
from piwheels_node.builder.farm.patience import Patience, in_thread
from piwheels_node.builder.files import sha256_of
from piwheels_node.builder.hooks import StoppedError
from piwheels_node.builder.workshop import Workshop
from piwheels_node.client import MasterClient, UploadStoppedError
from piwheels_node.core.errors import (
    KeyRefusedError,
    LeaseLostError,
    MasterError,
    MasterUnreachableError,
    StorageError,
    SupersededError,
)
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Step
from piwheels_node.core.messages import (
    LOG_PART_BYTES,
    Health,
    Heartbeat,
    Lease,
    LocalBuild,
    LogPart,
    Report,
    ReportAnswer,
    WheelClaim,
)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_LOG_PART_BYTES = 1 << 20
_LOG_EVERY_S = 1.0
_TAIL_BYTES = 4 << 10
"""How much of a log is shown to other programs of the machine."""

_BEAT_EVERY_S = 15.0
_LOOK_S = 0.25
_LEAVE_S = 1.0
_FAREWELL_S = 5.0
"""How long the master may take to hear that a job comes back: who ends a builder does not want to wait."""


class Observer(Protocol):
    """Who wants to see what the builder does; called from its threads."""

    def started(self, lease: Lease) -> None:
        """A job was leased."""

    def step(self, lease: Lease, step: Step) -> None:
        """A step begins."""

    def finished(self, lease: Lease, answer: ReportAnswer | None) -> None:
        """The job is done with; None where it was handed back, refused or lost."""

    def paused(self, why: str | None) -> None:
        """Builds stand still, or no job is taken, for this reason; None: it is over."""


class _Ending(Enum):
    """What becomes of the lease of a build that is given up."""

    HAND_BACK = "hand-back"
    REFUSE = "refuse"
    SILENCE = "silence"


class Assignment:
    """Carries out one lease, in the calling thread; other threads may give it up."""

    def __init__(
        self,
        client: MasterClient,
        workshop: Workshop,
        lease: Lease,
        *,
        health: Callable[[], Health],
        end: Callable[[MasterError], None],
        observer: Observer | None,
    ) -> None:
        """`end` is called where the master's answer means that this builder has to stop for good."""
        self.client = client
        self.workshop = workshop
        self.lease = lease
        self.observer = observer
        self._health = health
        self._end = end
        self._stop = threading.Event()
        self._ending = _Ending.HAND_BACK
        self._why = ""
        self._step = Step.FETCH
        self._told = Step.FETCH
        self._asked = self._answered = 0
        self._until = time.monotonic() + lease.expires_in_s
        self._sent_bytes = 0
        self._log_path = Path()
        self._begun_at = datetime.now(UTC)
        self._done = threading.Event()
        self._wake = threading.Event()

    # --- from other threads ------------------------------------------------------------------------

    def stop(self) -> None:
        """Give the build up; the job goes back to the queue."""
        self._stop.set()

    def refuse(self, why: str) -> None:
        """Give the build up; another builder is to have the job."""
        if not self._stop.is_set():
            self._why, self._ending = why, _Ending.REFUSE
        self._stop.set()

    def void(self) -> None:
        """Give the build up, and say nothing: the lease is somebody else's, or nobody's."""
        self._ending = _Ending.SILENCE
        self._stop.set()

    def check(self) -> None:
        """Ask the master now whether the lease still holds, not with the next heartbeat."""
        self._asked += 1
        self._wake.set()

    def view(self) -> LocalBuild:
        """How far it is, with the end of its log."""
        size, tail = 0, b""
        # There may be no log yet, or no more.
        with contextlib.suppress(OSError), self._log_path.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            tail = os.pread(log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        return LocalBuild(
            job_id=self.lease.job_id,
            project=self.lease.project,
            version=self.lease.version,
            target=self.lease.target,
            step=self._step,
            begun_at=self._begun_at,
            log_bytes=size,
            log_tail=tail.decode(errors="replace"),
        )

    # --- the build ---------------------------------------------------------------------------------

    def carry_out(self) -> ReportAnswer | None:
        """Build and report; None where the job went back to the queue or to somebody else."""
        companion = threading.Thread(target=self._keep_alive, name=f"lease-{self.lease.job_id}", daemon=True)
        started, stood_s = time.monotonic(), self.workshop.gate.closed_s
        try:
            with self.workshop.directory() as directory:
                build = Build(
                    self.workshop,
                    self.lease,
                    directory,
                    on_step=self._on_step,
                    stop=self._stop,
                    pause=self.workshop.gate,
                )
                self._log_path = build.log_path
                companion.start()
                record = build.run()
                self._on_step(Step.UPLOAD)
                stood_s = self.workshop.gate.closed_s - stood_s
                return self._hand_in(record, time.monotonic() - started - stood_s)
        except LeaseLostError:
            self.void()
        except OSError as error:  # not the build's own, which are recorded
            self.refuse(f"the builder has no room for it: {error}"[:500])
        except (StoppedError, UploadStoppedError):
            pass
        finally:
            self._done.set()
            self._wake.set()
            if companion.ident is not None:
                companion.join(_LEAVE_S)  # it may wait for a master that has gone silent
        self._let_go()
        return None

    def _hand_in(self, record: Record, duration_s: float) -> ReportAnswer:
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
            duration_s=max(0.0, duration_s),
            steps=record.steps,
            cpu_s=record.usage.cpu_s,
            peak_memory_bytes=record.usage.peak_memory_bytes,
            written_bytes=record.written_bytes,
            environment=self.workshop.describe(record.requirements, record.layers),
            wheel=claim,
            log=self._rest_of_log(),
        )
        return self._insist(lambda: self.client.report(self.lease, report))

    def _upload(self, path: Path, record: Record) -> bool:
        """Send the wheel; where the master will not have it that is how the build ended, and recorded."""
        try:
            self._insist(lambda: self.client.upload_wheel(self.lease, path, stop=self._stop))
        except (LeaseLostError, MasterUnreachableError, SupersededError, KeyRefusedError, UploadStoppedError):
            raise
        except StorageError as error:
            record.reason, record.evidence = FailureReason.OUT_OF_DISK, error.what
        except MasterError as error:
            record.reason, record.evidence = FailureReason.BUILDER_FAILED, error.what
        else:
            return True
        return False

    def _let_go(self) -> None:
        """Tell the master that the build was given up, unless there is nobody to be told."""
        if self._ending is _Ending.HAND_BACK:
            said = in_thread(lambda: self.client.hand_back(self.lease), "master")
        elif self._ending is _Ending.REFUSE:
            said = in_thread(lambda: self.client.refuse(self.lease, self._why), "master")
        else:
            return
        try:
            said.result(_FAREWELL_S)
        except (MasterError, StorageError, TimeoutError) as error:  # the lease ends by itself
            _log.info("job %d could not be handed back: %s", self.lease.job_id, error)

    def _insist(self, call: Callable[[], _T]) -> _T:
        """Say it again while the master cannot be reached and the lease lasts."""
        patience = Patience()
        while True:
            try:
                return self._unless_stopped(call)
            except MasterUnreachableError:
                if time.monotonic() > self._until or patience.wait(self._stop):
                    raise

    def _unless_stopped(self, call: Callable[[], _T]) -> _T:
        """What the call gives; raises StoppedError soon after we are to stop, whatever it waits for.

        A network that has gone silent is noticed after half a minute at the earliest; so the call has a
        thread, which is left alone then.
        """
        outcome = in_thread(call, "master")
        while not concurrent.futures.wait([outcome], _LOOK_S).done:
            if self._stop.is_set() and not concurrent.futures.wait([outcome], _LEAVE_S).done:
                raise StoppedError
        return outcome.result()

    def _on_step(self, step: Step) -> None:
        self._step = step
        if self.observer:
            self.observer.step(self.lease, step)

    # --- the companion -----------------------------------------------------------------------------

    def _keep_alive(self) -> None:
        every_s = min(self.lease.expires_in_s / 3, _BEAT_EVERY_S)
        patience = Patience(most_s=every_s)
        next_beat = time.monotonic() + every_s
        wait_s = look_s = min(_LOG_EVERY_S, every_s)
        while not self._rest(wait_s):
            try:
                if time.monotonic() >= next_beat or self._has_news():
                    self._beat()
                    next_beat = time.monotonic() + every_s
                if self._step is not Step.UPLOAD:
                    self._send_log()
            except LeaseLostError:
                self.void()
                return
            except (SupersededError, KeyRefusedError) as error:
                self._end(error)
                return
            except (MasterError, StorageError) as error:
                _log.info("job %d: %s", self.lease.job_id, error)
                wait_s = patience.next_s()
            except Exception:  # noqa: BLE001 - the boundary of the thread: without it the lease would end
                if self._done.is_set():  # then it is the client, which was closed under our hands
                    return
                _log.exception("job %d: the master could not be told that it lives", self.lease.job_id)
                wait_s = patience.next_s()
            else:
                patience.reset()
                wait_s = look_s

    def _rest(self, seconds: float) -> bool:
        """Wait so long, or until there is something to say; True where there will be nothing more."""
        self._wake.wait(seconds)
        self._wake.clear()
        return self._done.is_set()

    def _has_news(self) -> bool:
        return self._step is not self._told or self._asked != self._answered

    def _beat(self) -> None:
        step, asked = self._step, self._asked
        answer = self.client.heartbeat(
            self.lease, Heartbeat(token=self.lease.token, step=step, health=self._health())
        )
        if not answer.carry_on:
            raise LeaseLostError("the master wants no more of it", where=f"job {self.lease.job_id}")
        self._told, self._answered = step, asked
        self._until = time.monotonic() + answer.expires_in_s

    def _send_log(self, *, leave_bytes: int = 0) -> None:
        """Send what the log has grown by, unless that is `leave_bytes` or less."""
        with contextlib.suppress(FileNotFoundError), self._log_path.open("rb") as file:
            while os.fstat(file.fileno()).st_size - self._sent_bytes > leave_bytes:
                chunk = os.pread(file.fileno(), _LOG_PART_BYTES, self._sent_bytes)
                self._sent_bytes = self.client.send_log(self.lease, self._sent_bytes, chunk)

    def _rest_of_log(self) -> LogPart | None:
        try:
            with self._log_path.open("rb") as file:
                rest = os.pread(file.fileno(), LOG_PART_BYTES, self._sent_bytes)
        except OSError:
            return None
        return LogPart.of(self._sent_bytes, rest) if rest else None
