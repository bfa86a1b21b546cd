# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints for builders: hello, orders, lease; with the lease's token heartbeat, log, wheel, report.

A process that starts says hello and names its session; every later request carries it (`X-Builder-Session`),
so that a second process with the same key is noticed. Uploads come raw and go on by offset: who sends a
part that does not begin where the last one ended is told where to go on (code `offset`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
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
    Orders,
    OrdersRequest,
    Refusal,
    Report,
    ReportAnswer,
    Upload,
)
from piwheels_node.master.api.context import Context, Here, JobId, Newcomer, TheBuilder, Told
from piwheels_node.master.api.problems import ClonedError, TooLargeError
from piwheels_node.master.builders import control
from piwheels_node.master.builders.control import Speaker
from piwheels_node.master.database.models import Builder
from piwheels_node.master.jobs import leases, queue
from piwheels_node.master.wheels import publish
from piwheels_node.master.wheels.logs import MARGIN_BYTES

router = APIRouter(tags=["builders"])

HEALTH_EVERY_S = 10.0
"""A builder's health is written no more often than this; that it pauses, at once."""

MAX_LOG_PART_BYTES = 4 << 20
_BATCH_BYTES = 1 << 20

_NOT_BEFORE_S = 0.05
"""What is over at a time is over just after it."""

LeaseToken = Annotated[str, Header(alias="X-Lease-Token", min_length=16, max_length=64)]
Offset = Annotated[int, Query(ge=0, le=2**63 - 1)]


@router.post("/hello")
async def hello(told: Hello, here: Here, builder: Newcomer) -> Orders:
    """Say that this builder has just started: the jobs that it held before are lost."""
    now = here.now()

    def work(session: Session) -> Orders | None:
        known = leases.hello(session, builder.id, told, now, here.settings)
        return control.orders_of(session, builder.id, now) if known else None

    orders = await here.database.awrite(work)
    here.told.pop(builder.id, None)
    here.callers.announced(f"orders:{builder.id}")
    if orders is None:
        raise ClonedError(
            "this key is another machine's", hint="was its card copied? let this machine join by itself"
        )
    return orders


@router.post("/orders")
async def orders(asked: OrdersRequest, request: Request, here: Here, builder: TheBuilder) -> Orders:
    """Get this builder's orders; waits up to `wait_s` until they are others than those of `seen`."""
    before = here.told.get(builder.id)
    is_old = before is None or time.monotonic() - before.at_s > leases.SEEN_EVERY_S
    if is_old or (before and before.paused_itself != asked.paused_itself):
        why, now = asked.paused_itself, here.now()
        await here.database.awrite(lambda session: control.note_pause(session, builder.id, why, now))
        here.told[builder.id] = Told(time.monotonic(), why)
    deadline = time.monotonic() + asked.wait_s
    with here.waiting.ticket(builder.id) as ticket:
        while True:
            ticket.begin()
            found = await asyncio.to_thread(_orders_of, here, builder)
            left_s = deadline - time.monotonic()
            if found.serial != asked.seen or left_s <= 0 or here.waiting.closing:
                return found
            await ticket.wait(left_s, for_jobs=False)
            if await request.is_disconnected():
                return found


def _orders_of(here: Context, builder: Speaker) -> Orders:
    with here.database.read() as session:
        control.check_speaker(session.get_one(Builder, builder.id).session, builder.session)
        return control.orders_of(session, builder.id, here.now())


@router.post("/lease", response_model=Lease, responses={204: {"description": "there is no job now"}})
async def lease(wanted: LeaseRequest, request: Request, here: Here, builder: TheBuilder) -> Lease | Response:
    """Get a job; waits up to `wait_s` for one, and as long as the builder is paused."""
    await _register(here, builder, wanted)
    deadline = time.monotonic() + wanted.wait_s
    with here.waiting.ticket(builder.id, (one.name for one in wanted.targets)) as ticket:
        while not here.waiting.closing:
            turn = ticket.begin()
            look = functools.partial(_look, here, builder, wanted, turn)
            found = await here.database.awrite(look)
            ticket.looked(more=found.more)
            if found.lease is not None:
                if not await request.is_disconnected():
                    return found.lease
                await _give_back(here, builder, found.lease.job_id, found.lease.token)
                break
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            if found.again_s is not None:
                left_s = min(left_s, found.again_s + _NOT_BEFORE_S)
            await ticket.wait(left_s, for_jobs=found.may_lease)
            if await request.is_disconnected():
                break  # nobody would hear of the job
    return Response(status_code=204)


