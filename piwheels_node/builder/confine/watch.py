# SPDX-License-Identifier: BSD-3-Clause
"""One run in the sandbox, followed to its end: its output, its limits, the wish to stop or to stand still.

While the gate is closed every process of the sandbox stands still, and no clock runs. When this is done
with a run, no process of it is left.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import IO

from piwheels_node.builder.confine.cgroups import Group
from piwheels_node.builder.confine.disk import Disk
from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.confine.memory import Memory
from piwheels_node.builder.confine.processes import Family
from piwheels_node.builder.confine.written import by_processes
from piwheels_node.core.failure import FailureReason

_WAKE_S = 0.25
_STOP_AGAIN_S = 0.01
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Run:
    """How one run in the sandbox ended. `reason` is set where a limit ended it, `stopped` where we did.

    `cpu_s` is None where only package code itself can tell. `written_bytes`, on disks, is what there was when
    we last looked, and None where the kernel does not count it.
    """

    exit_code: int
    reason: FailureReason | None
    stopped: bool
    duration_s: float
    peak_memory_bytes: int = 0
    cpu_s: float | None = None
    written_bytes: int | None = None


@dataclass(frozen=True)
class Bounds:
    """What one run may use."""

    timeout_s: float
    silence_s: float
    log_bytes: int
    disk_bytes: int
    disk_check_s: float
    memory_bytes: int
    processes: int
    cores: int


@dataclass(frozen=True)
class Confined:
    """A sandbox that is about to begin: who is in it, and what keeps it within its bounds."""

    process: subprocess.Popen[bytes]
    family: Family
    memory: Memory
    disk: Disk
    group: Group | None

    def kill(self) -> int:
        """End all of it, and give the exit code of bubblewrap."""
        self.family.kill()
        code = self.process.wait()
        self.family.close()
        return code


class Watch:
    """Follows one sandbox to its end."""

    def __init__(
        self,
        confined: Confined,
        *,
        log: IO[bytes],
        bounds: Bounds,
        stop: threading.Event,
        pause: Gate | None,
    ) -> None:
        self.confined = confined
        self.log = log
        self.bounds = bounds
        self.stop = stop
        self.pause = pause
        self.stopped = False
        self.exit_code = -1
        self.written_bytes: int | None = None
        self._stood_s = 0.0
        self._started = self._spoke = self._look_at = self._now()

    def until_end(self) -> FailureReason | None:
        """Copy the output until the sandbox is gone; gives the limit that ended it, if one did."""
        try:
            reason = self._follow()
        finally:
            self._count_written(self.confined.family.numbers())
            self.exit_code = self.confined.kill()
            self.log.flush()
        if reason is None and not self.stopped and self.confined.memory.ended(self.exit_code):
            return FailureReason.OUT_OF_MEMORY
        return reason

    def _follow(self) -> FailureReason | None:
        process = self.confined.process
        assert process.stdout is not None  # noqa: S101 - opened as a pipe by the sandbox
        ended = os.pidfd_open(process.pid)
        with process.stdout as output:
            watched = [output.fileno(), ended]
            try:
                while True:
                    if self.pause and self.pause.closed:
                        self._stand_still(self.pause, ended)
                    wait_s = max(0.0, min(_WAKE_S, self._look_at - self._now()))
                    ready, _, _ = select.select(watched, [], [], wait_s)
                    if output.fileno() in ready:
                        chunk = os.read(output.fileno(), _READ_BYTES)
                        if not chunk:  # it closed its output, and may go on without
                            watched.remove(output.fileno())
                        elif not self._keep(chunk):
                            return FailureReason.LOG_TOO_BIG
                    elif ended in ready:
                        return None
                    self.stopped = self.stop.is_set()
                    reason = None if self.stopped else self._exceeded()
                    if self.stopped or reason:
                        return reason
            finally:
                os.close(ended)

    def _exceeded(self) -> FailureReason | None:
        """The limit that has been exceeded, if one has; what takes time to tell is told now and then."""
        now = self._now()
        if now - self._started > self.bounds.timeout_s:
            return FailureReason.TIMEOUT
        if now - self._spoke > self.bounds.silence_s:
            return FailureReason.SILENT
        return self._looked(now) if now >= self._look_at else None

    def _looked(self, now: float) -> FailureReason | None:
        processes = self.confined.family.numbers()
        self._count_written(processes)
        if self.confined.memory.look(processes):
            return FailureReason.OUT_OF_MEMORY
        if self.confined.family.threads > self.bounds.processes:
            return FailureReason.TOO_MANY_PROCESSES
        if self.confined.disk.look(processes):
            return FailureReason.OUT_OF_DISK
        self._look_at = now + self.confined.memory.wait_s
        return None

    def _count_written(self, processes: list[int]) -> None:
        """What they have written; less than before where some have ended that nobody waited for."""
        now = by_processes(processes)
        if now is not None:
            self.written_bytes = max(now, self.written_bytes or 0)

    def _now(self) -> float:
        """Seconds of a clock that rests while the sandbox stands still."""
        return time.monotonic() - self._stood_s

    def _stand_still(self, pause: Gate, ended: int) -> None:
        """Stop every process until the gate is open, or there is nothing more to wait for."""
        group, family = self.confined.group, self.confined.family
        frozen = group is not None and group.freeze(frozen=True)
        closed_at = time.monotonic()
        while not self.stop.is_set() and not select.select([ended], [], [], 0)[0]:
            still = frozen or family.stop()
            if pause.wait_open(_WAKE_S if still else _STOP_AGAIN_S):
                break
        if group and frozen:
            group.freeze(frozen=False)
        else:
            family.resume()
        self._stood_s += time.monotonic() - closed_at

    def _keep(self, chunk: bytes) -> bool:
        """Add to the log; False where that was more than it may hold."""
        self._spoke = self._now()
        room = max(0, self.bounds.log_bytes - self.log.tell())
        self.log.write(chunk[:room])
        self.log.flush()  # somebody may be reading along
        return len(chunk) <= room
