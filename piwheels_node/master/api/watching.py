# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints for screens: the farm, builders, builds and logs, the queue, statistics. None needs a key.

What is asked every few seconds is written as JSON here, once, and not looked through again by the framework.
"""

from __future__ import annotations

import contextlib
import gzip
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from packaging.utils import canonicalize_name

from piwheels_node.core.access import Access
from piwheels_node.core.errors import StorageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Priority
from piwheels_node.core.messages import (
    BuilderStatistics,
    BuildFacts,
    BuildPage,
    FarmView,
    HourCount,
    LogSlice,
    ProjectMatch,
    QueuedJob,
    QueueView,
    Statistics,
    WhoAmI,
)
from piwheels_node.master.api.context import AnyCaller, Here, JobId
from piwheels_node.master.api.problems import NotFoundError
from piwheels_node.master.builders.keys import KeyKind
from piwheels_node.master.reports import Period
from piwheels_node.master.watching import builds as building
from piwheels_node.master.watching import farm as farming
from piwheels_node.master.watching import lanes, projects, statistics
from piwheels_node.master.watching.builds import Wanted

router = APIRouter(tags=["screens"])

LOG_SLICE_BYTES = 1 << 20
"""The most of a log that one answer has."""

_MONTH = 30
_Named = Annotated[str | None, Query(max_length=200)]
_Limit = Annotated[int, Query(ge=1, le=500)]
_Number = Annotated[int | None, Query(ge=1, le=2**63 - 1)]
_Offset = Annotated[int, Query(ge=0, le=2**63 - 1)]
_PACKED_FROM_BYTES = 4 << 10


@router.get("/whoami")
async def who_am_i(caller: AnyCaller) -> WhoAmI:
    """What the key of this request may do; without one it is reading."""
    if caller is None:
        return WhoAmI(access=Access.READER)
    access = Access.OPERATOR if caller.kind is KeyKind.OPERATOR else Access.BUILDER
    return WhoAmI(access=access, builder=caller.name)


@router.get("/farm", response_model=FarmView)
def farm(here: Here, request: Request, rows: bool = False, first: _Number = None) -> Response:
    """The farm at a glance: what waits, is built and fails, who is up, how full; by `rows` its builders."""
    disk = None
    with contextlib.suppress(StorageError):
        disk = farming.Disk(*here.store.disk_bytes())
    with here.database.read() as session:
        found = farming.farm(session, disk, here.now(), rows=rows, first=first)
    return _written(request, found.model_dump_json(exclude_defaults=True).encode())


@router.get("/builds")
def builds(  # noqa: PLR0917 - FastAPI gives them by name
    here: Here,
    builder: _Named = None,
    project: _Named = None,
    target: _Named = None,
    job: _Number = None,
    outcome: Outcome | None = None,
    reason: FailureReason | None = None,
    before: _Number = None,
    limit: _Limit = 50,
) -> BuildPage:
    """Builds that have ended, newest first; more with the `before` of the answer."""
    name = canonicalize_name(project) if project else None
    wanted = Wanted(builder, name, target, job, outcome, reason)
    with here.database.read() as session:
        return building.page(session, wanted, before, limit)


@router.get("/builds/{build_id}")
def build(build_id: JobId, here: Here) -> BuildFacts:
    """Everything about one build: steps, evidence, resources, environment, wheel."""
    with here.database.read() as session:
        found = building.facts(session, build_id)
    if found is None:
        raise NotFoundError("there is no such build", where=f"build {build_id}")
    size = here.logs.size_of(here.logs.of(found.job_id, found.begun_at))
    return found.facts.model_copy(update={"log_bytes": size})


@router.get("/builds/{build_id}/log", response_class=Response)
def build_log(
    build_id: JobId, here: Here, offset: _Offset = 0, last: _Number = None, line: _Number = None
) -> Response:
    """The log of a build from a byte on, its `last` bytes, or from a `line` on; 1 MiB at most.

    `X-Log-Offset` says where the part begins, `X-Log-Size` how long the log is, `X-Log-Name` which it is.
    """
    with here.database.read() as session:
        lease = building.lease_of(session, build_id)
    if lease is None:
        raise NotFoundError("there is no such build", where=f"build {build_id}")
    return _log(here.logs.read(here.logs.of(*lease), offset, LOG_SLICE_BYTES, last=last, line=line))


@router.get("/jobs/{job_id}/log", response_class=Response)
def job_log(
    job_id: JobId, here: Here, offset: _Offset = 0, last: _Number = None, line: _Number = None
) -> Response:
    """The log of a job's newest lease, also while it grows; empty where there is none. As that of a build."""
    with here.database.read() as session:
        leased_at = building.held_since(session, job_id)
    path = here.logs.of(job_id, leased_at) if leased_at else here.logs.newest(job_id)
    return _log(here.logs.read(path, offset, LOG_SLICE_BYTES, last=last, line=line))


