# SPDX-License-Identifier: BSD-3-Clause
"""Build environments: exactly the requirements of a build, from wheels only, kept and shared.

Making an environment is nearly all of what `pip wheel` spends on a pure package (5-9 s of 5.5-9.5 s), so
it is made once per resolved set of requirements. Two questions are asked, and both answers are kept:

1. Which wheels satisfy these requirements here? `resolution.py` asks pip, and keeps its answer for a day.
2. Is there an environment of exactly these wheels? Its name is the hash of the wheels' hashes and of the
   interpreter. If not: the wheels are fetched, checked, laid out as a virtual environment whose path
   inside the sandbox is always /env, and compiled; then it is sealed and gets its name by one rename.

Both are entries on shelves (`shelves.py`), which keep two builds from making the same at once and what is in
use from being evicted. An environment is `ready/KEY/env`; `seal.py` says at each use whether it is still
whole: a power cut may have taken of it what had not reached the disk.

No package code runs here: a wheel is unpacked, never executed, and an sdist is never touched. Finished
environments are bound read-only into sandboxes and never change.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import threading
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.sources import WheelFile
from packaging.requirements import Requirement

from piwheels_node.builder.caches.downloads import Downloads
from piwheels_node.builder.caches.resolution import Indexes, Pin, Resolutions, bare
from piwheels_node.builder.caches.seal import is_intact, seal
from piwheels_node.builder.caches.shelves import Held, Shelf, workplace
from piwheels_node.builder.confine.written import count, measured
from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.helpers import call
from piwheels_node.builder.interpreter import Interpreter
from piwheels_node.builder.roots.tree import HOST, Tree
from piwheels_node.builder.source import check_requirement
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.settings import CacheSettings

_FORMAT = "2"  # part of every key: raise it when the layout changes
_MOUNTED = Path("/env")
_TREE, _SEAL = "env", "seal.json"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_WHEEL_BYTES = 1 << 30
_COMPILE_TIMEOUT_S = 600
_AT_ONCE = 4
"""How many wheels are fetched at a time: most of what that takes is waiting for answers."""


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
        self.stop = stop
        self.resolutions = Resolutions(
            root / "resolved",
            interpreter,
            tree,
            Indexes(index_url, extra_index_url, certificates),
            settings.resolve_max_age_s,
        )
        self.ready = Shelf(root / "ready", deep=True)

    def get(self, requirements: Sequence[str], *, stop: threading.Event | None = None) -> Environment:
        """The environment for these requirements, made now where there is none; raises BuildError.

        `stop` makes this one end at once; the `stop` of the cache, all of them.
        """
        stop = stop or self.stop
        halt = Halt(stop, self.stop)
        pins = self.resolutions.get(self._wanted(requirements), halt)
        key = self._key(pins)
        held = self.ready.get(
            key,
            ready=lambda entry: is_intact(entry / _TREE, entry / _SEAL),
            make=lambda entry: self._make(pins, entry, stop),
            inside=_TREE,
            halt=halt,
        )
        return Environment(key, pins, held)

    def _wanted(self, requirements: Sequence[str]) -> list[Requirement]:
        """The requirements that hold for the interpreter."""
        parsed = map(check_requirement, requirements)
        markers = {**self.interpreter.markers, "extra": ""}
        return [bare(one) for one in parsed if one.marker is None or one.marker.evaluate(markers)]

    def _key(self, pins: Sequence[Pin]) -> str:
        parts = [_FORMAT, str(self.interpreter.path), self.interpreter.version_text]
        parts += [f"{pin} {pin.sha256 or pin.url}" for pin in pins]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def _make(self, pins: Sequence[Pin], entry: Path, stop: threading.Event) -> None:
        tree = entry / _TREE
        part = workplace(entry)
        try:
            remove_tree(tree)  # it is no longer whole
            entry.chmod(0o755)  # the account that package code runs as walks through
            self._lay_out(part)
            with ExitStack() as fetched:
                for wheel in self._fetch(pins, stop, fetched):
                    self._add(wheel.path, part)
            self._compile(part, Halt(stop, self.stop))
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

    def _fetch(self, pins: Sequence[Pin], stop: threading.Event, fetched: ExitStack) -> list[Held]:
        """The wheels, which are kept until `fetched` ends."""

        def one(pin: Pin) -> Held:
            return fetched.enter_context(
                self.downloads.get(pin.url, pin.sha256, _filename(pin.url), _WHEEL_BYTES, stop=stop)
            )

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            done = list(pool.map(lambda pin: measured(lambda: one(pin)), pins))
        count(sum(written_bytes for _, written_bytes in done))
        return [wheel for wheel, _ in done]

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

    def _compile(self, environment: Path, halt: Halt) -> None:
        """Compile with the target's Python: the environment is read-only later, and importing is time."""
        packages = str(self._packages(environment))
        prefix = ["-s", str(environment), "-p", str(_MOUNTED)]
        command = [str(self.interpreter.path), "-I", "-S", "-m", "compileall", "-q", *prefix, packages]
        command = self.tree.enter(command, writable=environment)
        call(  # files for other Pythons may not compile: no fault
            command,
            subprocess.DEVNULL,
            halt,
            environ=os.environ,
            timeout_s=_COMPILE_TIMEOUT_S,
            late=FailureReason.BUILDER_FAILED,
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
