# SPDX-License-Identifier: BSD-3-Clause
"""How this machine is doing, and how many builds it can take at a time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from piwheels_node.core.messages import Health

_MEMINFO = Path("/proc/meminfo")
_KEPT_FREE_BYTES = 300 << 20
_ONE_BUILD_BYTES = 700 << 20


def health(directory: Path) -> Health:
    """Load, free memory, and free disk where the builds are."""
    return Health(
        load_1m=os.getloadavg()[0],
        memory_available_bytes=memory_available_bytes(),
        disk_free_bytes=shutil.disk_usage(directory).free,
    )


def memory_available_bytes() -> int:
    """Memory that can be had without pushing anything out."""
    return _memory("MemAvailable") or 0


def slots() -> int:
    """Builds at a time: one per core, as far as memory goes; 1 on the smallest machine."""
    memory = _memory("MemTotal") or 0
    return max(1, min(len(os.sched_getaffinity(0)), (memory - _KEPT_FREE_BYTES) // _ONE_BUILD_BYTES))


def _memory(name: str) -> int | None:
    """A line of /proc/meminfo, in bytes."""
    for line in _MEMINFO.read_text().splitlines():
        key, _, amount = line.partition(":")
        if key == name:
            return int(amount.split()[0]) * 1024
    return None
