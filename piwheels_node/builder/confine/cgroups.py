# SPDX-License-Identifier: BSD-3-Clause
"""Control groups (cgroup v2): the kernel's own limits, where somebody gave us a part of the tree.

systemd delegates a unit's group to it with `Delegate=yes`, and says so in an attribute of the directory.
There, this process moves into the leaf `service` (a group with children holds no processes of its own), and
every run of package code gets a group `build-PID-NUMBER`. A group that was not delegated is left alone, also
by root, who could write to it: it is managed by somebody else.

Every controller may be missing: Raspberry Pi OS boots with `cgroup_disable=memory`. Without any, a group can
still be frozen, and tells the processor time that was used in it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import time
from pathlib import Path
from typing import Self

_log = logging.getLogger(__name__)
_WANTED = ("memory", "pids", "cpu", "io")
_LEAF = "service"
_SYSTEMD = Path("/run/systemd/system")
_DELEGATED = ("user.delegate", "trusted.delegate")
_MINE = re.compile(r"build-(\d+)-\d+")
_MOVES = 20
_REMOVE_S = 2.0
_WEIGHT = 10
"""Of the processor and the disk, where everything else has 100."""


class Group:
    """The group of one run. What the kernel here does not know of is left out."""

    def __init__(self, path: Path, *, memory_bytes: int, processes: int) -> None:
        """Make it; raises OSError."""
        self.path = path
        path.mkdir()
        self.limits_memory = self._write("memory.max", memory_bytes)
        self._write("memory.swap.max", 0)  # a build that swaps wears the SD card, and stalls everything else
        self._write("memory.oom.group", 1)
        self._write("pids.max", processes)
        self._write("cpu.weight", _WEIGHT)
        self._write("io.weight", _WEIGHT)

    def add(self, process: int) -> None:
        """Move a process here, with all that it will start; raises OSError."""
        (self.path / "cgroup.procs").write_text(str(process))

    def freeze(self, *, frozen: bool) -> bool:
        """Let everything in it stand still, or go on; False where the kernel cannot do that."""
        return self._write("cgroup.freeze", int(frozen))

    def is_frozen(self) -> bool:
        """True once everything stands still."""
        return self._numbers("cgroup.events").get("frozen") == 1

    def memory_bytes(self) -> int:
        """Memory that is in use and could not be had back at once: the cache of files does not count."""
        used = self._numbers("memory.stat")
        return sum(used.get(name, 0) for name in ("anon", "shmem", "kernel_stack", "pagetables"))

    def peak_memory_bytes(self) -> int:
        """The most that was ever in use, the cache of files included; 0 where nobody counted."""
        return self._number("memory.peak")

    def was_out_of_memory(self) -> bool:
        """True where the kernel ended a process of it for want of memory."""
        return self._numbers("memory.events").get("oom_kill", 0) > 0

    def cpu_s(self) -> float:
        """Processor time used, by all processes that ever were in it."""
        return self._numbers("cpu.stat").get("usage_usec", 0) / 1e6

    def remove(self) -> None:
        """Remove the group, once the last process is really gone."""
        until = time.monotonic() + _REMOVE_S
        while True:
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if time.monotonic() > until:
                    _log.warning("the control group %s cannot be removed: %s", self.path, error)
                    return
                time.sleep(0.002)
            else:
                return

    def _write(self, name: str, value: int) -> bool:
        return _write(self.path / name, str(value))

    def _number(self, name: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int((self.path / name).read_text())
        return 0

    def _numbers(self, name: str) -> dict[str, int]:
        try:
            lines = (self.path / name).read_text().splitlines()
        except OSError:
            return {}
        return {key: int(number) for key, _, number in (line.partition(" ") for line in lines)}


class Groups:
    """A part of the tree that is ours to make groups in."""

    def __init__(self, base: Path) -> None:
        """Turn on the controllers that are wanted and there; raises OSError where that is not to be had."""
        self.base = base
        self._count = itertools.count(1)
        there = (base / "cgroup.controllers").read_text().split()
        for name in _WANTED:
            if name in there:
                _write(base / "cgroup.subtree_control", f"+{name}")
        self.controllers = frozenset((base / "cgroup.subtree_control").read_text().split())
        self._forget_the_last()
        Group(base / self._name(), memory_bytes=1 << 30, processes=16).remove()  # it works, or says why not

    @classmethod
    def find(cls, setting: str = "") -> Self | None:
        """The groups of the setting `builder.cgroup`; None where there are none for us."""
        if setting == "none":
            return None
        try:
            base = Path(setting) if setting else _delegated_base()
            return cls(base) if base else None
        except (OSError, ValueError) as error:
            _log.warning("no control groups for builds: %s", error)
            return None

    def memory_max_bytes(self) -> int | None:
        """The least that any group above allows for all builds together; None where none says anything."""
        found = []
        for group in (self.base, *self.base.parents):
            with contextlib.suppress(
                OSError, ValueError
            ):  # the root has no such file, and "max" is no number
                found.append(int((group / "memory.max").read_text()))
        return min(found, default=None)

    def new(self, *, memory_bytes: int, processes: int) -> Group:
        """A group with these limits; raises OSError."""
        return Group(self.base / self._name(), memory_bytes=memory_bytes, processes=processes)

    def _name(self) -> str:
        return f"build-{os.getpid()}-{next(self._count)}"

    def _forget_the_last(self) -> None:
        """Remove the groups that a builder which was killed left behind."""
        for path in self.base.iterdir():
            found = _MINE.fullmatch(path.name)
            if found and not Path("/proc", found[1]).exists():
                with contextlib.suppress(OSError):  # somebody is still in it
                    path.rmdir()


def _delegated_base() -> Path | None:
    """The group that was delegated to us, with this process moved out of the way; raises OSError."""
    own = own_group()
    if own is None:
        return None
    if own.name == _LEAF and is_delegated(own.parent):
        return own.parent
    if not is_delegated(own):
        return None
    _move_to_leaf(own)
    return own


def own_group() -> Path | None:
    """The directory of the cgroup v2 that this process is in, as far as it can be seen from here."""
    path = next(
        (line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")),
        None,
    )
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        root, mounted_at = fields.split()[3:5]
        if path and kind.split()[0] == "cgroup2" and Path(path).is_relative_to(root):
            return Path(mounted_at) / Path(path).relative_to(root)
    return None


def is_delegated(group: Path) -> bool:
    """True where the group was given to us; what systemd manages it marks, elsewhere we must own it."""
    if not (group / "cgroup.type").exists():  # the root of all
        return False
    needed = (group, group / "cgroup.procs", group / "cgroup.subtree_control")
    if not all(os.access(path, os.W_OK) for path in needed):
        return False
    if not _SYSTEMD.exists():
        return True
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def _move_to_leaf(group: Path) -> None:
    """Move all processes of a group into its leaf; raises OSError where some keep coming."""
    leaf = group / _LEAF
    leaf.mkdir(exist_ok=True)
    for _ in range(_MOVES):
        processes = (group / "cgroup.procs").read_text().split()
        if not processes:
            return
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(process)
    raise OSError(f"{group} never gets empty")


def _write(path: Path, text: str) -> bool:
    """Write to a file of the kernel's, if it has it; never make one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
