# SPDX-License-Identifier: BSD-3-Clause
"""Running package code: what it is told, what it may use, and what it answers.

`data/hook.py` is the other end, inside the sandbox. Its answer is a file that package code could have
written as well: bounded, of the right types, and believed no further than its consequences reach.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from piwheels_node.builder.caches.compiled import MOUNTED, Results
from piwheels_node.builder.caches.environment import Environment
from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.confine.limits import build_memory_bytes, compilers, hard_processes, is_large
from piwheels_node.builder.confine.watch import Bounds, Run
from piwheels_node.builder.diagnosis import diagnose
from piwheels_node.builder.files import open_plain, remove_tree
from piwheels_node.builder.rooms import Room
from piwheels_node.builder.roots.layers import NO_LAYERS
from piwheels_node.builder.workshop import Workshop
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages import Lease

_ANSWER_BYTES = 1 << 20
_FIRST_LINE_BYTES = 500
_PIECE_BYTES = 1 << 20
_ILLEGAL_INSTRUCTION = 128 + signal.SIGILL  # as bubblewrap tells it, like a shell
_MOST_WRITTEN_BYTES = 1 << 50
_DISK_CHECK_S = 5.0
_MEMORY_CHECK_S = 1.0
_OLDEST_ZIP_TIME = 315532800  # 1980-01-01: a zip cannot say anything earlier
_KEYS = {"build": ("wheel", "requires"), "load": ("failed",)}


class StoppedError(Exception):
    """The build was given up because we were asked to; nothing is to be reported."""


@dataclass
class Usage:
    """What package code has used so far, by its own account."""

    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    written_bytes: int | None = None
    "On disks; None: the kernel does not count it."


class Hooks:
    """Runs the hook for one build, in one room after the other."""

    def __init__(
        self,
        workshop: Workshop,
        lease: Lease,
        *,
        log: IO[bytes],
        stop: threading.Event,
        pause: Gate | None = None,
    ) -> None:
        self.workshop = workshop
        self.lease = lease
        self.log = log
        self.stop = stop
        self.pause = pause
        self.usage = Usage()
        self.evidence_line: int | None = None
        self.room: Room | None = None
        self.results: Results | None = None
        self.layers = NO_LAYERS
        self._entered_at = 0
        settings, machine_bytes = workshop.settings.builder, workshop.sandbox.machine_bytes()
        alone = is_large(settings, lease.memory_bytes, machine_bytes)
        self._memory_bytes = build_memory_bytes(settings, machine_bytes, alone=alone)
        self._cores = compilers(settings, self._memory_bytes)

    @property
    def inside(self) -> Path:
        """The directory that becomes /build."""
        assert self.room is not None  # noqa: S101 - nothing runs outside a room
        return self.room.path

    def enter(self, room: Room) -> None:
        """Work in this room from now on; what the log says of an earlier one explains nothing any more."""
        self.room = room
        self._entered_at = self.log.tell()

    def run(
        self, action: str, request: dict[str, Any], environment: Environment
    ) -> tuple[Run, dict[str, Any]]:
        """Run package code; gives its answer, or raises BuildError with what the log says of the reason.

        Raises StoppedError where we were asked to stop.
        """
        settings, room = self.workshop.settings.builder, self.room
        assert room is not None  # noqa: S101 - nothing runs outside a room
        for name in ("answer.json", "usage.json"):
            _clear(self.inside / name)
        limits = {
            "processes": hard_processes(settings),
            "file_bytes": settings.disk_max_bytes,
            "nice": settings.nice,
        }
        started_at = self.log.tell()
        run = self.workshop.sandbox.run(
            [action, json.dumps({**request, "limits": limits})],
            build=self.inside,
            environment=environment.path,
            log=self.log,
            bounds=Bounds(
                timeout_s=min(settings.timeout_s, self.lease.limits.timeout_s),
                silence_s=min(settings.silence_s, self.lease.limits.silence_s),
                log_bytes=min(settings.log_max_bytes, self.lease.limits.log_bytes),
                disk_bytes=room.max_bytes,
                disk_check_s=_MEMORY_CHECK_S if room.in_memory else _DISK_CHECK_S,
                memory_bytes=self._memory_bytes,
                processes=settings.processes,
                cores=self._cores,
            ),
            variables=self._variables(),
            stop=self.stop,
            pause=self.pause,
            reading={MOUNTED: self.results.kept} if self.results else {},
            shown=self.layers.shown,
        )
        self._add_usage(run)
        if run.stopped:
            raise StoppedError
        if run.reason:
            raise BuildError(run.reason, self._limit(run.reason))
        if run.exit_code != 0:
            self._blame_bubblewrap(started_at)
            raise self._diagnosed(run.exit_code)
        return run, self._answer(action)

    def _diagnosed(self, exit_code: int) -> BuildError:
        """What the log says since the room was entered; the line is counted from the log's beginning.

        A backend that the processor stopped says nothing any more; its exit code does.
        """
        with Path(self.log.name).open("rb") as log:
            lines_before = log.read(self._entered_at).count(b"\n")
            found = diagnose(iter(lambda: log.read(_PIECE_BYTES), b""))
        self.evidence_line = found.evidence_line and found.evidence_line + lines_before
        reason = found.reason
        if reason is FailureReason.UNKNOWN and exit_code == _ILLEGAL_INSTRUCTION:
            reason = FailureReason.ILLEGAL_INSTRUCTION
        return BuildError(reason, captured=found.captured, evidence=found.evidence)

    def _blame_bubblewrap(self, started_at: int) -> None:
        """Raise where it was bubblewrap that failed: it speaks first, and then the hook leaves no usage.

        A package can make that up; it gains no more than to be tried again.
        """
        with Path(self.log.name).open("rb") as log:
            log.seek(started_at)
            said = log.readline(_FIRST_LINE_BYTES)
        if (
            said.startswith((b"bwrap: ", b"setpriv: ", b"ionice: ", b"unshare: ", b"mount: ", b"sh: "))
            and not (self.inside / "usage.json").exists()
        ):
            raise BuildError(FailureReason.BUILDER_FAILED, said.decode(errors="replace").strip())

    def _variables(self) -> dict[str, str]:
        """The environment of package code: nothing of ours, and all that makes builds the same twice."""
        uploaded_at = self.lease.sdist.uploaded_at
        jobs = str(self._cores)
        path = "/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {
            "PATH": path,
            "HOME": "/home/builder",
            "USER": "builder",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "TERM": "dumb",
            "VIRTUAL_ENV": "/env",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "SOURCE_DATE_EPOCH": str(int(uploaded_at.timestamp()) if uploaded_at else _OLDEST_ZIP_TIME),
            "MAKEFLAGS": f"-j{jobs}",
            "CMAKE_BUILD_PARALLEL_LEVEL": jobs,
            "CARGO_BUILD_JOBS": jobs,
            "NPY_NUM_BUILD_JOBS": jobs,
            "MAX_JOBS": jobs,  # torch, and ninja where setuptools is told to use it
            "GOMAXPROCS": jobs,
            "OMP_NUM_THREADS": jobs,
            "PIP_NO_INDEX": "1",
            **(self.results.variables(path) if self.results else {}),
        }

    def _limit(self, reason: FailureReason) -> str | None:
        """What is said of a limit that ended the build, besides its reason's sentence."""
        if reason is FailureReason.OUT_OF_MEMORY:
            return f"{reason.sentence} It has {self._memory_bytes >> 20} MiB ({self.workshop.sandbox.kind})."
        return None

    def _add_usage(self, run: Run) -> None:
        """What was seen from outside, and what the hook says, which package code could have written."""
        cpu_s, peak, written = run.cpu_s, run.peak_memory_bytes, run.written_bytes
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            with open_plain(self.inside / "usage.json") as file:
                used = json.loads(file.read(_ANSWER_BYTES))
            cpu_s = bounded(used["cpu_s"], 1e9) if cpu_s is None else cpu_s
            peak = max(peak, int(bounded(used["peak_memory_bytes"], self._memory_bytes)))
            if "written_bytes" in used:
                written = max(written or 0, int(bounded(used["written_bytes"], _MOST_WRITTEN_BYTES)))
        self.usage.cpu_s += cpu_s or 0.0
        self.usage.written_bytes = written if written is None else written + (self.usage.written_bytes or 0)
        self.usage.peak_memory_bytes = max(self.usage.peak_memory_bytes, peak)

    def _answer(self, action: str) -> dict[str, Any]:
        try:
            with open_plain(self.inside / "answer.json") as file:
                answer = json.loads(file.read(_ANSWER_BYTES))
            if not isinstance(answer, dict) or not any(key in answer for key in _KEYS[action]):
                raise ValueError("it has not the fields that it should have")
            if not isinstance(answer.get("requires", []), list) or not isinstance(
                answer.get("failed", {}), dict
            ):
                raise ValueError("its fields are of the wrong type")
        except (OSError, ValueError, RecursionError) as error:
            raise BuildError(
                FailureReason.BAD_METADATA, f"the backend ended without an answer that can be read: {error}"
            ) from error
        return answer


def _clear(path: Path) -> None:
    """Remove what package code left where an answer is to be, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def bounded(value: Any, most: float) -> float:
    """A number that package code gave, if it is one from 0 to `most`; else 0."""
    if isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= most:
        return float(value)
    return 0.0