def _look(
    here: Context, builder: Speaker, wanted: LeaseRequest, turn: str | None, session: Session
) -> leases.Look:
    return leases.look(session, builder, wanted, here.settings, here.now(), more_of=turn)


async def _register(here: Context, builder: Speaker, wanted: LeaseRequest) -> None:
    def is_news() -> bool:
        with here.database.read() as session:
            return leases.needs_registering(session, builder.id, wanted, here.now())

    if await asyncio.to_thread(is_news):
        await here.database.awrite(
            lambda session: leases.register(
                session, builder.id, wanted.targets, leases.most_memory_bytes(wanted), here.now()
            )
        )


@router.post("/jobs/{job_id}/heartbeat")
async def heartbeat(job_id: JobId, beat: Heartbeat, here: Here, builder: TheBuilder) -> HeartbeatAnswer:
    """Keep the lease; where it is gone the answer is a Problem with the code `lost`."""
    now, lease_s = here.now(), here.settings.master.lease_s
    health, before = beat.health, here.told.get(builder.id)
    is_old = before is None or time.monotonic() - before.at_s > HEALTH_EVERY_S
    is_news = is_old or (before is not None and before.paused_itself != health.paused_itself)

    def work(session: Session) -> None:
        queue.heartbeat(session, job_id, beat.token, builder.id, beat.step, now, lease_s)
        if is_news:
            control.note_health(session, builder.id, health, now)

    await here.database.awrite(work)
    if is_news:
        here.told[builder.id] = Told(time.monotonic(), health.paused_itself)
    return HeartbeatAnswer(carry_on=True, expires_in_s=lease_s)


@router.post("/jobs/{job_id}/hand-back", status_code=204, response_model=None)
async def hand_back(job_id: JobId, here: Here, builder: TheBuilder, token: LeaseToken) -> None:
    """Give the job back unfinished; another builder may have it at once."""
    await _give_back(here, builder, job_id, token)


async def _give_back(here: Context, builder: Speaker, job_id: int, token: str) -> None:
    now = here.now()

    def work(session: Session) -> None:
        queue.hand_back(session, queue.held(session, job_id, token, now, builder.id), now)

    await here.database.awrite(work)
    await asyncio.to_thread(here.store.discard, here.store.incoming(job_id, token))


@router.post("/jobs/{job_id}/refuse", status_code=204, response_model=None)
async def refuse(job_id: JobId, refusal: Refusal, here: Here, builder: TheBuilder) -> None:
    """Give the job to another builder, which it fits better; this one does not get it again for a while."""
    now = here.now()

    def work(session: Session) -> None:
        job = queue.held(session, job_id, refusal.token, now, builder.id)
        queue.refuse(session, job, builder.id, refusal.what, now, here.settings.master)

    await here.database.awrite(work)


@router.put("/jobs/{job_id}/log")
async def send_log(
    *, job_id: JobId, request: Request, here: Here, builder: TheBuilder, token: LeaseToken, offset: Offset
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
    job_id: JobId,
    request: Request,
    here: Here,
    builder: TheBuilder,
    token: LeaseToken,
    offset: Offset,
    size: Annotated[int, Query(gt=0, le=2**63 - 1)],
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
async def report(job_id: JobId, told: Report, here: Here, builder: TheBuilder) -> ReportAnswer:
    """End the job; the answer says what the master made of the wheel."""
    return await asyncio.to_thread(_take_report, here, job_id, told, builder)


def _take_report(here: Context, job_id: int, told: Report, builder: Speaker) -> ReportAnswer:
    leased_at = _held_since(here, job_id, told.token, builder)
    if told.log is not None:
        with contextlib.suppress(OSError, StorageError):  # how it ended is worth more than the end of the log
            _append_to_log(here, job_id, leased_at, told.log.offset, told.log.data)
    return publish.accept(
        here.database,
        here.store,
        job_id=job_id,
        token=told.token,
        builder_id=builder.id,
        report=told,
        limits=leases.limits(here.settings),
        settings=here.settings.master,
        clock=here.now,
        contents=here.contents,
        build=here.settings.build,
        pypi=here.pypi,
    )


def _held_since(here: Context, job_id: int, token: str, builder: Speaker) -> datetime:
    """When the lease began, where this builder holds it; raises LeaseLostError."""
    now = here.now()
    with here.database.read() as session:
        return queue.held_job(session, job_id, token, now, builder.id).leased_at


def _append_to_log(here: Context, job_id: int, leased_at: datetime, offset: int, data: bytes) -> int:
    limit = here.settings.builder.log_max_bytes + MARGIN_BYTES
    return here.logs.append(job_id, leased_at, offset, data, limit=limit)
