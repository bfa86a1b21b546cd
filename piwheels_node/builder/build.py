# SPDX-License-Identifier: BSD-3-Clause
"""One build: from a lease to a wheel, or to the reason why there is none.

    fetch     network      source.py: the archive, its SHA-256, safe unpacking
    prepare   network      environment.py: an environment of wheels for [build-system] requires
    ask       package code sandbox.py: the backend's further requirements; more go back to prepare
    build     package code sandbox.py: the wheel, in the same process where nothing was missing
    inspect   neither      wheelfile.py: the wheel as hostile input; then its extensions in the sandbox
    upload    network      service.py, once this module has given a result

A step either talks to the network or runs package code, never both. What package code leaves behind is
read as hostile: no link is followed, and only the files that are expected are looked at.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from piwheels_node.builder.diagnosis import diagnose
from piwheels_node.wheelfile import WheelFacts, read_wheel, rename_wheel

from piwheels_node.builder.downloads import Downloads
from piwheels_node.builder.environment import Environment, EnvironmentCache
from piwheels_node.builder.files import open_plain, remove_tree
from piwheels_node.builder.interpreter import Interpreter, environment_id, os_release
from piwheels_node.builder.libraries import debian_packages
from piwheels_node.builder.sandbox import Bounds, Run, Sandbox
from piwheels_node.builder.source import BuildSystem, build_system, fetch, unpack
from piwheels_node.core.errors import BuildError, WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import BuildEnvironment, Lease, StepTime
from piwheels_node.core.settings import Settings
from piwheels_node.core.wheels import WheelName, free_filename

_log = logging.getLogger(__name__)
_ANSWER_BYTES = 1 << 20
_UNPACKED_RATIO = 4
_ROUNDS = 3
"""How often a backend may ask for more before we believe that it will never be content."""


class StoppedError(Exception):
    """The build was given up because we were asked to; nothing is to be reported."""


@dataclass(frozen=True)
class Wheel:
    """A finished wheel, in the build's own directory."""

    path: Path
    facts: WheelFacts
    libraries: dict[str, str | None]


@dataclass
class Record:
    """What a build has to say for itself, filled as it goes."""

    steps: list[StepTime] = field(default_factory=list)
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    requirements: list[str] = field(default_factory=list)
    reason: FailureReason | None = None
    what: str | None = None
    captured: str | None = None
    evidence: str | None = None
    evidence_line: int | None = None
    wheel: Wheel | None = None


