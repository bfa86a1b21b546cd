# SPDX-License-Identifier: BSD-3-Clause
"""How many builds this machine can take at a time, and how much memory one of them may have.

What the machine says of itself comes from `piwheels_node.sensors`; when builds must stand still for it is
decided in `conditions`.
"""

from __future__ import annotations

import os
from pathlib import Path

from piwheels_node.sensors import Sensors

KEPT_FREE_BYTES = 300 << 20
"""For the system, the builder itself, and whatever else its owner runs."""

_ONE_BUILD_BYTES = 700 << 20


def memory_available_bytes() -> int:
    """Memory that can be had without pushing anything out."""
    return Sensors(Path("/")).memory_bytes("MemAvailable") or 0


def slots() -> int:
    """Builds at a time: one per core, as far as memory goes; 1 on the smallest machine."""
    memory = Sensors(Path("/")).memory_bytes("MemTotal") or 0
    return max(1, min(cores(), (memory - KEPT_FREE_BYTES) // _ONE_BUILD_BYTES))


def cores() -> int:
    """Processors that we may run on."""
    return len(os.sched_getaffinity(0))
