# SPDX-License-Identifier: BSD-3-Clause
"""One build: from a lease to a wheel, or to the reason why there is none.

    fetch     network       source.py: the archive, its SHA-256, safe unpacking
    prepare   network       environment.py: an environment of wheels for what [build-system] requires;
                            roots/layers.py: the Debian packages that the lease names
    ask       package code  hooks.py: the backend's further requirements; more go back to prepare
    build     package code  hooks.py: the wheel, in the same process where nothing was missing
    inspect   neither       inspect.py: the wheel as hostile input; then its extensions in the sandbox
    upload    network       service.py, once this module has given a result

A step either talks to the network or runs package code, never both. What package code leaves behind is
read as hostile: no link is followed, and only the files that are expected are looked at.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.confine.written import by_this_thread
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.hooks import Hooks, StoppedError, Usage, bounded
from piwheels_node.builder.inspect import Wheel, inspect
from piwheels_node.builder.rooms import Room
from piwheels_node.builder.roots.layers import NO_LAYERS, Layers
from piwheels_node.builder.source import BuildSystem, build_system, fetch, unpack
from piwheels_node.builder.workshop import Workshop
from piwheels_node.core.errors import BuildError, WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import Lease, StepTime

_log = logging.getLogger(__name__)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ROUNDS = 3
"""How often a backend may ask for more before we believe that it will never be content."""

_LOOK_S = 0.25


@dataclass
class Record:
    """What a build has to say for itself, filled as it goes; in the end it has a wheel or a reason."""

    steps: list[StepTime] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    requirements: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    reason: FailureReason | None = None
    what: str | None = None
    captured: str | None = None
    evidence: str | None = None
    evidence_line: int | None = None
    wheel: Wheel | None = None
    fetched_bytes: int | None = None
    "What we ourselves have written on disks for it: archives, the source, the environment."

    @property
    def written_bytes(self) -> int | None:
        """What the build wrote on disks; None: the kernel does not count it. What pip wrote is not in it."""
        told = [one for one in (self.fetched_bytes, self.usage.written_bytes) if one is not None]
        return sum(told) if told else None


class Build:
    """One build in its own directory. `run` never raises for the package's faults, it records them."""

    def __init__(
        self,
        workshop: Workshop,
        lease: Lease,
        directory: Path,
        *,
        on_step: Callable[[Step], None],
        stop: threading.Event,
        pause: Gate | None = None,
    ) -> None:
        """While `pause` is closed package code stands still."""
        self.workshop = workshop
        self.lease = lease
        self.directory = directory
        self.on_step = on_step
        self.stop = stop
        self.pause = pause
        self.record = Record()
        self.log_path = directory / "log"

    def run(self) -> Record:
        """Take all steps; the record has a wheel or a reason. Raises StoppedError."""
        before = by_this_thread()
        try:
            return self._run()
        finally:
            after = by_this_thread()
            if before is not None and after is not None:
                self.record.fetched_bytes = max(0, after - before)

    def _run(self) -> Record:
        with self.log_path.open("xb", buffering=0) as log:  # nothing is left to write when the disk is full
            hooks = Hooks(self.workshop, self.lease, log=log, stop=self.stop, pause=self.pause)
            self.record.usage = hooks.usage
            try:
                self.record.wheel = self._steps(hooks)
            except StoppedError:
                raise
            except BuildError as error:
                self._blame(error.reason, error.what, error.captured, error.evidence)
                self.record.evidence_line = hooks.evidence_line
            except WheelError as error:
                self._blame(error.reason, error.what, None, error.where)
            except OSError as error:
                full = _is_full(error)
                self._blame(
                    FailureReason.OUT_OF_DISK if full else FailureReason.BUILDER_FAILED,
                    str(error),
                    None,
                    None,
                )
                if not full:
                    _log.exception("build of %s %s", self.lease.project, self.lease.version)
            except Exception as error:  # noqa: BLE001 - the boundary of a build: the builder goes on to the next
                _log.exception("build of %s %s", self.lease.project, self.lease.version)
                self._blame(FailureReason.BUILDER_FAILED, f"{type(error).__name__}: {error}", None, None)
            if self.stop.is_set():
                raise StoppedError
            if self.record.what:
                with contextlib.suppress(OSError):
                    log.write(f"\npiwheels-node: {self.record.reason}: {self.record.what}\n".encode())
        return self.record

    def _steps(self, hooks: Hooks) -> Wheel:
        """Take the steps in memory where that is likely to do, and again on the disk where it did not."""
        with (
            self._layers() as hooks.layers,
            self.workshop.compilers.lend(self.lease, self.stop) as hooks.results,
        ):
            return self._steps_somewhere(hooks)

    @contextmanager
    def _layers(self) -> Iterator[Layers]:
        """The Debian packages that the lease names, over the build root until the build has ended."""
        if not self.lease.packages:
            yield NO_LAYERS
            return
        with contextlib.ExitStack() as closing:
            with self._step(Step.PREPARE):
                layers = closing.enter_context(
                    self.workshop.lay(self.lease.packages, Halt(self.stop, self.workshop.stop))
                )
            self.record.layers = layers.names
            yield layers

    def _steps_somewhere(self, hooks: Hooks) -> Wheel:
        for in_memory in self.workshop.rooms.choices(self.lease.sdist.size_bytes):
            # The room is gone before anything is reported: what it filled may be the master's disk.
            with self.workshop.rooms.room(in_memory=in_memory) as room:
                hooks.enter(room)
                try:
                    return self._steps_in(room, hooks)
                except (BuildError, OSError) as error:
                    if not (room.in_memory and _is_full(error)):
                        raise
                    hooks.log.write(b"\npiwheels-node: no room in memory; once more, on the disk\n")
                finally:
                    with contextlib.suppress(OSError):  # a full disk has its reason by now, or gets it
                        hooks.results and hooks.results.take_over(room.path)
        raise AssertionError("the last choice is the disk")

    def _steps_in(self, room: Room, hooks: Hooks) -> Wheel:
        with self._step(Step.FETCH):
            source, settings = room.path / "src", self.workshop.settings.builder
            with fetch(self.lease.sdist, self.workshop.downloads, settings, stop=self.stop) as archive:
                unpack(archive.path, source, settings, room_bytes=room.max_bytes)
            (room.path / "out").mkdir()
            self.workshop.sandbox.claim(room.path)
        filename = self._build(build_system(source), hooks)
        with self._step(Step.INSPECT):
            return inspect(filename, self.directory, hooks)

    def _build(self, system: BuildSystem, hooks: Hooks) -> str:
        """Ask and build, with as many rounds of preparation as the backend needs; gives the file name."""
        asked: list[str] = []
        for _ in range(_ROUNDS):
            with self._step(Step.PREPARE):
                environment = self.workshop.environments.get([*system.requires, *asked], stop=self.stop)
                self.record.requirements = [str(pin) for pin in environment.pins]
            request = {
                "backend": system.backend,
                "backend_path": list(system.backend_path),
                "provided": asked,
            }
            with environment, self._step(Step.BUILD):
                run, answer = hooks.run("build", request, environment)
            self._split_off_asking(bounded(answer.get("asked_s"), run.duration_s))
            if "wheel" in answer:
                return str(answer["wheel"])
            asked = [str(one) for one in answer["requires"]]
        raise BuildError(FailureReason.BAD_METADATA, "the backend asks for new requirements for ever")

    def _split_off_asking(self, asked_s: float) -> None:
        """Asking and building were one run; tell their times apart."""
        whole = self.record.steps.pop()
        self.record.steps += [
            StepTime(step=Step.ASK, duration_s=asked_s),
            StepTime(step=Step.BUILD, duration_s=max(0.0, whole.duration_s - asked_s)),
        ]

    @contextmanager
    def _step(self, step: Step) -> Iterator[None]:
        self._pass_gate()
        self.on_step(step)
        started, stood_s = time.monotonic(), self._stood_s()
        try:
            yield
        finally:
            taken_s = time.monotonic() - started - (self._stood_s() - stood_s)
            self.record.steps.append(StepTime(step=step, duration_s=max(0.0, taken_s)))

    def _pass_gate(self) -> None:
        """Begin no step while builds must stand still; raises StoppedError where we are to stop."""
        while not self.stop.is_set():
            if self.pause is None or self.pause.wait_open(_LOOK_S):
                return
        raise StoppedError

    def _stood_s(self) -> float:
        """For how long we have stood still so far; what a step takes is what it works."""
        return self.pause.closed_s if self.pause else 0.0

    def _blame(self, reason: FailureReason, what: str, captured: str | None, evidence: str | None) -> None:
        self.record.reason = reason
        self.record.what = what
        self.record.captured = captured
        self.record.evidence = evidence


def _is_full(error: BuildError | OSError) -> bool:
    if isinstance(error, BuildError):
        return error.reason is FailureReason.OUT_OF_DISK
    return error.errno in _FULL
