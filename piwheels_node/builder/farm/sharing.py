# SPDX-License-Identifier: BSD-3-Clause
"""How the builds of one machine share its memory: beside each other, or one at a time.

Each slot has its share (`confine.limits`). A job that needs more is asked for when nothing is being built,
and has the machine to itself: what no slot could build would never be built. Where the slots of a busy
builder are never all empty by themselves, they are let run empty once in a while.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from piwheels_node.builder.confine.limits import build_memory_bytes, is_large
from piwheels_node.builder.farm.assignment import Assignment
from piwheels_node.builder.workshop import Workshop
from piwheels_node.sensors import Sensors

_EMPTY_EVERY_S = 1800.0
"""How long a busy builder goes without asking for a job that needs all its memory."""

_PART_POLL_S = 5.0
"""How long a request waits that offers a share, while builds that may end any time have theirs."""


class Sharing:
    """Who may begin now, and with how much memory."""

    def __init__(self, workshop: Workshop, sensors: Sensors) -> None:
        self._workshop = workshop
        self._sensors = sensors
        self._empty_s = time.monotonic()

    def most_bytes(self, *, alone: bool) -> int:
        """Memory that a build may have here, whatever else wants some now."""
        machine_bytes = self._workshop.sandbox.machine_bytes()
        return build_memory_bytes(self._workshop.settings.builder, machine_bytes, alone=alone)

    def next_bytes(self, working: Sequence[Assignment]) -> int | None:
        """Memory that the next build could have: what it may have, or less where there is less."""
        if not working:
            self._empty_s = time.monotonic()
        there = self._sensors.memory_bytes("MemAvailable")
        return None if there is None else min(there, self.most_bytes(alone=not working))

    def poll_s(self, working: Sequence[Assignment], most_s: float) -> float:
        """How long a request for a job may wait: not long, where more may soon be free."""
        return min(most_s, _PART_POLL_S) if working and self._shares() else most_s

    def is_full(self, working: Sequence[Assignment]) -> bool:
        """True while nothing may begin: one has the machine to itself, or is to have it next."""
        if not working:
            return False
        machine_bytes = self._workshop.sandbox.machine_bytes()
        settings = self._workshop.settings.builder
        if any(is_large(settings, one.lease.memory_bytes, machine_bytes) for one in working):
            return True
        return self._shares() and time.monotonic() - self._empty_s > _EMPTY_EVERY_S

    def _shares(self) -> bool:
        return self.most_bytes(alone=True) > self.most_bytes(alone=False)
