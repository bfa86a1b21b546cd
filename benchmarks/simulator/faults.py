# SPDX-License-Identifier: BSD-3-Clause
"""What goes wrong in a fleet, and in what share of the jobs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """Shares of jobs, each between 0 and 1, that meet with a fault; they may meet with several."""

    killed: float = 0.02
    "The builder vanishes in the middle, and comes back with hello after a while."

    silent: float = 0.01
    "The builder falls silent until its lease is over, then goes on as if nothing were."

    lease_lost: float = 0.005
    "The answer with the lease never arrives: the builder does not know that it holds the job."

    upload_cut: float = 0.06
    "The connection ends in the middle of the wheel."

    upload_unanswered: float = 0.02
    "The wheel arrives, but not the answer."

    report_cut: float = 0.03
    "The connection ends in the middle of the report."

    report_unanswered: float = 0.03
    "The report arrives, but not the answer: it is sent again."

    report_twice: float = 0.05
    "The report is sent again although it was answered."

    heartbeat_twice: float = 0.05
    "A heartbeat is sent again at once."

    heartbeat_unanswered: float = 0.02
    "A heartbeat's answer is lost."

    stale: float = 0.05
    "The token of a job that is over is tried again, at each endpoint."

    foreign: float = 0.03
    "A job of another builder is tried, with a token made up."

    slow: float = 0.03
    "The line is slow: the wheel takes longer than a lease lasts, with heartbeats beside it."

    refused: float = 0.02
    "The builder does not want this job."

    handed_back: float = 0.02
    "The builder gives the job back unfinished."

    paused: float = 0.03
    "A person pauses the builder in the middle of a build, and lets it run again after up to two leases."

    cancelled: float = 0.03
    "A person cancels this job or any other, whether it waits, is being built or has ended."

    def times(self, factor: float) -> Faults:
        """All shares that much larger; 0: nothing ever goes wrong."""
        return Faults(**{key: min(1.0, share * factor) for key, share in dataclasses.asdict(self).items()})
