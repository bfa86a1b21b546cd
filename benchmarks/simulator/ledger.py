# SPDX-License-Identifier: BSD-3-Clause
"""What the simulated builders did, sent and were told: kept apart from the masters, compared at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_MOST_SHOWN = 20


@dataclass
class Attempt:
    """One lease, as its builder saw it.

    `told` is what the builder was told of the end: `built`, `failed`, `lost`, `handed-back`, `refused`;
    `unsure` where the answer to its report never came; empty where it died before.
    """

    builder: str
    job_id: int
    token: str
    project: str
    version: str
    alive_until: float = 0.0
    "Until when the lease lasts, as far as the builder can be sure (monotonic clock)."

    log: bytes = b""
    filename: str = ""
    sha256: str = ""
    told: str = ""
    unsure: bool = False


@dataclass
class Ledger:
    """Everything of all builders, and each answer that a master should not have given."""

    attempts: list[Attempt] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    "How often each fault was played."

    unwanted: set[int] = field(default_factory=set)
    "Jobs that a person has tried to cancel: the lease may be gone at any time."

    cancelled: set[int] = field(default_factory=set)
    "Jobs of which the master said that they are cancelled."

    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def is_wrong(self, what: str, example: str = "") -> None:
        """Note something that no master may do."""
        self.wrong[what] += 1
        if len(self.examples) < _MOST_SHOWN:
            self.examples.append(f"{what}: {example}")
