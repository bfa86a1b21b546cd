# SPDX-License-Identifier: BSD-3-Clause
"""How a builder stands, from those that need a person to those that do not: what a master tells first.

    standing(row)     LOST, WRONG ...; `trouble(row)` says in words what is wrong
    in_order(rows)    those that stand worst first, then by name

A master orders by it, and screens show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from piwheels_node.core.builders import HOT_C, BuilderState, Mode
from piwheels_node.core.messages import BuilderRow


class Standing(IntEnum):
    """How a builder stands; the first are shown first."""

    LOST = 0
    WRONG = 1
    WAITS_FOR_APPROVAL = 2
    PAUSED = 3
    BUSY = 4
    IDLE = 5
    GONE = 6


def standing(row: BuilderRow) -> Standing:
    """How a builder stands."""
    if row.state is not BuilderState.ACTIVE:
        return Standing.WAITS_FOR_APPROVAL if row.state is BuilderState.PENDING else Standing.GONE
    if not row.is_up:
        return Standing.LOST
    if trouble(row):
        return Standing.WRONG
    if row.mode is not Mode.RUN:
        return Standing.PAUSED
    return Standing.BUSY if row.jobs else Standing.IDLE


def trouble(row: BuilderRow) -> str:
    """What is wrong with a builder that is there, in words; "" where nothing is."""
    if row.paused_itself:
        return row.paused_itself
    if row.undervoltage:
        return "its power supply is too weak"
    if row.throttled:
        return "the firmware slows it down"
    if row.temperature_c is not None and row.temperature_c >= HOT_C:
        return "it is hot"
    return ""


def in_order(rows: Iterable[BuilderRow]) -> list[BuilderRow]:
    """Those that stand worst first, then by name."""
    return sorted(rows, key=lambda row: (standing(row), row.name))
