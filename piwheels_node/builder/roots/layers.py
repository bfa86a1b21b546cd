# SPDX-License-Identifier: BSD-3-Clause
"""Debian packages for one build, laid over its root, and never installed.

    names --apt--> the packages that the root lacks --fetch--> .deb --unpack--> a directory each, on a shelf

Each package is an entry of its own, named by the SHA-256 of its .deb: `SHA256/tree/usr`, sealed like a build
environment, shared by all builds that want it, and evicted when it was not used for long. A build's layers
are the directories of its packages, one over the other (`view.py`), read-only.

No maintainer script runs. So there is nothing that such scripts make: caches, accounts, services. What a
build needs of a package are headers, libraries, pkg-config files and programs, and those are files; or links
by update-alternatives, which are read from the script (`alternatives.py`). They are laid *under* the root,
since `cc` is what it has chosen.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from piwheels_node.builder.caches.seal import is_intact, seal
from piwheels_node.builder.caches.shelves import Held, Shelf, workplace
from piwheels_node.builder.files import remove_tree, sha256_of
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.roots.alternatives import lay_alternatives
from piwheels_node.builder.roots.apt import Apt, Package
from piwheels_node.builder.roots.tree import Tree
from piwheels_node.builder.roots.unpack import unpack_package
from piwheels_node.builder.roots.view import View, view
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_TREE, _SEAL, _ALTERNATIVES = "tree", "seal.json", "alternatives"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MOST_PACKAGES = 240
"""An overlay may have 500 directories (OVL_MAX_STACK), and a package may have two."""


@dataclass(frozen=True)
class Layer:
    """One package, unpacked at `path`."""

    package: Package
    path: Path

    @property
    def usr(self) -> Path:
        """What of it is laid over the root's `/usr`."""
        return self.path / "usr"

    @property
    def alternatives(self) -> Path:
        """What of it is laid under the root's `/usr`."""
        return self.path / _ALTERNATIVES / "usr"


@dataclass(frozen=True)
class Layers:
    """What is laid over a root for one build; none: the root is shown as it is."""

    layers: tuple[Layer, ...] = ()
    shown: View | None = None

    def __bool__(self) -> bool:
        return bool(self.layers)

    @property
    def names(self) -> list[str]:
        """The packages as `package=version`, sorted."""
        return sorted(str(layer.package) for layer in self.layers)

    def owners(self, sonames: Iterable[str]) -> dict[str, str]:
        """Which of these packages have which of the shared libraries; those that none has are left out."""
        wanted = [soname for soname in sonames if "/" not in soname and soname not in {".", ".."}]
        owners: dict[str, str] = {}
        for layer in self.layers:
            places: list[Path] = []
            for below in (layer.usr / "lib", layer.alternatives / "lib"):
                places += [below, *(place for place in sorted(below.glob("*-linux-*")) if place.is_dir())]
            for soname in wanted:
                if any(os.path.lexists(place / soname) for place in places):
                    owners.setdefault(soname, layer.package.name)
        return owners


NO_LAYERS = Layers()


class LayerStore:
    """Layers for the builds in one root; several threads and processes may share the shelf."""

    def __init__(self, tree: Tree, apt: Apt, shelf: Shelf, views: Path, *, max_bytes: int) -> None:
        """`views` is a directory for what lasts as long as a build: mount points, packages on their way.

        `max_bytes` is what one build's packages may be to fetch.
        """
        self.tree = tree
        self.apt = apt
        self.shelf = shelf
        self.views = views
        self.max_bytes = max_bytes

    @contextmanager
    def get(self, names: Sequence[str], halt: Halt) -> Iterator[Layers]:
        """Layers so that the root has these packages, kept and shown while the context lasts.

        Raises BuildError: layer-failed where apt has no such packages or they would change the root,
        fetch-failed, hash-mismatch, out-of-disk.
        """
        if not names:
            yield NO_LAYERS
            return
        with ExitStack() as closing:
            held = self._obtain(names, halt, closing)
            if not held:
                yield NO_LAYERS  # the root has them all
                return
            over = [layer.usr for layer in held]
            under = [layer.alternatives for layer in held if layer.alternatives.is_dir()]
            shown = closing.enter_context(view([*over, self.tree.usr, *under], self.views))
            yield Layers(tuple(held), shown)

    def _obtain(self, names: Sequence[str], halt: Halt, closing: ExitStack) -> list[Layer]:
        try:
            return self._hold(self._missing(names, halt), halt, closing)
        except BuildError as error:
            if error.reason is not FailureReason.FETCH_FAILED:
                raise
            self.apt.forget(halt)  # the lists may name what is gone since: once more, with new ones
            return self._hold(self._missing(names, halt), halt, closing)

    def _missing(self, names: Sequence[str], halt: Halt) -> list[Package]:
        packages = self.apt.missing(names, halt)
        size_bytes = sum(package.size_bytes for package in packages)
        if len(packages) > _MOST_PACKAGES or size_bytes > self.max_bytes:
            raise BuildError(
                FailureReason.LAYER_FAILED,
                f"{', '.join(names)} would be {len(packages)} packages of {size_bytes} bytes in all",
                captured=names[0],
            )
        return packages

    def _hold(self, packages: Sequence[Package], halt: Halt, closing: ExitStack) -> list[Layer]:
        """The layers of packages, kept until `closing` ends; what is not there is fetched, all at once."""
        self.views.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=self.views) as directory:
            fetched = Path(directory)
            fetched.chmod(0o755)  # apt fetches as an account of its own
            absent = [one for one in packages if not (self.shelf.root / one.sha256 / _SEAL).exists()]
            if absent:
                self.apt.download(absent, fetched, halt)
            layers = []
            for package in packages:
                held = closing.enter_context(self._layer(package, fetched, halt))
                layers.append(Layer(package, held.path))
            return [layer for layer in layers if layer.usr.is_dir()]

    def _layer(self, package: Package, fetched: Path, halt: Halt) -> Held:
        try:
            return self.shelf.get(
                package.sha256,
                ready=lambda entry: is_intact(entry / _TREE, entry / _SEAL),
                make=lambda entry: self._make(package, fetched, entry, halt),
                inside=_TREE,
                halt=halt,
            )
        except OSError as error:
            raise BuildError(
                FailureReason.OUT_OF_DISK if error.errno in _FULL else FailureReason.BUILDER_FAILED,
                f"{package} could not be laid out: {error}",
                captured=package.name,
            ) from error

    def _make(self, package: Package, fetched: Path, entry: Path, halt: Halt) -> None:
        archive = fetched / package.filename
        if not archive.exists():  # it was evicted, or spoilt, since we looked
            self.apt.download([package], fetched, halt)
        if sha256_of(archive) != package.sha256:
            raise BuildError(FailureReason.HASH_MISMATCH, captured=package.name)
        remove_tree(entry / _TREE)
        entry.chmod(0o755)  # the account that package code runs as walks through
        part = workplace(entry)
        try:
            unpack_package(archive, part, halt)
            lay_alternatives(archive, part, part / _ALTERNATIVES)
            part.chmod(0o755)
            seal(part, entry / _SEAL)
            part.rename(entry / _TREE)
        finally:
            remove_tree(part)
            with contextlib.suppress(FileNotFoundError):
                archive.unlink()
