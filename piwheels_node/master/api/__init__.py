# SPDX-License-Identifier: BSD-3-Clause
"""The API of the master, for builders and people, under `/api/v1/`; described at `/api/docs`.

    limits     the gate in front of it all: rates, and sizes of messages
    context    what endpoints work with; who may call them
    callers    whose keys they are
    waiting    requests that wait for a job, or for other orders
    refusals   what was refused: counted, and told in the log
    builders   hello, orders, lease, heartbeat, log, wheel, report
    orders     what people tell builders to do
    enrolment  join tokens, joining, approving, revoking, purging
    people     ask for a build; status, jobs, builds, logs, projects
    failures   why builds failed: the report over all
    watching   what screens ask: the farm, builds, logs, the queue, statistics
    planning   how far following PyPI is; what is to be built, or why not; rules
    problems   how errors are told

The messages are those of `core.messages`. Endpoints translate between HTTP and the modules of the master
that do the work; what they touch on the disk or in the database happens off the event loop.
"""

from __future__ import annotations

from fastapi import FastAPI

from piwheels_node import __version__
from piwheels_node.core.messages import Problem
from piwheels_node.master.api import (
    builders,
    enrolment,
    failures,
    fixes,
    orders,
    people,
    planning,
    problems,
    watching,
)
from piwheels_node.master.api.context import Context
from piwheels_node.master.api.limits import Gate

__all__ = ["Context", "make_api"]

PREFIX = "/api/v1"


def make_api(context: Context) -> FastAPI:
    """The API as an ASGI application."""
    api = FastAPI(
        title="piwheels-node",
        summary="What builders, people and the master of a wheel farm say to each other",
        description=(
            "A builder leases a job, keeps the lease alive, and hands in the log, the wheel and a report. "
            "People ask for builds, and read what became of them. Reading needs no key. "
            "Every error is a `Problem`: what went wrong, where, and what to try."
        ),
        version=__version__,
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={"4XX": {"model": Problem}, "5XX": {"model": Problem}},
    )
    api.state.context = context
    problems.install(api)
    api.add_middleware(Gate, context=context)
    api.include_router(builders.router, prefix=PREFIX)
    api.include_router(orders.router, prefix=PREFIX)
    api.include_router(enrolment.router, prefix=PREFIX)
    api.include_router(people.router, prefix=PREFIX)
    api.include_router(watching.router, prefix=PREFIX)
    api.include_router(planning.router, prefix=PREFIX)
    api.include_router(failures.router, prefix=PREFIX)
    api.include_router(fixes.router, prefix=PREFIX)
    return api
