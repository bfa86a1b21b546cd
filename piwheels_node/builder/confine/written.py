# SPDX-License-Identifier: BSD-3-Clause
"""Bytes written to a disk, as the kernel counts them for each process (`/proc/PID/io`, proc(5)).

`write_bytes` is what a process has made dirty in the page cache of a real disk; files in memory do not count.
`cancelled_write_bytes` is what it took back by removing files before they were written. The numbers of
children that have been waited for are in their parent's. `io.stat` of a control group would count what has
reached the disk: nothing yet of a build that just ended, and it needs a controller that few builders have.

A kernel without CONFIG_TASK_IO_ACCOUNTING has no such files: then nobody knows.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from piwheels_node.builder.confine.processes import read

T = TypeVar("T")


class _Others(threading.local):
    """What other threads have written for this one."""

    size_bytes = 0


_others = _Others()
_NUMBERS = re.compile(rb"^(write_bytes|cancelled_write_bytes): (\d{1,20})$", re.MULTILINE)


def by_processes(processes: Iterable[int]) -> int | None:
    """What these processes and the children that they have waited for have written; None: nobody knows."""
    return _sum(f"/proc/{number}/io" for number in processes)


def by_this_thread() -> int | None:
    """What the calling thread has written, and others for it; None: nobody knows."""
    own = _sum(["/proc/thread-self/io"])
    return own if own is None else own + _others.size_bytes


def measured(work: Callable[[], T]) -> tuple[T, int]:
    """What the work gives, and what it wrote in this thread: for whoever waits for it in another."""
    before = by_this_thread() or 0
    return work(), max(0, (by_this_thread() or 0) - before)


def count(size_bytes: int) -> None:
    """Another thread has written this for the calling one."""
    _others.size_bytes += size_bytes


def _sum(paths: Iterable[str]) -> int | None:
    found = [dict(_NUMBERS.findall(read(path))) for path in paths]
    told = [int(one[b"write_bytes"]) - int(one.get(b"cancelled_write_bytes", 0)) for one in found if one]
    return max(0, sum(told)) if told else None
