# SPDX-License-Identifier: BSD-3-Clause
"""The processes of one sandbox, seen from outside: which there are, whether they run, what memory they hold.

They are found by descent from the sandbox's first process, in the kernel's own books (`/proc`): a process
whose parent ends is given to that first one, so that none can leave the family, whatever it calls itself.
Package code is not asked, and cannot tell us a lie.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Iterator

_HAS_CHILDREN = os.path.exists("/proc/thread-self/children")  # CONFIG_PROC_CHILDREN
_STANDING = frozenset("TtZXx")
_WAITING = "D"  # in the kernel, where a signal to stop is met before anything of its own runs again


class Family:
    """The first process of a sandbox, by its number out here, and all that descend from it."""

    def __init__(self, first: int) -> None:
        """`first` must be a live child of a child of ours; raises ProcessLookupError where it is gone."""
        self.first = first
        self.threads = 0
        "How many threads its processes had when they were last counted."
        self._descriptor = os.pidfd_open(first)

    def close(self) -> None:
        """Let go of the first process."""
        os.close(self._descriptor)

    def kill(self) -> None:
        """End all of it: the kernel ends a PID namespace with its first process."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def numbers(self) -> list[int]:
        """Every process that there is now; one that has just begun may be missing."""
        if not self._lives():
            self.threads = 0
            return []
        table = None if _HAS_CHILDREN else _table_of_children()
        threads = 0
        found = [self.first]
        for number in found:  # grows while we walk
            tasks = _tasks(number)
            threads += len(tasks)
            found += _children(number, tasks) if table is None else table[number]
        self.threads = threads
        return found

    def stop(self) -> bool:
        """Make every process stand still; True where none runs any more.

        One that runs could wake another, or have begun after we looked: call it again until it is True.
        """
        running = False
        for number in self.numbers():
            states = set(_states(number))
            if states <= _STANDING:
                continue
            running = running or not states <= {*_STANDING, _WAITING}
            self._signal(number, signal.SIGSTOP)
        return not running

    def resume(self) -> None:
        """Let every process go on."""
        for number in self.numbers():
            self._signal(number, signal.SIGCONT)

    def _lives(self) -> bool:
        try:
            signal.pidfd_send_signal(self._descriptor, 0)
        except ProcessLookupError:
            return False
        return True

    def _signal(self, number: int, what: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, what)


def _tasks(number: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{number}/task")
    except OSError:
        return []


def _children(number: int, tasks: list[str]) -> list[int]:
    found: list[int] = []
    for task in tasks:
        found += map(int, read(f"/proc/{number}/task/{task}/children").split())
    return found


def _table_of_children() -> dict[int, list[int]]:
    """The same for a kernel that keeps no such list, by asking every process for its parent."""
    table: defaultdict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat_fields(read(f"/proc/{name}/stat"))
            if len(fields) > 1:
                table[int(fields[1])].append(int(name))
    return table


def _states(number: int) -> Iterator[str]:
    """The state of each of its threads: the first of them may have ended, or be traced, and others run."""
    for task in _tasks(number):
        fields = _stat_fields(read(f"/proc/{number}/task/{task}/stat"))
        if fields:
            yield fields[0].decode()


def _stat_fields(line: bytes) -> list[bytes]:
    """Fields of /proc/PID/stat from the state on; the name before it may hold anything."""
    return line.rpartition(b")")[2].split()


def read(path: str) -> bytes:
    """A file of /proc; empty where the process is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
