# SPDX-License-Identifier: BSD-3-Clause
"""All that the builds of one machine share: interpreters, sandboxes, the caches, and room to work.

A `Workshop` builds in one Debian, the host's by default. `beside` are those for the build roots that were
made here: they share rooms, downloads, layers, the gate and the bound of all that is kept. `by_target` says
which of them builds for what.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import platform
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from piwheels_node.builder.caches.compiled import CompilerCache
from piwheels_node.builder.caches.downloads import Downloads
from piwheels_node.builder.caches.environment import EnvironmentCache
from piwheels_node.builder.caches.shelves import Bound, Shelf
from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.confine.sandbox import Sandbox
from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.interpreter import Interpreter, environment_id, os_release, probe
from piwheels_node.builder.rooms import Rooms
from piwheels_node.builder.roots.apt import Apt
from piwheels_node.builder.roots.layers import Layers, LayerStore
from piwheels_node.builder.roots.making import MadeRoots
from piwheels_node.builder.roots.tree import HOST, Tree
from piwheels_node.core.errors import BuildError, NodeError, SettingsError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages import BuildEnvironment
from piwheels_node.core.settings import Settings

_log = logging.getLogger(__name__)
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
        self.settings = settings
        self.stop = stop
        self.gate = Gate()
        self._extra_index_url = extra_index_url
        self._certificates = certificates
        root.mkdir(parents=True, exist_ok=True)
        self._views = root / "views"
        remove_tree(self._views)  # what a builder left that was killed
        self.downloads = Downloads(root / "downloads", stop, certificates)
        self._layers, self._lists = Shelf(root / "layers", deep=True), Shelf(root / "apt", deep=True)
        self._furnish(HOST, interpreter)
        self.made = MadeRoots(root / "roots")
        wanted = self._wanted_roots()
        self.rooms = Rooms(root / "builds", settings.builder)
        self.beside = [one for one in map(self._for_root, wanted) if one]
        shelves = [self._layers, self._lists, self.downloads.shelf]
        for one in (self, *self.beside):
            shelves += [one.environments.ready, one.environments.resolutions.shelf, one.compilers.shelf]
        self._bound = Bound(*shelves)

    def _furnish(self, tree: Tree, interpreter: Interpreter) -> None:
        """Set up what depends on the Debian that is built in; raises SandboxUnavailableError."""
        settings, suffix = self.settings, "" if tree.is_host else f"-{tree.name}"
        self.tree = tree
        self.interpreter = interpreter
        self.sandbox = Sandbox(interpreter, settings.builder, self.root, tree)
        self.sandbox.check()
        self.environments = EnvironmentCache(
            self.root / f"environments{suffix}",
            interpreter,
            self.downloads,
            settings.cache,
            index_url=settings.pypi.index_url,
            extra_index_url=self._extra_index_url,
            certificates=self._certificates,
            tree=tree,
            stop=self.stop,
        )
        self.compilers = CompilerCache(
            self.root / f"compiled{suffix}", interpreter.target, settings.cache, self.stop, tree
        )
        apt = Apt(
            tree,
            self._lists,
            sources=settings.builder.apt_sources,
            max_age_s=settings.cache.resolve_max_age_s,
        )
        most = settings.builder.layer_max_bytes
        self.layers = LayerStore(tree, apt, self._layers, self._views, max_bytes=most)
        self.why_no_layers = self._why_no_layers()

    def _why_no_layers(self) -> str | None:
        """Why no Debian packages can be added here, in a few words; None where they can."""
        if not self.settings.builder.layers:
            return "builder.layers is off"
        for program in ("apt-get", "apt-config", "dpkg-deb", "unshare", "mount"):
            if not shutil.which(program):
                return f"there is no {program}"
        return self.sandbox.why_no_layers()

    def _wanted_roots(self) -> list[Tree]:
        """The build roots that were made here and are to be offered."""
        made = {tree.name: tree for tree in self.made.use()}
        wanted = self.settings.builder.roots.replace(",", " ").split()
        for name in wanted:
            if name not in made and name != HOST.name:
                raise SettingsError(
                    f"there is no build root '{name}' here",
                    where="builder.roots",
                    hint=f"one of {', '.join([HOST.name, *made])}, or: piwheels-node builder root create",
                )
        return [made[name] for name in wanted if name in made] if wanted else list(made.values())

    def _for_root(self, tree: Tree) -> Workshop | None:
        """A workshop beside this one; None, and a word in the log, where nothing can be built there."""
        other = copy.copy(self)
        try:
            other._furnish(tree, probe(tree=tree))  # noqa: SLF001 - it is one of us
        except NodeError as error:
            _log.error("nothing can be built in the root %s: %s", tree.name, error)
            return None
        return other

    def by_target(self) -> dict[str, Workshop]:
        """The targets that are built for, each by one workshop: the host's first, then by their names."""
        wanted = self.settings.builder.roots.replace(",", " ").split()
        ours = (self, *self.beside) if not wanted or HOST.name in wanted else tuple(self.beside)
        found: dict[str, Workshop] = {}
        for one in ours:
            found.setdefault(str(one.interpreter.target), one)
        return found

    def lay(self, packages: Sequence[str], halt: Halt) -> AbstractContextManager[Layers]:
        """Debian packages over the root, for one build: they are kept and shown while the context lasts.

        Raises BuildError as `LayerStore.get` does.
        """
        if self.why_no_layers:
            raise BuildError(
                FailureReason.LAYER_FAILED,
                f"this builder adds no Debian packages: {self.why_no_layers}",
                captured=packages[0],
            )
        return self.layers.get(packages, halt)

    def shrink(self) -> int:
        """Evict what was used least recently until all that is kept fits; gives the bytes freed."""
        return self._bound.shrink(self.settings.cache.max_bytes)

    def close(self) -> None:
        """Let go of connections, of memory and of the build roots."""
        self.made.close()
        self.rooms.close()
        self.downloads.close()

    def environment_id(self, layers: Sequence[str] = ()) -> str:
        """A short name of what a build here depends on besides the package: what is installed, the limits.

        A failure is worth another try where this name has changed: 16 hex digits, and where there are layers
        a `+` and 16 more. What is offered is compared with the first part.
        """
        limits = [f"{name}={getattr(self.settings.builder, name)}" for name in _LIMITS]
        about = " ".join([environment_id(self.interpreter, self.tree), *limits])
        name = _short_hash(about)
        return f"{name}+{_short_hash(' '.join(layers))}" if layers else name

    def describe(self, requirements: Sequence[str], layers: Sequence[str] = ()) -> BuildEnvironment:
        """What a build was made with, `requirements` being what its environment held."""
        return BuildEnvironment(
            environment_id=self.environment_id(layers),
            python=self.interpreter.version_text,
            release=os_release(self.tree),
            requirements=list(requirements),
            tools={"kernel": platform.release()},
            sandbox=self.sandbox.kind,
            root=f"{self.tree.name}:{self.tree.identity()[:16]}",
            layers=list(layers),
        )

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """A directory for the log and the wheel of one build; package code never sees it."""
        path = Path(tempfile.mkdtemp(prefix="build-", dir=self.rooms.disk))
        try:
            yield path
        finally:
            remove_tree(path)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
