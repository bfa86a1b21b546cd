# SPDX-License-Identifier: BSD-3-Clause
"""What a builder is to its master, what it has been told to do, and how much memory a job may need.

This module imports only the standard library.
"""

from __future__ import annotations

from enum import Enum

MEMORY_CLASSES_BYTES = (512 << 20, 1 << 30, 2 << 30, 4 << 30, 8 << 30)
"""Upper bounds of the memory classes: a job of class 0 needs 512 MiB at most; beyond the last is one more."""

SERVED_FROM_BYTES = (*MEMORY_CLASSES_BYTES, 2 * MEMORY_CLASSES_BYTES[-1])
"""How much memory a build must have at least to serve each class."""


HOT_C = 80.0
"""Where a Raspberry Pi begins to slow down."""


class BuilderState(Enum):
    """How a builder stands with its master."""

    PENDING = "pending"
    "It has joined, and waits for a person to approve it."

    ACTIVE = "active"
    "It may lease jobs."

    REVOKED = "revoked"
    "Its key opens nothing any more."

    LEFT = "left"
    "Its owner let it leave; a join token brings it back."


class Mode(Enum):
    """What a builder, or the whole farm, has been told to do."""

    RUN = "run"
    "Take jobs and build them."

    PAUSE = "pause"
    "Stand still: the build in hand is frozen, and no job is taken."

    DRAIN = "drain"
    "Finish the build in hand, and take no more jobs."


class BuilderEventKind(Enum):
    """What can happen to a builder; each is one line of its history."""

    JOINED = "joined"
    "It showed a join token, and has a key."

    APPROVED = "approved"
    "A person lets it lease jobs."

    STARTED = "started"
    "Its service began, and told what it offers."

    SUPERSEDED = "superseded"
    "Another process came with its key: it was started twice, or cloned."

    CLONED = "cloned"
    "Another machine came with its key, and was refused."

    ORDERED = "ordered"
    "A person told it to run, pause, drain, or skip what it builds."

    PAUSED_ITSELF = "paused-itself"
    "It stands still for heat, memory, disk or power."

    RESUMED_ITSELF = "resumed-itself"
    "What it stood still for is over."

    REVOKED = "revoked"
    "A person took its key back."

    LEFT = "left"
    "Its owner let it leave."

    PURGED = "purged"
    "A person withdrew what it has built."


def memory_class(needed_bytes: int | None) -> int:
    """The class of a job that needs so much memory; 0 where nobody knows.

    >>> memory_class(600 << 20)
    1
    """
    if needed_bytes is None:
        return 0
    fitting = (number for number, most in enumerate(MEMORY_CLASSES_BYTES) if needed_bytes <= most)
    return next(fitting, len(MEMORY_CLASSES_BYTES))


def memory_classes_below(available_bytes: int | None) -> list[int]:
    """The classes that a build with so much memory can serve: 0 always, for whoever does not know."""
    if available_bytes is None:
        return [0]
    return sorted(
        {0, *(number for number, least in enumerate(SERVED_FROM_BYTES) if least <= available_bytes)}
    )
