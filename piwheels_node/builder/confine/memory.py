# SPDX-License-Identifier: BSD-3-Clause
"""The memory of one run: limited by the kernel where it has a group with that controller, else by looking.

Looking counts, some times a second, what all processes of the sandbox hold together: memory of their own,
memory that they share, what is swapped out, their private tmpfs, and files in memory that have no name. That
is done cheaply first, with pages that two processes share counted twice; only where that would be too much
it is done exactly. A limit that is kept by looking can be overrun for a moment: so that nobody else pays for
it, the sandbox's processes are what the kernel ends first when memory runs out (`oom_score_adj`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from pathlib import Path
from typing import Protocol

from piwheels_node.builder.confine.cgroups import Group
from piwheels_node.builder.confine.processes import Family, read

_PRIVATE = ("tmp", "dev/shm", "home/builder")
_INODE_BYTES = 1 << 10
"""What an empty file on a tmpfs takes of the kernel's memory, more or less."""

_FILES_S = 1.0
_LEAST_S, _MOST_S = 0.05, 0.25
_FILL_BYTES_S = 2 << 30
"""As fast as a process can take memory: how soon we must look again follows from it."""

_COST = 20
"""Look no longer than this part of the time."""

_KILLED = 128 + 9
_FIELD = re.compile(rb"^(RssAnon|RssShmem|VmSwap|Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB$", re.MULTILINE)


class Memory(Protocol):
    """What a run holds, and whether that is too much."""

    kind: str
    peak_bytes: int

    def look(self, processes: list[int]) -> bool:
        """Count what they hold; True where it is too much."""

    @property
    def wait_s(self) -> float:
        """When to look again, in seconds from the last look."""

    def ended(self, exit_code: int) -> bool:
        """True where a run that has ended did so for want of memory."""


class GroupMemory:
    """Limited by the kernel."""

    kind = "cgroup"
    wait_s = _MOST_S

    def __init__(self, group: Group) -> None:
        self.group = group
        self.peak_bytes = 0

    def look(self, processes: list[int]) -> bool:  # noqa: ARG002 - the kernel counts
        """Too much is what the kernel has ended a process for."""
        self.peak_bytes = max(self.peak_bytes, self.group.memory_bytes())
        return self.group.was_out_of_memory()

    def ended(self, exit_code: int) -> bool:  # noqa: ARG002 - a backend may survive what it started
        """The kernel knows."""
        self.peak_bytes = self.peak_bytes or self.group.peak_memory_bytes()
        return self.group.was_out_of_memory()


class SampledMemory:
    """Limited by looking. `tmp_bytes` is the size of each private tmpfs, by which we know it."""

    kind = "sampled"

    def __init__(self, family: Family, *, most_bytes: int, tmp_bytes: int) -> None:
        self.family = family
        self.most_bytes = most_bytes
        self.tmp_bytes = tmp_bytes
        self.peak_bytes = 0
        self.wait_s = _LEAST_S
        self._nameless_bytes = 0
        self._nameless_at = 0.0
        self._killed_before = _kills()

    def look(self, processes: list[int]) -> bool:
        """Count what there is."""
        began = time.monotonic()
        if began - self._nameless_at > _FILES_S:
            self._nameless_at = began
            self._nameless_bytes = sum(nameless_files(processes).values())
        files = self._tmpfs_bytes() + self._nameless_bytes
        used = files + sum(_roughly(process) for process in processes)
        if used > self.most_bytes:
            used = _exactly(processes, files)
        self.peak_bytes = max(self.peak_bytes, used)
        soon = (self.most_bytes - used) / _FILL_BYTES_S
        self.wait_s = max(_LEAST_S, _COST * (time.monotonic() - began), min(_MOST_S, soon))
        return used > self.most_bytes

    def ended(self, exit_code: int) -> bool:
        """The kernel tells how often it has ended a process for want of memory, but not which one."""
        return exit_code == _KILLED and _kills() > self._killed_before

    def _tmpfs_bytes(self) -> int:
        total = 0
        for name in _PRIVATE:
            with contextlib.suppress(OSError):
                about = os.statvfs(f"/proc/{self.family.first}/root/{name}")
                if 0 <= about.f_blocks * about.f_frsize - self.tmp_bytes < about.f_frsize:
                    total += (about.f_blocks - about.f_bfree) * about.f_frsize
                    total += (about.f_files - about.f_ffree) * _INODE_BYTES
        return total


def nameless_files(processes: list[int], device: int | None = None) -> dict[tuple[int, int], int]:
    """Bytes of open files that have no name any more, by device and number.

    On one device, or on none that is mounted (memfd), which is the same as in memory.
    """
    found = {}
    for process in processes:
        directory = f"/proc/{process}/fd"
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                with contextlib.suppress(OSError):
                    about = os.stat(f"{directory}/{name}")
                    if about.st_nlink or not stat.S_ISREG(about.st_mode):
                        continue
                    if about.st_dev == device or (device is None and about.st_dev == _memfd_device()):
                        found[about.st_dev, about.st_ino] = about.st_blocks * 512
    return found


def _memfd_device() -> int:
    """The device of files that were never mounted anywhere."""
    if not _MEMFD:
        descriptor = os.memfd_create("piwheels-node")
        _MEMFD.append(os.fstat(descriptor).st_dev)
        os.close(descriptor)
    return _MEMFD[0]


_MEMFD: list[int] = []


def _roughly(process: int) -> int:
    """Memory of a process, with what it shares with others."""
    fields = _fields(f"/proc/{process}/status")
    return sum(fields.get(name, 0) for name in (b"RssAnon", b"RssShmem", b"VmSwap"))


def _exactly(processes: list[int], files_bytes: int) -> int:
    """Memory of all of them, each page once; shared memory may be one of the files, so the larger counts."""
    own = shared = 0
    for process in processes:
        fields = _fields(f"/proc/{process}/smaps_rollup")
        if fields:
            own += fields.get(b"Pss_Anon", 0) + fields.get(b"SwapPss", 0)
            shared += fields.get(b"Pss_Shmem", 0)
        else:  # it ended, or does not let itself be looked at
            own += _roughly(process)
    return own + max(shared, files_bytes)


def _fields(path: str) -> dict[bytes, int]:
    return {name: int(kilobytes) << 10 for name, kilobytes in _FIELD.findall(read(path))}


def _kills() -> int:
    """How often the kernel has ended a process for want of memory, since it started."""
    found = re.search(rb"^oom_kill (\d+)$", Path("/proc/vmstat").read_bytes(), re.MULTILINE)
    return int(found[1]) if found else 0
