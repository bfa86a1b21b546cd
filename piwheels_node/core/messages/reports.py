# SPDX-License-Identifier: BSD-3-Clause
"""What a master says of all its builds together: why they failed, how often, and where to look."""

from __future__ import annotations

from datetime import date

from pydantic import AwareDatetime

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages.base import Message


class FailedBuild(Message):
    """One build that failed, with what shows why; `job_id` leads to its log and its history."""

    build_id: int
    job_id: int
    project: str
    version: str
    target: str
    builder: str
    reason: FailureReason
    captured: str | None = None
    debian_package: str | None = None
    evidence: str | None = None
    evidence_line: int | None = None
    started_at: AwareDatetime
    duration_s: float


class ReasonCount(Message):
    """How many builds failed for one reason.

    `share` is of all builds of the period that failed, from 0 to 1. `before` is the same number for the
    period of the same length just before; `newest` an example from the period.
    """

    reason: FailureReason
    sentence: str
    builds: int
    share: float
    before: int
    newest: FailedBuild | None = None


class FailureReport(Message):
    """Why builds failed in a period of whole days (UTC), `since` and `until` included; most frequent first.

    Each build counts on the day on which it ended, also one after which another builder tried. Of one project
    it counts on the day on which it began; `is_whole` is False where the project has more builds than are
    looked at.
    """

    since: date
    until: date
    target: str | None = None
    project: str | None = None
    built: int
    failed: int
    built_before: int
    failed_before: int
    reasons: list[ReasonCount]
    is_whole: bool = True
