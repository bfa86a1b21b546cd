# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints for people and their tools: ask for a build, and read everything. Only asking needs a key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from packaging.utils import canonicalize_name

from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import (
    BuilderEventView,
    BuilderView,
    BuildRequest,
    EventView,
    JobView,
    ProjectView,
    RequestAnswer,
    Status,
)
from piwheels_node.master import views
from piwheels_node.master.api.context import Here, JobId, Operator
from piwheels_node.master.api.problems import NotFoundError
from piwheels_node.master.api.threads import in_daemon_thread
from piwheels_node.master.jobs import requests

router = APIRouter(tags=["people"])


@router.post("/requests")
async def ask_for_build(wanted: BuildRequest, here: Here, _operator: Operator) -> RequestAnswer:
    """Ask for a wheel: PyPI may have it, we may have it, or there is a job for it now."""
    asking = in_daemon_thread(requests.ask, here.database, here.pypi, wanted, here.now())
    return await here.waiting.unless_closed(asking)  # PyPI may take as long as it likes


@router.get("/status")
def status(here: Here) -> Status:
    """The master in a few numbers."""
    with here.database.read() as session:
        return views.status(session, here.now())


@router.get("/jobs")
def jobs(
    here: Here, state: JobState | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[JobView]:
    """The newest jobs."""
    with here.database.read() as session:
        return views.jobs(session, state, limit)


@router.get("/jobs/{job_id}")
def job(job_id: JobId, here: Here) -> JobView:
    """One job, with its newest build."""
    with here.database.read() as session:
        found = views.job(session, job_id)
    if found is None:
        raise NotFoundError("there is no such job", where=f"job {job_id}")
    return found


@router.get("/jobs/{job_id}/events")
def events(job_id: JobId, here: Here) -> list[EventView]:
    """What happened to a job."""
    with here.database.read() as session:
        found = views.events(session, job_id)
    if not found:
        raise NotFoundError("there is no such job", where=f"job {job_id}")
    return found


@router.get("/builders")
def builders(here: Here) -> list[BuilderView]:
    """All builders, by name."""
    with here.database.read() as session:
        return views.builders(session)


@router.get("/builders/{name}")
def builder(name: str, here: Here) -> BuilderView:
    """One builder, with the jobs that it holds."""
    with here.database.read() as session:
        found = views.builder(session, name)
    if found is None:
        raise NotFoundError("there is no such builder", where=name)
    return found


@router.get("/builders/{name}/events")
def builder_events(name: str, here: Here) -> list[BuilderEventView]:
    """What happened to a builder."""
    with here.database.read() as session:
        found = views.builder_events(session, name)
    if found is None:
        raise NotFoundError("there is no such builder", where=name)
    return found


@router.get("/projects/{name}")
def project(name: str, here: Here) -> ProjectView:
    """What the master has of a project: its newest jobs and wheels."""
    with here.database.read() as session:
        found = views.project(session, canonicalize_name(name))
    if found is None:
        raise NotFoundError("the master has nothing of this project", where=name)
    return found
