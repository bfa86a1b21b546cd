# SPDX-License-Identifier: BSD-3-Clause
"""What a job is in, where a build stands, and how it can end.

This module imports only the standard library.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class JobState(Enum):
    """Where a job stands on the master."""

    BLOCKED = "blocked"
    "Waits for another job."

    DELAYED = "delayed"
    "It is ready once its not-before time has come."

    READY = "ready"
    "A builder may lease it."

    LEASED = "leased"
    "A builder works on it, until the lease ends."

    BUILT = "built"
    "A wheel of it is published."

    FAILED = "failed"
    "It ended without a wheel; the last build has the reason."

    QUARANTINED = "quarantined"
    "Builders died of it; only a person sets it free."

    CANCELLED = "cancelled"
    "Nobody wants it any more."

    @property
    def is_final(self) -> bool:
        """True where nothing happens any more by itself."""
        return self in _FINAL


_FINAL = frozenset({JobState.BUILT, JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED})


class Priority(IntEnum):
    """Which job goes first; design: asked for, missed, new, backlog."""

    BACKLOG = 0
    RELEASED = 100
    MISSED = 200
    REQUESTED = 300


class Step(Enum):
    """The six steps of a build, in order."""

    FETCH = "fetch"
    "Network, no package code: the sdist, its hash, safe unpacking."

    PREPARE = "prepare"
    "Network, no package code: the build environment, from wheels only."

    ASK = "ask"
    "Package code, no network: which further requirements the backend has."

    BUILD = "build"
    "Package code, no network: the wheel."

    INSPECT = "inspect"
    "Neither: the wheel as hostile input; then its extensions are loaded in the sandbox."

    UPLOAD = "upload"
    "Network, no package code: the wheel, the log and the outcome go to the master."


class Outcome(Enum):
    """How one build, or one request for a build, ended."""

    BUILT = "built"
    "There is a wheel of it in the index."

    FAILED = "failed"
    "There is none, for the reason given."

    COVERED = "covered"
    "PyPI itself serves a wheel that the target accepts."


class EventKind(Enum):
    """What can happen to a job; each is one line of its history."""

    QUEUED = "queued"
    "It was made, and is ready."

    RAISED = "raised"
    "Somebody wants it sooner."

    REQUEUED = "requeued"
    "A job that had ended is ready again."

    LEASED = "leased"
    "A builder took it."

    STEP = "step"
    "The builder began another step."

    REFUSED = "refused"
    "A builder would not take it, and said why; this was no attempt."

    AWAKE = "awake"
    "Its delay is over: it is ready."

    HANDED_BACK = "handed-back"
    "The builder gave it back unfinished; this was no attempt."

    LOST = "lost"
    "The builder fell silent, and the lease ended."

    RETRY = "retry"
    "It failed for a reason that another builder may not have, and is ready again."

    PROPOSED = "proposed"
    "A Debian package was found that has what its build missed; nobody tries it yet."

    FIXING = "fixing"
    "Its build missed something that a Debian package has: it is ready again, with that package."

    EQUIPPED = "equipped"
    "Builds of its project get these Debian packages from now on."

    BLOCKED = "blocked"
    "It needs something that only exists as source: that is built first."

    UNBLOCKED = "unblocked"
    "What it waited for is built: it is ready."

    BUILT = "built"
    "Its wheel is in the index."

    FAILED = "failed"
    "It ended without a wheel."

    QUARANTINED = "quarantined"
    "Too many builders died of it."

    CANCELLED = "cancelled"
    "It is not wanted any more."
