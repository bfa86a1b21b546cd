# SPDX-License-Identifier: BSD-3-Clause
"""Build environments: exactly the requirements of a build, from wheels only, kept and shared.

Making an environment is nearly all of what `pip wheel` spends on a pure package (5-9 s of 5.5-9.5 s), so
it is made once per resolved set of requirements. Two questions are asked, and both answers are kept:

1. Which wheels satisfy these requirements here? pip resolves, in a dry run with `--only-binary :all:`;
   the answer is believed for a day (`cache.resolve_max_age_s`).
2. Is there an environment of exactly these wheels? Its name is the hash of the wheels' hashes and of the
   interpreter. If not: the wheels are fetched, checked, laid out as a virtual environment whose path
   inside the sandbox is always /env, and compiled; then it is sealed and gets its name by one rename.

Both are entries on shelves (`cache.py`), which keep two builds from making the same at once and what is in
use from being evicted. An environment is `ready/KEY/env`; `seal.py` says at each use whether it is still
whole: a power cut may have taken of it what had not reached the disk.

No package code runs here: a wheel is unpacked, never executed, and an sdist is never touched. Finished
environments are bound read-only into sandboxes and never change.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.sources import WheelFile

from piwheels_node.builder.caches.downloads import Downloads
from piwheels_node.builder.caches.seal import is_intact, seal
from piwheels_node.builder.caches.shelves import Held, Shelf
from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.interpreter import Interpreter
from piwheels_node.builder.roots.tree import HOST, Tree
from piwheels_node.builder.source import check_requirement
from piwheels_node.builder.trust import pip_options, pip_variables
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.settings import CacheSettings

_FORMAT = "2"  # part of every key: raise it when the layout changes
_MOUNTED = Path("/env")
_TREE, _PART, _SEAL, _PINS = "env", ".part-", "seal.json", "pins.json"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_WHEEL_BYTES = 1 << 30
_RESOLVE_TIMEOUT_S = 600
_UNSATISFIED = re.compile(
    r"(?:No matching distribution found for|Could not find a version that satisfies the requirement)"
    r" ([^\s(]+)"
)
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES", re.IGNORECASE)
_CONFLICT = re.compile(r"ResolutionImpossible|conflicting dependencies")


@dataclass(frozen=True)
class Pin:
    """One wheel of an environment. `sha256` is None where an index gives none."""

    name: str
    version: str
    url: str
    sha256: str | None

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


class Environment:
    """A finished environment: a virtual environment to be bound to /env. It is kept until it is closed."""

    def __init__(self, key: str, pins: tuple[Pin, ...], held: Held) -> None:
        self.key = key
        self.pins = pins
        self.path = held.path
        self._held = held

    def close(self) -> None:
        """Let go of it: it may be evicted from now on."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class EnvironmentCache:
    """Environments for one interpreter below one directory; several threads and processes may share it."""

    def __init__(
        self,
        root: Path,
        interpreter: Interpreter,
        downloads: Downloads,
        settings: CacheSettings,
        *,
        index_url: str = "",
        extra_index_url: str = "",
        certificates: Path | None = None,
        tree: Tree = HOST,
        stop: threading.Event,
    ) -> None:
        """`index_url` empty: the one that pip uses; `extra_index_url`: the farm's own index.

        `tree` is where the interpreter is.
        """
        self.tree = tree
        self.root = root
        self.interpreter = interpreter
        self.downloads = downloads
        self.settings = settings
        self.index_url = index_url
        self.extra_index_url = extra_index_url
        self.certificates = certificates
        self.stop = stop
        self.resolved = Shelf(root / "resolved")
        self.ready = Shelf(root / "ready", deep=True)

    def get(self, requirements: Sequence[str], *, stop: threading.Event | None = None) -> Environment:
        """The environment for these requirements, made now where there is none; raises BuildError.

        `stop` makes this one end at once; the `stop` of the cache, all of them.
        """
        stop = stop or self.stop
        pins = self._resolve(self._wanted(requirements), stop)
        key = self._key(pins)
        held = self.ready.get(
            key,
            ready=lambda entry: is_intact(entry / _TREE, entry / _SEAL),
            make=lambda entry: self._make(pins, entry, stop),
            inside=_TREE,
            halt=Halt(stop, self.stop),
        )
        return Environment(key, pins, held)

    def _wanted(self, requirements: Sequence[str]) -> tuple[str, ...]:
        """The requirements that hold for the interpreter, in one spelling and order."""
        parsed = [check_requirement(text) for text in requirements]
        markers = {**self.interpreter.markers, "extra": ""}
        wanted = {str(one) for one in parsed if one.marker is None or one.marker.evaluate(markers)}
        return tuple(sorted(wanted))

    def _key(self, pins: Sequence[Pin]) -> str:
        parts = [_FORMAT, str(self.interpreter.path), self.interpreter.version_text]
        parts += [f"{pin} {pin.sha256 or pin.url}" for pin in pins]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    # --- resolving ---------------------------------------------------------------------------------

    def _resolve(self, wanted: tuple[str, ...], stop: threading.Event) -> tuple[Pin, ...]:
        if not wanted:
            return ()
        about = json.dumps([_FORMAT, self.interpreter.version_text, self.index_url, wanted])
        name = hashlib.sha256(about.encode()).hexdigest()[:32]
        with self.resolved.get(
            name,
            ready=lambda entry: self._believed(entry) is not None,
            make=lambda entry: self._ask_pip(wanted, entry, stop),
            halt=Halt(stop, self.stop),
        ) as held:
            return _read_pins(held.path)

    def _believed(self, entry: Path) -> tuple[Pin, ...] | None:
        """The answer that is kept, where it is still believed."""
        try:
            age_s = time.time() - (entry / _PINS).stat().st_mtime
            return _read_pins(entry) if age_s < self.settings.resolve_max_age_s else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or not readable: asked again, and written anew

    def _ask_pip(self, wanted: tuple[str, ...], entry: Path, stop: threading.Event) -> None:
        """Resolve, and write the answer down so that it is there whole or not at all."""
        work = _workplace(entry)
        try:
            report = work / "report.json"
            command = [
                "install",
                "--dry-run",
                "--ignore-installed",
                "--only-binary",
                ":all:",
                "--no-input",
                "--quiet",
            ]
            command += ["--disable-pip-version-check", "--no-python-version-warning", "--report", str(report)]
            command += ["--index-url", self.index_url] if self.index_url else []
            command += ["--extra-index-url", self.extra_index_url] if self.extra_index_url else []
            command += pip_options(self.certificates) if self.certificates else []
            try:
                self._run_pip([*command, *wanted], wanted, work, stop)
            except BuildError as error:
                if error.reason is not FailureReason.REQUIREMENT_MISSING or not self.extra_index_url:
                    raise
                # From 26.2 on pip believes a page for a minute: what was just built is not on it yet.
                self._run_pip([*command, "--no-cache-dir", *wanted], wanted, work, stop)
            pins = sorted(map(_pin, json.loads(report.read_text())["install"]), key=str)
            answer = work / _PINS
            answer.write_text(json.dumps({"wanted": wanted, "pins": [asdict(pin) for pin in pins]}))
            answer.replace(entry / _PINS)
        finally:
            remove_tree(work)

    def _run_pip(
        self, words: Sequence[str], wanted: Sequence[str], work: Path, stop: threading.Event
    ) -> None:
        """Let pip resolve; raises BuildError where it cannot."""
        said = work / "output"
        variables = pip_variables(self.certificates) if self.certificates else {}
        with said.open("wb") as output:
            code = self._call(self._pip(words, work), output, stop, TMPDIR=str(work), **variables)
        if code != 0:
            raise _unresolved(said.read_text(errors="replace"), wanted)

    def _pip(self, words: Sequence[str], work: Path) -> list[str]:
        """Our pip, run by the interpreter that is built for: only that knows what fits it."""
        if self.tree.is_host:
            return [sys.executable, "-m", "pip", "--python", str(self.interpreter.path), *words]
        ours = importlib.util.find_spec("pip")
        if ours is None or ours.origin is None:
            raise BuildError(FailureReason.BUILDER_FAILED, "there is no pip beside this program")
        place = work / "pip"  # as `pip --python` does it, with the root's /usr in place of ours
        place.mkdir()
        command = [str(self.interpreter.path), str(place / "__pip-runner__.py"), *words]
        readable = {place: Path(ours.origin).parent}
        return self.tree.enter(command, writable=work, readable=readable, network=True)

    def _call(self, command: list[str], output: Any, stop: threading.Event, **variables: str) -> int:
        """Run one of our own helpers, and end it at once when we are asked to stop."""
        environ = {key: value for key, value in os.environ.items() if key != "PIP_REQUIRE_VIRTUALENV"}
        environ |= variables
        halt = Halt(stop, self.stop)
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        ) as process:
            started = time.monotonic()
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(0.1)
                if halt.is_set() or time.monotonic() - started > _RESOLVE_TIMEOUT_S:
                    os.killpg(process.pid, signal.SIGKILL)  # pip --python is two processes
                    halt.check()
                    raise BuildError(FailureReason.BUILDER_FAILED, f"{command[0]} hangs")

    # --- making ------------------------------------------------------------------------------------

    def _make(self, pins: Sequence[Pin], entry: Path, stop: threading.Event) -> None:
        tree = entry / _TREE
        part = _workplace(entry)
        try:
            remove_tree(tree)  # it is no longer whole
            entry.chmod(0o755)  # the account that package code runs as walks through
            self._lay_out(part)
            for pin in pins:
                filename = _filename(pin.url)
                with self.downloads.get(pin.url, pin.sha256, filename, _WHEEL_BYTES, stop=stop) as wheel:
                    self._add(wheel.path, part)
            self._compile(part, stop)
            _allow_reading(part)
            seal(part, entry / _SEAL)
            part.rename(tree)
        except OSError as error:
            raise BuildError(
                FailureReason.OUT_OF_DISK if error.errno in _FULL else FailureReason.BUILDER_FAILED,
                f"the build environment could not be made: {error}",
            ) from error
        finally:
            remove_tree(part)

    def _lay_out(self, environment: Path) -> None:
        """The skeleton of a virtual environment (PEP 405) that will be found at /env."""
        binaries = environment / "bin"
        binaries.mkdir()
        for name in ("python", "python3", f"python3.{self.interpreter.version[1]}"):
            (binaries / name).symlink_to(self.interpreter.path)
        (environment / "pyvenv.cfg").write_text(
            f"home = {self.interpreter.path.parent}\n"
            "include-system-site-packages = false\n"
            f"version = {self.interpreter.version_text}\n"
        )
        self._packages(environment).mkdir(parents=True)

    def _packages(self, environment: Path) -> Path:
        return environment / "lib" / f"python3.{self.interpreter.version[1]}" / "site-packages"

    def _add(self, wheel: Path, environment: Path) -> None:
        packages = str(self._packages(environment))
        destination = SchemeDictionaryDestination(
            {
                "purelib": packages,
                "platlib": packages,
                "headers": str(environment / "include"),
                "scripts": str(environment / "bin"),
                "data": str(environment),
            },
            interpreter=str(_MOUNTED / "bin" / "python"),
            script_kind="posix",
        )
        try:
            _refuse_escapes(wheel)
            with WheelFile.open(wheel) as source:
                install(source, destination, additional_metadata={"INSTALLER": b"piwheels-node"})
        except (InstallerError, zipfile.BadZipFile, ValueError, KeyError, FileExistsError) as error:
            raise BuildError(
                FailureReason.REQUIREMENT_FAILED,
                f"a build requirement's wheel cannot be unpacked: {error}",
                captured=wheel.name,
            ) from error

    def _compile(self, environment: Path, stop: threading.Event) -> None:
        """Compile with the target's Python: the environment is read-only later, and importing is time."""
        packages = str(self._packages(environment))
        prefix = ["-s", str(environment), "-p", str(_MOUNTED)]
        command = [str(self.interpreter.path), "-I", "-S", "-m", "compileall", "-q", *prefix, packages]
        command = self.tree.enter(command, writable=environment)
        self._call(command, subprocess.DEVNULL, stop)  # files for other Pythons may not compile: no fault


