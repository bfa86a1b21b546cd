# SPDX-License-Identifier: BSD-3-Clause
"""The disk that one run fills: counted often enough that it cannot fill much more than it may.

Counting a tree takes time, and asking how much of the disk is free takes none. So we ask some times a
second, and count when the disk has lost so much that this run may be the cause, and now and then anyway.
Every file and directory costs more than what is in it: a million empty ones fill a disk, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from piwheels_node.builder.confine.memory import nameless_files

_INODE_BYTES = 512
"""An inode and the name of it, on ext4 and on tmpfs, more or less."""

_LEFT_BYTES = 64 << 20
_LEFT_PART = 64
"""The machine keeps so much of a disk, or the 64th part of a small one."""

_TOO_DEEP = 1 << 62

_COST = 10
"""Count no longer than this part of the time."""


class Disk:
    """What the tree `build` takes; `every_s` is how often it is counted at least."""

    def __init__(self, build: Path, *, most_bytes: int, every_s: float) -> None:
        self.build = build
        self.most_bytes = most_bytes
        self.every_s = every_s
        self.used_bytes = 0
        self._device = build.stat().st_dev
        about = os.statvfs(build)
        self._left_bytes = min(_LEFT_BYTES, about.f_blocks * about.f_frsize // _LEFT_PART)
        self._left_files = min(1000, about.f_files // _LEFT_PART)
        self._free_bytes = about.f_bavail * about.f_frsize
        self._free_files = about.f_ffree
        self._counted_at = time.monotonic()
        self._cost_s = 0.0

    def look(self, processes: list[int]) -> bool:
        """True where it is too much, or where the disk is all but full; `processes` may have open files."""
        about = os.statvfs(self.build)
        free_bytes = about.f_bavail * about.f_frsize
        if free_bytes < self._left_bytes or (about.f_files and about.f_favail < self._left_files):
            return True
        lost = self._free_bytes - free_bytes + (self._free_files - about.f_ffree) * _INODE_BYTES
        room = self.most_bytes - self.used_bytes
        since_s = time.monotonic() - self._counted_at
        wanted = (since_s > self.every_s or lost > room // 2) and since_s > _COST * self._cost_s
        if wanted or lost > room:
            self._free_bytes, self._free_files = free_bytes, about.f_ffree
            self._count(processes)
        return self.used_bytes > self.most_bytes

    def _count(self, processes: list[int]) -> None:
        began = time.monotonic()
        nameless = sum(nameless_files(processes, self._device).values())
        self.used_bytes = nameless + tree_bytes(self.build, self.most_bytes - nameless)
        self._counted_at = time.monotonic()
        self._cost_s = self._counted_at - began


def tree_bytes(directory: Path, enough_bytes: int) -> int:
    """Disk that a tree takes; what vanishes while we look counts as nothing. More than enough is not counted.

    One that is nested deeper than a path can say is more than any build may have.
    """
    total = 0
    pending = [str(directory)]
    while pending and total <= enough_bytes:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512 + _INODE_BYTES
                    if total > enough_bytes:
                        break
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _TOO_DEEP
    return total
