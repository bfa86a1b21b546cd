# SPDX-License-Identifier: BSD-3-Clause
"""All that the builds of one machine share: the interpreter, the sandbox, the caches, and room to work."""

from __future__ import annotations

import hashlib
import platform
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from piwheels_node.builder.caches.compiled import CompilerCache
from piwheels_node.builder.caches.downloads import Downloads
from piwheels_node.builder.caches.environment import EnvironmentCache
from piwheels_node.builder.caches.shelves import Bound
from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.confine.sandbox import Sandbox
from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.interpreter import Interpreter, environment_id, os_release
from piwheels_node.builder.rooms import Rooms
from piwheels_node.core.messages import BuildEnvironment
from piwheels_node.core.settings import Settings

_LIMITS = (
    "timeout_s",
    "silence_s",
    "log_max_bytes",
    "processes",
    "memory_max_bytes",
    "tmp_bytes",
    "disk_max_bytes",
    "sdist_max_bytes",
    "unpacked_max_bytes",
    "unpacked_max_members",
    "wheel_max_bytes",
)
"""Settings of the builder that can end a build: a build that one of them ended may do with another value."""


class Workshop:
    """What a builder has; one object serves all its builds, from several threads.

    All builds stand still while `gate` is closed.
    """

    def __init__(
        self,
        root: Path,
        interpreter: Interpreter,
        settings: Settings,
        *,
        extra_index_url: str = "",
        certificates: Path | None = None,
        stop: threading.Event,
    ) -> None:
        """`root` is the builder's directory; `certificates` a file of those to believe (PEM).

        Raises SandboxUnavailableError where nothing can be confined.
        """
        self.root = root
        self.interpreter = interpreter
        self.settings = settings
        self.stop = stop
        self.gate = Gate()
        root.mkdir(parents=True, exist_ok=True)
        self.sandbox = Sandbox(interpreter, settings.builder, root)
        self.sandbox.check()
        self.rooms = Rooms(root / "builds", settings.builder)
        self.downloads = Downloads(root / "downloads", stop, certificates)
        self.environments = EnvironmentCache(
            root / "environments",
            interpreter,
            self.downloads,
            settings.cache,
            index_url=settings.pypi.index_url,
            extra_index_url=extra_index_url,
            certificates=certificates,
            stop=stop,
        )
        self.compilers = CompilerCache(root / "compiled", interpreter.target, settings.cache, stop)
        self._bound = Bound(
            self.environments.ready, self.environments.resolved, self.downloads.shelf, self.compilers.shelf
        )

    def shrink(self) -> int:
        """Evict what was used least recently until all that is kept fits; gives the bytes freed."""
        return self._bound.shrink(self.settings.cache.max_bytes)

    def close(self) -> None:
        """Let go of connections, and of memory."""
        self.rooms.close()
        self.downloads.close()

    def environment_id(self) -> str:
        """A short name of what a build here depends on besides the package: what is installed, the limits.

        A failure is worth another try where this name has changed (16 hex digits).
        """
        limits = [f"{name}={getattr(self.settings.builder, name)}" for name in _LIMITS]
        about = " ".join([environment_id(self.interpreter), *limits])
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def describe(self, requirements: Sequence[str]) -> BuildEnvironment:
        """What a build was made with, `requirements` being what its environment held."""
        return BuildEnvironment(
            environment_id=self.environment_id(),
            python=self.interpreter.version_text,
            release=os_release(),
            requirements=list(requirements),
            tools={"kernel": platform.release()},
            sandbox=self.sandbox.kind,
        )

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A directory for the log and the wheel of one build; package code never sees it."""
        path = Path(tempfile.mkdtemp(prefix="build-", dir=self.rooms.disk))
        try:
            yield path
        finally:
            remove_tree(path)
