# SPDX-License-Identifier: BSD-3-Clause
"""What one build may have of this machine: its share of the memory, and as many compilers as fit into that.

A job that needs more than a share has the machine to itself: what no slot could build would never be built.
Whoever sets `builder.memory_max_bytes` or `builder.jobs` knows better.
"""

from __future__ import annotations

from pathlib import Path

from piwheels_node.builder.machine.health import KEPT_FREE_BYTES, cores, slots
from piwheels_node.core.settings import BuilderSettings
from piwheels_node.sensors import Sensors

_ONE_COMPILER_BYTES = 350 << 20
_LEAST_BYTES = 64 << 20


def build_memory_bytes(
    settings: BuilderSettings, machine_bytes: int | None = None, *, alone: bool = False
) -> int:
    """Memory that one build may have, beside others or alone.

    `machine_bytes` is what all may have, if less than there is.

    On a machine of 512 MB half of it is shared out: what is left over from 300 MB could not compile a thing.
    """
    if settings.memory_max_bytes:
        return settings.memory_max_bytes
    total = Sensors(Path("/")).memory_bytes("MemTotal") or 0
    total = min(total, machine_bytes or total)
    shared = max(total - KEPT_FREE_BYTES, total // 2)
    return max(_LEAST_BYTES, shared if alone else shared // (settings.slots or slots()))


def is_large(settings: BuilderSettings, needed_bytes: int, machine_bytes: int | None = None) -> bool:
    """True for a job that needs more than a build beside others may have."""
    return needed_bytes > build_memory_bytes(settings, machine_bytes)


def compilers(settings: BuilderSettings, memory_bytes: int) -> int:
    """How many compilers one build should run at a time: one per core, as far as its memory goes."""
    return settings.jobs or max(1, min(cores(), memory_bytes // _ONE_COMPILER_BYTES))


def hard_processes(settings: BuilderSettings) -> int:
    """How many processes the kernel lets a build have: more than it may, so that it is seen to have too many.

    The kernel counts a process before it refuses it, so that a fork bomb on a slow machine may keep itself
    just below its limit for ever; and one that meets the limit ends, or tries again, as it pleases.
    """
    return settings.processes + max(16, settings.processes // 4)
