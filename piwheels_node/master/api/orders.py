# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints by which people direct builders: run, pause, drain, skip; cancel jobs, and retry them.

For operators.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from sqlalchemy.orm import Session

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages import (
    BuilderOrder,
    BuilderView,
    JobView,
    RetryAnswer,
    RetryRequest,
    Status,
)
from piwheels_node.master import views
from piwheels_node.master.api.context import Context, Here, JobId, Operator
from piwheels_node.master.api.problems import NotFoundError
from piwheels_node.master.builders import control
from piwheels_node.master.watching import retrying

router = APIRouter(tags=["orders"])


@router.post("/builders/{name}/order")
async def order_builder(name: str, order: BuilderOrder, here: Here, _operator: Operator) -> BuilderView:
    """Tell one builder to run, pause or drain; it hears of it at once, also in the middle of a build."""
    now = here.now()

    def work(session: Session) -> None:
        control.order_builder(session, control.builder_named(session, name), order, now)

    await here.database.awrite(work)
    return await asyncio.to_thread(_builder, here, name)


@router.post("/order")
async def order_all(order: BuilderOrder, here: Here, _operator: Operator) -> Status:
    """Tell the whole farm to run, pause or drain; a builder that was told to stand still itself does so."""
    await here.database.awrite(lambda session: control.order_all(session, order, here.now()))

    def status() -> Status:
        with here.database.read() as session:
            return views.status(session, here.now())

    return await asyncio.to_thread(status)


@router.post("/builders/{name}/skip")
async def skip_builder(name: str, here: Here, _operator: Operator) -> list[JobView]:
    """Cancel the jobs that a builder holds now; it stops building them at once."""
    now = here.now()

    def work(session: Session) -> list[int]:
        return control.skip_builder(session, control.builder_named(session, name), now)

    return await asyncio.to_thread(_jobs, here, await here.database.awrite(work))


@router.post("/skip")
async def skip_all(here: Here, _operator: Operator) -> list[JobView]:
    """Cancel every job that some builder holds now."""
    now = here.now()
    skipped: list[int] = []
    while some := await here.database.awrite(lambda session: control.skip_all(session, here.now(), now)):
        skipped += some
    return await asyncio.to_thread(_jobs, here, skipped)


@router.post("/jobs/{job_id}/cancel")
async def cancel(job_id: JobId, here: Here, _operator: Operator) -> JobView:
    """Cancel a job that has not ended; a builder that holds it stops building it at once."""
    if not await here.database.awrite(lambda session: control.cancel_job(session, job_id, here.now())):
        raise NotFoundError("there is no such job", where=f"job {job_id}")
    return (await asyncio.to_thread(_jobs, here, [job_id]))[0]


@router.post("/jobs/{job_id}/retry")
async def retry(job_id: JobId, here: Here, _operator: Operator) -> JobView:
    """Queue a job once more that has ended, for whatever it ended."""
    if not await here.database.awrite(lambda session: retrying.retry(session, job_id, here.now())):
        raise NotFoundError("there is no such job", where=f"job {job_id}")
    return (await asyncio.to_thread(_jobs, here, [job_id]))[0]


@router.post("/failures/{reason}/retry")
async def retry_failed(
    reason: FailureReason, wanted: RetryRequest, here: Here, _operator: Operator
) -> RetryAnswer:
    """Queue jobs once more that failed for a reason, the newest of them; of a target, a project, or all."""
    jobs, now = 0, here.now()
    while some := await here.database.awrite(
        lambda session: retrying.retry_failed(session, reason, wanted, now)
    ):
        jobs += some

    def is_whole() -> bool:
        with here.database.read() as session:
            return retrying.are_all_seen(session, reason)

    return RetryAnswer(jobs=jobs, is_whole=await asyncio.to_thread(is_whole))


def _builder(here: Context, name: str) -> BuilderView:
    with here.database.read() as session:
        found = views.builder(session, name)
    if found is None:
        raise NotFoundError("there is no such builder", where=name)
    return found


def _jobs(here: Context, job_ids: list[int]) -> list[JobView]:
    with here.database.read() as session:
        return views.jobs_of(session, job_ids)
