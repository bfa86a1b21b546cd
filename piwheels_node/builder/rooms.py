# SPDX-License-Identifier: BSD-3-Clause
"""Where a build's files lie: in memory while they are few, else on the disk.

Most sdists are a few hundred kilobytes in many files. On an SD card each file costs wear and time (on the
machine this was measured on, unpacking 1,113 files took 0.8 s on the disk and 0.05 s in memory), so a build
begins in memory (/dev/shm) where there is plenty of it. One that outgrows its room there begins again on
the disk. What a killed builder left in memory is removed when the next one starts.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.machine.health import memory_available_bytes
from piwheels_node.core.settings import BuilderSettings

_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own in it, with a name that nobody can foresee
_PREFIX = "piwheels-node-"
_SPARE = 4
"""Memory must be free for so many rooms before one is taken: compilers need some, too."""

_UNPACKED = 8
"""An sdist unpacks to less than this many times its size, or else begins again on the disk."""


@dataclass(frozen=True)
class Room:
    """A directory that becomes /build, and how much may be written to it."""

    path: Path
    max_bytes: int
    in_memory: bool


class Rooms:
    """Gives every build a room. `disk` is the builder's directory for builds on the disk."""

    def __init__(self, disk: Path, settings: BuilderSettings) -> None:
        self.disk = disk
        self.settings = settings
        self._note = disk.parent / "memory"
        self._forget_the_last()
        if disk.exists():
            remove_tree(disk)
        disk.mkdir()
        self.memory = self._take_memory() if settings.memory_bytes else None

    def close(self) -> None:
        """Give the memory back."""
        if self.memory:
            remove_tree(self.memory)
            self._note.unlink(missing_ok=True)

    def choices(self, sdist_bytes: int | None) -> list[bool]:
        """Where to try, in this order: True is in memory."""
        small = sdist_bytes is not None and sdist_bytes * _UNPACKED <= self.settings.memory_bytes
        return [True, False] if small and self._memory_is_plenty() else [False]

    @contextlib.contextmanager
    def room(self, *, in_memory: bool) -> Iterator[Room]:
        """A room, gone afterwards whatever package code did to it."""
        place = self.memory if in_memory and self.memory else self.disk
        path = Path(tempfile.mkdtemp(prefix="room-", dir=place))
        path.chmod(0o711)
        most = self.settings.disk_max_bytes
        if place == self.memory:
            most = min(most, self.settings.memory_bytes)
        try:
            yield Room(path, most, in_memory=place == self.memory)
        finally:
            remove_tree(path)

    def _memory_is_plenty(self) -> bool:
        if self.memory is None:
            return False
        wanted = _SPARE * self.settings.memory_bytes
        about = os.statvfs(self.memory)
        return min(memory_available_bytes(), about.f_bavail * about.f_frsize) >= wanted

    def _take_memory(self) -> Path | None:
        """A directory in /dev/shm, where programs may run from there."""
        try:
            if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
                return None
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY))
        except OSError:  # there is none, or it is not for us
            return None
        path.chmod(0o711)  # the account that package code runs as must be able to walk through
        self._note.write_text(str(path))
        return path

    def _forget_the_last(self) -> None:
        """Remove what a builder that was killed left in memory."""
        try:
            left = Path(self._note.read_text())
            ours = left.parent == _MEMORY and left.name.startswith(_PREFIX)
            if ours and left.is_dir() and not left.is_symlink() and left.stat().st_uid == os.geteuid():
                remove_tree(left)
            self._note.unlink()
        except FileNotFoundError:
            pass  # it ended as it should
