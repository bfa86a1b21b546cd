# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints about following PyPI and planning: how far it is, what is to be built or why not, rules."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from piwheels_node.core.messages import (
    JobView,
    Popularity,
    PopularityAnswer,
    ProjectPlan,
    RebuildRequest,
    SkipRequest,
    SkipView,
    SyncView,
)
from piwheels_node.master.api.context import Context, Here, Operator
from piwheels_node.master.api.threads import in_daemon_thread
from piwheels_node.master.jobs.planning import Farm
from piwheels_node.master.pypi import people
from piwheels_node.master.pypi.follow import scope_of, why_not_planned

router = APIRouter(tags=["planning"])


@router.get("/sync")
def sync(here: Here) -> SyncView:
    """How far the master has come in following PyPI, and in planning for each target."""
    with here.database.read() as session:
        return people.sync_view(session, here.settings.pypi)


@router.post("/sync")
async def sync_again(here: Here, _operator: Operator) -> SyncView:
    """Read PyPI's whole list now, and ask about everything that differs."""
    await here.database.awrite(lambda session: people.sync_again(session, here.now()))
    with here.database.read() as session:
        return people.sync_view(session, here.settings.pypi)


@router.get("/projects/{name}/plan")
async def plan(
    name: str, here: Here, version: Annotated[str | None, Query(max_length=200)] = None
) -> ProjectPlan:
    """What PyPI has of a project, and per release and target what is to be built, or why not."""
    return await here.waiting.unless_closed(in_daemon_thread(_explain, here, name, version))


def _explain(here: Context, name: str, version: str | None) -> ProjectPlan:
    project = here.pypi.project(name)
    with here.database.read() as session:
        farm = Farm.of(session, scope_of(here.settings.pypi), here.now())
        why_not = why_not_planned(here.settings.pypi, project.name)
        return people.explain(session, project, version, farm, why_not=why_not)


@router.get("/skips")
def skips(here: Here) -> list[SkipView]:
    """The rules that say what is not built, newest first."""
    with here.database.read() as session:
        return people.skips(session)


@router.post("/skips")
async def skip(wanted: SkipRequest, here: Here, _operator: Operator) -> SkipView:
    """Build nothing of a project, or of some of its versions; jobs that wait are cancelled."""
    return await here.database.awrite(lambda session: people.add_skip(session, wanted, here.now()))


@router.delete("/skips/{project}")
async def unskip(project: str, here: Here, _operator: Operator) -> list[SkipView]:
    """Forget the rules about a project; gives what they were."""
    return await here.database.awrite(lambda session: people.remove_skips(session, project, here.now()))


@router.post("/rebuilds")
async def rebuild(wanted: RebuildRequest, here: Here, _operator: Operator) -> list[JobView]:
    """Queue jobs that have ended once more; a wheel that is built again gets a new build tag."""
    return await here.database.awrite(lambda session: people.rebuild(session, wanted, here.now()))


@router.post("/popularity")
async def popularity(wanted: Popularity, here: Here, _operator: Operator) -> PopularityAnswer:
    """Say which projects are wanted most; a list that begins at place 1 replaces what was said before."""
    known = await here.database.awrite(lambda session: people.load_popularity(session, wanted, here.now()))
    return PopularityAnswer(known=known)