def _workplace(entry: Path) -> Path:
    """A new directory in an entry, to make things in; what killed builders left there goes.

    What they had started may still be at work in theirs, and end after they do: so each has its own.
    """
    for left in entry.glob(f"{_PART}*"):
        with contextlib.suppress(OSError):
            remove_tree(left)
    return Path(tempfile.mkdtemp(prefix=_PART, dir=entry))


def _read_pins(entry: Path) -> tuple[Pin, ...]:
    return tuple(Pin(**one) for one in json.loads((entry / _PINS).read_text())["pins"])


def _pin(entry: dict[str, Any]) -> Pin:
    download, metadata = entry["download_info"], entry["metadata"]
    hashes = download.get("archive_info", {}).get("hashes", {})
    return Pin(metadata["name"], metadata["version"], download["url"], hashes.get("sha256"))


def _unresolved(said: str, wanted: Sequence[str]) -> BuildError:
    found = _UNSATISFIED.search(said)
    if found or _CONFLICT.search(said):
        captured = found[1].rstrip(";,") if found else None  # with the versions: the master may build it
        last = found[0] if found else "the build requirements contradict each other"
        return BuildError(
            FailureReason.REQUIREMENT_MISSING,
            f"no set of wheels satisfies {', '.join(wanted)}",
            captured=captured,
            evidence=last,
        )
    if _WRONG_HASH.search(said):
        return BuildError(
            FailureReason.HASH_MISMATCH, "a build requirement's wheel has another hash than the index says"
        )
    lines = [line for line in said.splitlines() if line.strip()] or ["pip said nothing"]
    return BuildError(
        FailureReason.FETCH_FAILED, "the build requirements could not be resolved", evidence=lines[-1][:500]
    )


def _filename(url: str) -> str:
    return url.partition("#")[0].partition("?")[0].rsplit("/", 1)[-1]


def _refuse_escapes(wheel: Path) -> None:
    """Raise ValueError for a wheel with a member that would be written outside its place."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("/") or ".." in name.split("/") or "\\" in name:
                raise ValueError(f"a member lies outside the wheel: {name}")


def _allow_reading(directory: Path) -> None:
    """Package code may run as another account than the builder: let everybody read."""
    for root, _, names in os.walk(directory):
        os.chmod(root, 0o755)  # noqa: S103 - public packages
        for name in names:
            path = os.path.join(root, name)
            if not os.path.islink(path):
                os.chmod(path, os.stat(path).st_mode & 0o111 | 0o644)
