# SPDX-License-Identifier: BSD-3-Clause
"""One run in the sandbox, followed to its end: its output, its limits, the wish to stop or to stand still.

While the gate is closed every process of the sandbox stands still, and no clock runs. When this is done
with a run, no process of it is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from piwheels_node.builder.gate import Gate
from piwheels_node.builder.processes import Family
from piwheels_node.core.failure import FailureReason

_WAKE_S = 0.25
_STOP_AGAIN_S = 0.01
_SET_UP_S = 10.0
"""How long bubblewrap may take to its first fork; it is a matter of milliseconds."""
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Run:
    """How one run in the sandbox ended. `reason` is set where a limit ended it, `stopped` where we did."""

    exit_code: int
    reason: FailureReason | None
    stopped: bool
    duration_s: float


@dataclass(frozen=True)
class Bounds:
    """What one run may use."""

    timeout_s: float
    silence_s: float
    log_bytes: int
    disk_bytes: int
    disk_check_s: float


class Watch:
    """Follows one sandbox to its end."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        info: IO[bytes],
        *,
        log: IO[bytes],
        bounds: Bounds,
        build: Path,
        stop: threading.Event,
        pause: Gate | None,
    ) -> None:
        """`info` is what bubblewrap tells of itself, the number of the sandbox's first process."""
        self.process = process
        self.log = log
        self.bounds = bounds
        self.build = build
        self.stop = stop
        self.pause = pause
        self.stopped = False
        self.exit_code = -1
        self.family = _family(info)
        self._stood_s = 0.0

    def until_end(self) -> FailureReason | None:
        """Copy the output until the sandbox is gone; gives the limit that ended it, if one did."""
        reason = None
        try:
            reason = self._follow()
        finally:
            self._end()
        return reason

    def _follow(self) -> FailureReason | None:  # noqa: C901 - one loop, one line per way to end
        assert self.process.stdout is not None  # noqa: S101 - opened as a pipe by the sandbox
        output = self.process.stdout.fileno()
        ended = os.pidfd_open(self.process.pid)
        watched = [output, ended]
        started = spoke = checked = self._now()
        try:
            while True:
                if self.pause and self.pause.closed:
                    self._stand_still(self.pause, ended)
                ready, _, _ = select.select(watched, [], [], _WAKE_S)
                now = self._now()
                if output in ready:
                    spoke = now
                    chunk = os.read(output, _READ_BYTES)
                    if not chunk:  # it closed its output, and may go on without
                        watched.remove(output)
                    elif not self._keep(chunk):
                        return FailureReason.LOG_TOO_BIG
                elif ended in ready:
                    return None
                if self.stop.is_set():
                    self.stopped = True
                    return None
                if now - started > self.bounds.timeout_s:
                    return FailureReason.TIMEOUT
                if now - spoke > self.bounds.silence_s:
                    return FailureReason.SILENT
                if now - checked > self.bounds.disk_check_s:
                    checked = now
                    if tree_bytes(self.build) > self.bounds.disk_bytes:
                        return FailureReason.OUT_OF_DISK
        finally:
            os.close(ended)

    def _now(self) -> float:
        """Seconds of a clock that rests while the sandbox stands still."""
        return time.monotonic() - self._stood_s

    def _stand_still(self, pause: Gate, ended: int) -> None:
        """Stop every process until the gate is open, or there is nothing more to wait for."""
        closed_at = time.monotonic()
        while not self.stop.is_set() and not select.select([ended], [], [], 0)[0]:
            still = self.family is None or self.family.stop()
            if pause.wait_open(_WAKE_S if still else _STOP_AGAIN_S):
                break
        if self.family:
            self.family.resume()
        self._stood_s += time.monotonic() - closed_at

    def _keep(self, chunk: bytes) -> bool:
        """Add to the log; False where that was more than it may hold."""
        room = max(0, self.bounds.log_bytes - self.log.tell())
        self.log.write(chunk[:room])
        self.log.flush()  # somebody may be reading along
        return len(chunk) <= room

    def _end(self) -> None:
        """Kill what is left; the kernel ends the namespace's processes before its first one is gone."""
        if self.family:
            self.family.kill()
        elif self.process.poll() is None:
            self.process.kill()
        self.exit_code = self.process.wait()
        if self.family:
            self.family.close()
        assert self.process.stdout is not None  # noqa: S101 - opened as a pipe by the sandbox
        self.process.stdout.close()
        self.log.flush()


def _family(info: IO[bytes]) -> Family | None:
    """The sandbox's processes; None where bubblewrap ended before there were any."""
    told = b""
    until = time.monotonic() + _SET_UP_S
    while select.select([info], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(info.fileno(), _READ_BYTES)
        if not piece:
            break
        told += piece
    with contextlib.suppress(ValueError, KeyError, ProcessLookupError):
        return Family(int(json.loads(told)["child-pid"]))
    return None


def tree_bytes(directory: Path) -> int:
    """Disk that a tree takes, in bytes; what vanishes while we look counts as nothing."""
    total = 0
    for root, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_blocks * 512
    return total