class Workshop:
    """All that builds on one machine share: the interpreter, the sandbox and the caches."""

    def __init__(
        self,
        root: Path,
        interpreter: Interpreter,
        settings: Settings,
        *,
        extra_index_url: str = "",
        stop: threading.Event,
    ) -> None:
        """`root` is the builder's directory. Raises SandboxUnavailableError where nothing can be confined."""
        self.root = root
        self.interpreter = interpreter
        self.settings = settings
        self.stop = stop
        self._builds = root / "builds"
        root.mkdir(parents=True, exist_ok=True)
        self.sandbox = Sandbox(interpreter, settings.builder, root)
        self.sandbox.check()
        remove_tree(self._builds) if self._builds.exists() else None
        self._builds.mkdir()
        self.downloads = Downloads(root / "downloads", stop)
        self.environments = EnvironmentCache(
            root / "environments",
            interpreter,
            self.downloads,
            settings.cache,
            index_url=settings.pypi.index_url,
            extra_index_url=extra_index_url,
            stop=stop,
        )

    def close(self) -> None:
        """Let go of connections."""
        self.downloads.close()

    def environment_id(self) -> str:
        """See `interpreter.environment_id`."""
        return environment_id(self.interpreter)

    def describe(self, record: Record) -> BuildEnvironment:
        """What the build was made with."""
        return BuildEnvironment(
            environment_id=self.environment_id(),
            python=self.interpreter.version_text,
            release=os_release(),
            requirements=record.requirements,
            tools={"kernel": platform.release()},
            sandbox="bubblewrap",
        )

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A directory for one build, gone afterwards whatever package code did to it."""
        path = Path(tempfile.mkdtemp(prefix="build-", dir=self._builds))
        path.chmod(0o711)
        try:
            yield path
        finally:
            remove_tree(path)


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
    ) -> None:
        self.workshop = workshop
        self.lease = lease
        self.directory = directory
        self.on_step = on_step
        self.stop = stop
        self.record = Record()
        self.log_path = directory / "log"
        self._inside = directory / "inside"  # bound to /build

    def run(self) -> Record:
        """Take all steps; the record has a wheel or a reason. Raises StoppedError."""
        with self.log_path.open("xb") as log:
            try:
                self.record.wheel = self._steps(log)
            except BuildError as error:
                self._blame(error.reason, error.what, error.captured, error.evidence)
            except WheelError as error:
                self._blame(error.reason, error.what, None, error.where)
            except Exception as error:  # noqa: BLE001 - the boundary of a build: the builder goes on with the next one
                _log.exception("build of %s %s", self.lease.project, self.lease.version)
                self._blame(FailureReason.BUILDER_FAILED, f"{type(error).__name__}: {error}", None, None)
            if self.stop.is_set():
                raise StoppedError
            if self.record.what:
                log.write(f"\npiwheels-node: {self.record.reason}: {self.record.what}\n".encode())
        return self.record

    def _steps(self, log: IO[bytes]) -> Wheel:
        with self._step(Step.FETCH):
            archive = fetch(self.lease.sdist, self.workshop.downloads, self.workshop.settings.builder)
            source = self._inside / "src"
            unpack(archive, source, self.workshop.settings.builder)
            (self._inside / "out").mkdir()
            self.workshop.sandbox.claim(self._inside)
        system = build_system(source)
        filename = self._build(system, log)
        with self._step(Step.INSPECT):
            return self._inspect(filename, log)

    def _build(self, system: BuildSystem, log: IO[bytes]) -> str:
        """Ask and build, with as many rounds of preparation as the backend needs; gives the file name."""
        asked: list[str] = []
        for _ in range(_ROUNDS):
            with self._step(Step.PREPARE):
                environment = self.workshop.environments.get([*system.requires, *asked])
                self.record.requirements = [str(pin) for pin in environment.pins]
            self.on_step(Step.BUILD)
            request = {
                "backend": system.backend,
                "backend_path": list(system.backend_path),
                "provided": asked,
            }
            started = time.monotonic()
            try:
                run, answer = self._hook("build", request, environment, log)
            except BuildError:
                spent_s = time.monotonic() - started
                self.record.steps.append(StepTime(step=Step.BUILD, duration_s=spent_s))
                raise
            asked_s = min(float(answer.get("asked_s", 0.0)), run.duration_s)
            self.record.steps.append(StepTime(step=Step.ASK, duration_s=asked_s))
            if "wheel" in answer:
                self.record.steps.append(StepTime(step=Step.BUILD, duration_s=run.duration_s - asked_s))
                return str(answer["wheel"])
            asked = [str(one) for one in answer["requires"]]
        raise BuildError(FailureReason.BAD_METADATA, "the backend asks for new requirements for ever")

    def _hook(
        self, action: str, request: dict[str, Any], environment: Environment, log: IO[bytes]
    ) -> tuple[Run, dict[str, Any]]:
        """Run package code; gives its answer. A run without one is diagnosed from the log."""
        settings = self.workshop.settings.builder
        for name in ("answer.json", "usage.json"):
            (self._inside / name).unlink(missing_ok=True)
        limits = {
            "processes": settings.processes,
            "file_bytes": settings.disk_max_bytes,
            "nice": settings.nice,
        }
        run = self.workshop.sandbox.run(
            [action, json.dumps({**request, "limits": limits})],
            build=self._inside,
            environment=environment.path,
            log=log,
            bounds=Bounds(
                timeout_s=min(settings.timeout_s, self.lease.limits.timeout_s),
                silence_s=min(settings.silence_s, self.lease.limits.silence_s),
                log_bytes=min(settings.log_max_bytes, self.lease.limits.log_bytes),
                disk_bytes=settings.disk_max_bytes,
            ),
            variables=self._variables(),
            stop=self.stop,
        )
        self._add_usage()
        if run.stopped:
            raise StoppedError
        if run.reason:
            raise BuildError(run.reason)
        if run.exit_code != 0:
            raise self._diagnosed()
        return run, self._answer(action)

    def _answer(self, action: str) -> dict[str, Any]:
        """Read what the hook wrote, which package code could have written as well."""
        try:
            with open_plain(self._inside / "answer.json") as file:
                answer = json.loads(file.read(_ANSWER_BYTES))
            keys = {"build": {"wheel", "requires"}, "load": {"failed"}}[action]
            if not isinstance(answer, dict) or not keys & answer.keys():
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

    def _add_usage(self) -> None:
        """Add what the hook measured, which is no more than a hint: package code could have written it."""
        try:
            with open_plain(self._inside / "usage.json") as file:
                used = json.loads(file.read(_ANSWER_BYTES))
            self.record.cpu_s += max(0.0, float(used["cpu_s"]))
            self.record.peak_memory_bytes = max(self.record.peak_memory_bytes, int(used["peak_memory_bytes"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # the run was killed, or somebody wrote nonsense

    def _diagnosed(self) -> BuildError:
        found = diagnose(self.log_path)
        self.record.evidence_line = found.evidence_line
        return BuildError(found.reason, captured=found.captured, evidence=found.evidence)

    def _variables(self) -> dict[str, str]:
        """The environment of package code: nothing of ours, and all that makes builds the same twice."""
        settings = self.workshop.settings.builder
        uploaded_at = self.lease.sdist.uploaded_at
        jobs = str(settings.jobs or len(os.sched_getaffinity(0)))
        return {
            "PATH": "/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
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
            "PIP_NO_INDEX": "1",
        }

    # --- inspect -----------------------------------------------------------------------------------

    def _inspect(self, filename: str, log: IO[bytes]) -> Wheel:
        path = self._take(filename)
        facts = self._read(path, filename)
        if facts.extensions:
            self._load(path, facts, log)
        name = self._public_name(facts)
        if name != filename:
            path = rename_wheel(path, name)
            facts = self._read(path, name)
        libraries = debian_packages(facts.libraries)
        return Wheel(path, facts, libraries)

    def _take(self, filename: str) -> Path:
        """Move the wheel out of reach of package code, as a copy that nobody else has open."""
        limit = min(self.workshop.settings.builder.wheel_max_bytes, self.lease.limits.wheel_bytes)
        if os.path.basename(filename) != filename or not filename.endswith(".whl"):
            raise WheelError(FailureReason.WHEEL_INVALID, "the backend names no wheel", where=filename[:200])
        path = self.directory / filename
        try:
            with open_plain(self._inside / "out" / filename) as file, path.open("xb") as copy:
                if os.fstat(file.fileno()).st_size > limit:
                    raise WheelError(
                        FailureReason.WHEEL_TOO_BIG, f"the wheel is larger than {limit} bytes", where=filename
                    )
                shutil.copyfileobj(file, copy)
        except OSError as error:
            raise WheelError(
                FailureReason.WHEEL_INVALID, f"the backend's wheel cannot be read: {error}", where=filename
            ) from error
        return path

    def _read(self, path: Path, filename: str) -> WheelFacts:
        with path.open("rb") as file:
            return read_wheel(
                file,
                filename,
                project=self.lease.project,
                version=self.lease.version,
                target=self.workshop.interpreter.target,
                max_unpacked_bytes=_UNPACKED_RATIO * self.workshop.settings.builder.wheel_max_bytes,
            )

    def _load(self, path: Path, facts: WheelFacts, log: IO[bytes]) -> None:
        """Load every extension in the sandbox, with the wheel's own libraries beside it."""
        unpacked = self._inside / "unpacked"
        remove_tree(unpacked) if unpacked.exists() else None
        with zipfile.ZipFile(path) as archive:
            shared = [name for name in archive.namelist() if ".so" in os.path.basename(name)]
            archive.extractall(unpacked, shared)  # names and sizes were checked by read_wheel
        self.workshop.sandbox.claim(unpacked)
        environment = self.workshop.environments.get([])
        _, answer = self._hook("load", {"extensions": list(facts.extensions)}, environment, log)
        own = {os.path.basename(name) for name in shared}
        for extension, message in sorted(answer["failed"].items()):
            missing = str(message).partition(": cannot open shared object file")
            if missing[1] and os.path.basename(missing[0]) in own:
                continue  # the package loads its own libraries first, in an order that only it knows
            raise BuildError(
                FailureReason.LOAD_FAILED,
                f"{extension} cannot be loaded",
                captured=os.path.basename(missing[0]) if missing[1] else None,
                evidence=str(message)[:500],
            )

    def _public_name(self, facts: WheelFacts) -> str:
        """The name to publish under: for ARMv6 as well where that is true, and one that nobody has used."""
        filename = facts.name.filename
        if filename.endswith("-linux_armv7l.whl") and facts.armv6_safe:
            filename = filename.replace("-linux_armv7l.whl", "-linux_armv6l.linux_armv7l.whl")
        return free_filename(WheelName.parse(filename).filename, frozenset(self.lease.taken_names))

    # --- bookkeeping -------------------------------------------------------------------------------

    @contextmanager
    def _step(self, step: Step) -> Iterator[None]:
        if self.stop.is_set():
            raise StoppedError
        self.on_step(step)
        started = time.monotonic()
        try:
            yield
        finally:
            self.record.steps.append(StepTime(step=step, duration_s=time.monotonic() - started))

    def _blame(self, reason: FailureReason, what: str, captured: str | None, evidence: str | None) -> None:
        self.record.reason = reason
        self.record.what = what
        self.record.captured = captured
        self.record.evidence = evidence


_OLDEST_ZIP_TIME = 315532800  # 1980-01-01: a zip cannot say anything earlier