@router.get("/queue", response_model=QueueView)
def queue(here: Here, request: Request, limit: _Limit = 20) -> Response:
    """What waits, lane by lane, and what comes next."""
    with here.database.read() as session:
        found = lanes.queue(session, limit)
    return _written(request, found.model_dump_json(exclude_defaults=True).encode())


@router.get("/queue/ready")
def queue_of(
    here: Here,
    target: Annotated[str, Query(max_length=100)],
    priority: Priority | None = None,
    limit: _Limit = 100,
) -> list[QueuedJob]:
    """The next jobs of a target in the order in which they are served, of one priority or of all."""
    with here.database.read() as session:
        return lanes.ready_of(session, target, priority, limit)


@router.get("/statistics")
def over_days(
    here: Here, since: date | None = None, until: date | None = None, target: _Named = None
) -> Statistics:
    """Builds by day and by reason, and wheels by tag; `until` is today, and `since` 30 days ago."""
    with here.database.read() as session:
        return statistics.over_days(session, Period.asked(since, until, here.now(), _MONTH), target)


@router.get("/statistics/hours")
def hours(here: Here, hours: Annotated[int, Query(ge=1, le=statistics.MOST_HOURS)] = 24) -> list[HourCount]:
    """Builds of each of the last so many hours, oldest first."""
    with here.database.read() as session:
        return statistics.hours(session, hours, here.now())


@router.get("/statistics/builders")
def over_builders(
    here: Here,
    since: date | None = None,
    until: date | None = None,
    builder: _Named = None,
    limit: _Limit = 50,
) -> BuilderStatistics:
    """Builds by builder and day, of those that built most or of one; a period as in `/statistics`."""
    with here.database.read() as session:
        return statistics.over_builders(
            session, Period.asked(since, until, here.now(), _MONTH), builder, limit
        )


@router.get("/projects")
def search(
    here: Here,
    name: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Annotated[int, Query(ge=1, le=projects.MOST)] = 50,
) -> list[ProjectMatch]:
    """Projects of this name, then those that begin so, then those that have it in their names."""
    with here.database.read() as session:
        return projects.search(session, name, limit)


def _written(request: Request, content: bytes) -> Response:
    """JSON; packed where it is long and who asks can read that: 300 rows are a twentieth then."""
    headers = {"Vary": "Accept-Encoding"}
    if len(content) >= _PACKED_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        content = gzip.compress(content, compresslevel=1, mtime=0)
    return Response(content, media_type="application/json", headers=headers)


def _log(part: LogSlice) -> Response:
    headers: dict[str, Any] = {
        "Cache-Control": "no-store",
        "X-Log-Offset": str(part.offset),
        "X-Log-Size": str(part.size_bytes),
        "X-Log-Name": part.name,
    }
    return Response(part.data, media_type="text/plain; charset=utf-8", headers=headers)
