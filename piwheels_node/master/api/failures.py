# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints about builds that failed: the report over all, and the builds of one reason. None needs a key."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from packaging.utils import canonicalize_name

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages import FailedBuild, FailureReport
from piwheels_node.master import reports
from piwheels_node.master.api.context import Here
from piwheels_node.master.reports import Period, Scope

router = APIRouter(tags=["people"])

_WEEK = 7
_Named = Annotated[str | None, Query(max_length=200)]


@router.get("/failures")
def failures(
    here: Here,
    since: date | None = None,
    until: date | None = None,
    target: _Named = None,
    project: _Named = None,
) -> FailureReport:
    """Why builds failed, by reason, and in the days before; `until` is today, and `since` a week ago."""
    period = Period.asked(since, until, here.now(), _WEEK)
    with here.database.read() as session:
        return reports.failures(session, period, _scope(target, project))


@router.get("/failures/{reason}")
def failed_builds(  # noqa: PLR0917 - FastAPI gives them by name
    reason: FailureReason,
    here: Here,
    target: _Named = None,
    project: _Named = None,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[FailedBuild]:
    """Builds that failed for a reason, newest first; more with `before`, the number of the last one."""
    with here.database.read() as session:
        return reports.failed_builds(session, reason, _scope(target, project), before, limit)


def _scope(target: str | None, project: str | None) -> Scope:
    return Scope(target, canonicalize_name(project) if project else None)
