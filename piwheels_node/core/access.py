# SPDX-License-Identifier: BSD-3-Clause
"""What whoever asks a master may do there.

This module imports only the standard library.
"""

from __future__ import annotations

from enum import Enum


class Access(Enum):
    """What a key opens; no key opens reading."""

    READER = "reader"
    "Everything may be read, and nothing changed."

    BUILDER = "builder"
    "Jobs may be leased, as one builder."

    OPERATOR = "operator"
    "Builders may be directed, jobs queued and cancelled, rules made."

    @property
    def may_act(self) -> bool:
        """True where builders and jobs may be told what to do."""
        return self is Access.OPERATOR
