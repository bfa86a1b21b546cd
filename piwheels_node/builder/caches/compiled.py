# SPDX-License-Identifier: BSD-3-Clause
"""Compiler results that are kept between builds, by ccache where it is installed.

ccache believes what lies under the hash of a source to be what the compiler made of it. But in a sandbox
package code is the same user as the compiler: it can put a lie there, and whoever is given the lie links it
into a wheel of his own. No place for the files helps against that, only who is given them. So:

- Results belong to one sdist (its SHA-256) and one target. What its code left is given to builds of the very
  same code only: to those that begin again, after a missing header was installed, on the disk because memory
  was too little, after the builder was stopped or killed; and to forced ones.
  Even another version of the project is another sdist: a release that somebody hijacked for an hour must
  not reach into the clean one that follows it.
- A build reads what is kept through a read-only mount, `/compiled`, and writes beside its source, below
  `/build`, where its limits count. When the sandbox is gone, files that look like results (their names, plain
  files, not too much) are copied onto the shelf; links and the rest stay behind.

`cache.compiled = "project"` lends to all versions of a project, for who builds only what he trusts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from piwheels_node.builder.caches.shelves import Shelf
from piwheels_node.builder.files import open_plain
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.roots.tree import HOST, Tree
from piwheels_node.core.errors import SettingsError
from piwheels_node.core.messages import Lease
from piwheels_node.core.settings import CacheSettings
from piwheels_node.core.targets import Target

_COMPILERS = Path("/usr/lib/ccache")
"""Where Debian has a link to ccache for each compiler that is installed."""

MOUNTED = "/compiled"
_NEW = "compiled"
_PARTS = re.compile(r"[0-9a-f]{2}")
_RESULT = re.compile(r"[0-9a-z]{20,60}")
_SHARE = 16
_LENDING = ("sdist", "project", "nothing")


@dataclass
class Results:
    """What one build may read of compiler results, and where it leaves new ones."""

    kept: Path
    most_bytes: int
    taken_bytes: int = 0

    def variables(self, path: str) -> dict[str, str]:
        """The environment in which compilers that are found by `path` are ccache."""
        first, separator, rest = path.partition(":")
        return {
            "PATH": f"{first}:{_COMPILERS}{separator}{rest}",  # /env/bin stays ahead
            "CCACHE_DIR": "/tmp/ccache",  # noqa: S108 - the sandbox's own; only for files under way
            "CCACHE_REMOTE_ONLY": "1",
            "CCACHE_REMOTE_STORAGE": f"file:{MOUNTED}|read-only=true file:/build/{_NEW}",
            "CCACHE_NOSTATS": "1",
            "CCACHE_CONFIGPATH": "/dev/null",
        }

    def take_over(self, build: Path) -> int:
        """Keep what a build left in the directory that was its /build; gives the bytes.

        Nothing of it runs any more.
        """
        room = self.most_bytes - _bytes_of(self.kept)
        taken = 0
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self.kept.parent) as part:
            for found, name in _results(build / _NEW):
                place = self.kept / found.parent.name / name
                size = os.lstat(found).st_size
                if place.exists() or taken + size > room:
                    continue
                copy = Path(part, name)
                with contextlib.suppress(OSError), open_plain(found) as file:
                    with copy.open("xb") as made:
                        shutil.copyfileobj(file, made)
                    place.parent.mkdir(mode=0o755, exist_ok=True)
                    copy.replace(place)
                    taken += size
        self.taken_bytes += taken
        return taken


class CompilerCache:
    """Lends each build the results that it may believe. Where ccache is not installed it lends nothing."""

    def __init__(
        self,
        root: Path,
        target: Target,
        settings: CacheSettings,
        stop: threading.Event,
        tree: Tree = HOST,
    ) -> None:
        """`tree` is where the compilers are. Raises SettingsError for an unknown `cache.compiled`."""
        if settings.compiled not in _LENDING:
            raise SettingsError(
                f"'{settings.compiled}' says nothing about compiler results",
                where="cache.compiled",
                hint=f"one of {', '.join(_LENDING)}",
            )
        self.target = target
        self.settings = settings
        self.stop = stop
        self.shelf = Shelf(root, deep=True)
        links = tree.path / _COMPILERS.relative_to("/")
        there = shutil.which("ccache") if tree.is_host else (tree.usr / "bin" / "ccache").exists()
        installed = bool(there) and links.is_dir()
        self.is_on = installed and settings.compiled != "nothing"

    @contextmanager
    def lend(self, lease: Lease, stop: threading.Event | None = None) -> Iterator[Results | None]:
        """What a build may use of compiler results, while it runs; None where there is no such thing."""
        if not self.is_on:
            yield None
            return
        held = self.shelf.get(
            self._name(lease),
            ready=lambda entry: (entry / "kept").is_dir(),
            make=_make,
            inside="kept",
            halt=Halt(stop, self.stop),
        )
        with held:
            results = Results(held.path, self.settings.max_bytes // _SHARE)
            yield results
            if results.taken_bytes:
                self.shelf.measure(held.path.parent)

    def _name(self, lease: Lease) -> str:
        whose = lease.sdist.sha256 if self.settings.compiled == "sdist" else f"project {lease.project}"
        return hashlib.sha256(f"{whose} {self.target}".encode()).hexdigest()[:32]


def _make(entry: Path) -> None:
    entry.chmod(0o755)
    (entry / "kept").mkdir(mode=0o755)


def _results(new: Path) -> Iterator[tuple[Path, str]]:
    """The files of ccache's storage: two digits of the hash, then the rest. No link is followed."""
    with contextlib.suppress(OSError):
        if new.is_symlink():
            return
        for part in sorted(new.iterdir()):
            if _PARTS.fullmatch(part.name) and part.is_dir() and not part.is_symlink():
                for found in sorted(part.iterdir()):
                    if _RESULT.fullmatch(found.name):
                        yield found, found.name


def _bytes_of(kept: Path) -> int:
    return sum(os.lstat(found).st_size for found, _ in _results(kept))
