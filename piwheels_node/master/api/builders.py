# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints for builders: hello and lease; then, with the lease's token, heartbeat, log, wheel, report.

Uploads come raw and go on by offset: who sends a part that does not begin where the last one ended is
told where to go on (code `offset`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from piwheels_node.core.errors import StorageError
from piwheels_node.core.messages import (
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    Lease,
    LeaseRequest,
    Report,
    ReportAnswer,
    Upload,
)
from piwheels_node.master import leases, publish, queue
from piwheels_node.master.api.context import BuilderId, Context, Here
from piwheels_node.master.api.problems import TooLargeError
from piwheels_node.master.database.models import Builder
from piwheels_node.master.logs import MARGIN_BYTES

router = APIRouter(tags=["builders"])

LOOK_AGAIN_S = 1.0
"""How often a waiting builder's poll looks by itself: for jobs whose delay is over, or of another process."""

MAX_LOG_PART_BYTES = 4 << 20
_BATCH_BYTES = 1 << 20

LeaseToken = Annotated[str, Header(alias="X-Lease-Token", min_length=16, max_length=64)]
Offset = Annotated[int, Query(ge=0)]


@router.post("/hello", status_code=204, response_model=None)
async def hello(offered: Hello, here: Here, builder: BuilderId) -> None:
    """Say that this builder has just started: the jobs that it held before are lost."""
    now = here.now()

    def work(session: Session) -> None:
        queue.forsake(session, builder, now, here.settings.master)
        leases.register(session, builder, offered.targets, now)

    await here.database.awrite(work)
    here.bell.ring()


@router.post("/lease", response_model=Lease, responses={204: {"description": "there is no job now"}})
async def lease(wanted: LeaseRequest, request: Request, here: Here, builder: BuilderId) -> Lease | Response:
    """Get a job; waits up to `wait_s` for one."""
    await _register(here, builder, wanted)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wanted.wait_s
    while not here.bell.closing:
        found = await here.database.awrite(
            lambda session: leases.lease(session, builder, wanted, here.settings, here.now())
        )
        if found is not None:
            return found
        left_s = deadline - loop.time()
        if left_s <= 0:
            break
        await here.bell.wait(min(LOOK_AGAIN_S, left_s))
        if await request.is_disconnected():
            break  # nobody would hear of the job
    return Response(status_code=204)


async def _register(here: Context, builder: int, wanted: LeaseRequest) -> None:
    def is_news() -> bool:
        with here.database.read() as session:
            return leases.needs_registering(session, builder, wanted.targets, here.now())

    if await asyncio.to_thread(is_news):
        await here.database.awrite(
            lambda session: leases.register(session, builder, wanted.targets, here.now())
        )


@router.post("/jobs/{job_id}/heartbeat")
async def heartbeat(job_id: int, beat: Heartbeat, here: Here, builder: BuilderId) -> HeartbeatAnswer:
    """Keep the lease; where it is gone the answer is a Problem with the code `lost`."""
    now, lease_s = here.now(), here.settings.master.lease_s

    def work(session: Session) -> None:
        queue.heartbeat(session, job_id, beat.token, builder, beat.step, now, lease_s)
        row = session.get_one(Builder, builder)
        row.last_seen_at = now
        row.health = beat.health.model_dump(mode="json")

    await here.database.awrite(work)
    return HeartbeatAnswer(carry_on=True, expires_in_s=lease_s)


@router.post("/jobs/{job_id}/hand-back", status_code=204, response_model=None)
async def hand_back(job_id: int, here: Here, builder: BuilderId, token: LeaseToken) -> None:
    """Give the job back unfinished; another builder may have it at once."""
    now = here.now()

    def work(session: Session) -> None:
        queue.hand_back(session, leases.held(session, job_id, token, builder, now), now)

    await here.database.awrite(work)
    await asyncio.to_thread(here.store.discard, here.store.incoming(job_id, token))
    here.bell.ring()


@router.put("/jobs/{job_id}/log")
async def send_log(
    *, job_id: int, request: Request, here: Here, builder: BuilderId, token: LeaseToken, offset: Offset
) -> Upload:
    """Add to the log; gives its size by now, which is the offset of the next part."""
    leased_at = await asyncio.to_thread(_held_since, here, job_id, token, builder)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_LOG_PART_BYTES:
            raise TooLargeError(f"a part of a log may have {MAX_LOG_PART_BYTES} bytes", where=f"job {job_id}")
    return Upload(
        offset=await asyncio.to_thread(_append_to_log, here, job_id, leased_at, offset, bytes(data))
    )


@router.put("/jobs/{job_id}/wheel")
async def send_wheel(
    *,
    job_id: int,
    request: Request,
    here: Here,
    builder: BuilderId,
    token: LeaseToken,
    offset: Offset,
    size: Annotated[int, Query(gt=0)],
) -> Upload:
    """Send a wheel of `size` bytes, or the rest of it from `offset` on."""
    await asyncio.to_thread(_held_since, here, job_id, token, builder)
    most = here.settings.builder.wheel_max_bytes
    if size > most:
        raise TooLargeError(f"a wheel may have {most} bytes, this has {size}", where=f"job {job_id}")
    free = await asyncio.to_thread(here.store.free_bytes)
    if free - (size - offset) < here.settings.master.min_free_bytes:
        raise StorageError(
            f"the master has {free >> 20} MiB of disk left", hint="free some, or lower master.min_free_bytes"
        )
    path = here.store.incoming(job_id, token)
    return Upload(
        offset=await _receive(request, offset, lambda at, data: here.store.write_at(path, at, data, size))
    )


async def _receive(request: Request, offset: int, write: Callable[[int, bytes], int]) -> int:
    """Write the body in large parts, off the event loop; what came before a cut connection is kept."""
    batch = bytearray()
    with contextlib.suppress(ClientDisconnect):
        async for chunk in request.stream():
            batch += chunk
            if len(batch) >= _BATCH_BYTES:
                offset = await asyncio.to_thread(write, offset, bytes(batch))
                batch.clear()
    return await asyncio.to_thread(write, offset, bytes(batch))


@router.post("/jobs/{job_id}/report")
async def report(job_id: int, told: Report, here: Here, builder: BuilderId) -> ReportAnswer:
    """End the job; the answer says what the master made of the wheel."""
    answer = await asyncio.to_thread(_take_report, here, job_id, told, builder)
    here.bell.ring()
    return answer


def _take_report(here: Context, job_id: int, told: Report, builder: int) -> ReportAnswer:
    leased_at = _held_since(here, job_id, told.token, builder)
    if told.log is not None:
        with contextlib.suppress(OSError, StorageError):  # how it ended is worth more than the end of the log
            _append_to_log(here, job_id, leased_at, told.log.offset, told.log.data)
    return publish.accept(
        here.database,
        here.store,
        job_id=job_id,
        token=told.token,
        report=told,
        limits=leases.limits(here.settings),
        settings=here.settings.master,
        clock=here.now,
    )


def _held_since(here: Context, job_id: int, token: str, builder: int) -> datetime:
    """When the lease began, where this builder holds it; raises LeaseLostError."""
    now = here.now()
    with here.database.read() as session:
        return leases.held(session, job_id, token, builder, now).leased_at or now


def _append_to_log(here: Context, job_id: int, leased_at: datetime, offset: int, data: bytes) -> int:
    limit = here.settings.builder.log_max_bytes + MARGIN_BYTES
    return here.logs.append(job_id, leased_at, offset, data, limit=limit)
