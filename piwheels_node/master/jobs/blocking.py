# SPDX-License-Identifier: BSD-3-Clause
"""A build requirement that exists only as source is a job of its own, and is built first.

    a build failed: requirement-missing helper>=2
      find     PyPI is asked, outside of any transaction: is there an sdist of it that could be built here?
      begin    inside the one that ends the build: a job for it is made or found, and
                 Blocked  the failed job waits for it (`chains`), and goes on by itself
                 Hopeless the other one has failed, or they would wait for each other

Builders find the wheel in this master's own index. This module knows no HTTP.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version
from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NotOnPyPIError, PyPIError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Priority
from piwheels_node.core.targets import Target
from piwheels_node.master.database.models import Build as BuildRow
from piwheels_node.master.database.models import Job, Wheel
from piwheels_node.master.jobs import chains, queue, requests
from piwheels_node.master.jobs.plan import Build, admits, plan
from piwheels_node.master.jobs.requests import Wish
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.listing import ProjectFiles

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blocked:
    """The job waits for another one, which builds what it `needs`, and is no longer leased."""

    on: int
    needs: str


@dataclass(frozen=True)
class Hopeless:
    """What it needs cannot be had; `project` is the requirement's, `what` says why."""

    project: str
    what: str


def find(pypi: PyPI, reason: FailureReason | None, captured: str | None, target: Target) -> Wish | None:
    """The release that a build missed, where only its sdist is to be had; it blocks, since PyPI is asked.

    None where PyPI cannot be asked, has a wheel of it for the target, or has no source to build: then the
    failure is what it is.
    """
    if reason is not FailureReason.REQUIREMENT_MISSING or not captured:
        return None
    try:
        wanted = Requirement(captured)
        project = None if wanted.url else pypi.project(wanted.name)
    except (InvalidRequirement, NotOnPyPIError):
        return None
    except PyPIError as error:
        _log.warning("what a build needs could not be looked up: %s", error)
        return None
    version = _newest(project, wanted, target) if project else None
    if project is None or version is None:
        return None
    decision = plan(project.releases[version], target)
    if not isinstance(decision, Build):
        return None
    return Wish(project, version, target, decision.sdist)


def begin(
    session: Session, job: Job, wish: Wish, now: datetime, detail: dict[str, Any]
) -> Blocked | Hopeless | None:
    """Let a leased job wait for what it missed; None where that is here already, and was of no use.

    `detail` goes into its history. In all cases but `Blocked` the job is still leased.
    """
    against = chains.enough(session, job)
    if against is not None:
        return Hopeless(wish.project.name, against)
    priority = max(one for one in Priority if one <= max(job.priority, 0))
    on = requests.find_or_queue(session, wish, priority, now)
    session.refresh(on, with_for_update=True)
    needs = f"{wish.project.name} {wish.project.spelling(wish.version)}"
    if on.state is JobState.BUILT and not _is_news(session, job, on):
        return None
    if on.state.is_final and on.state is not JobState.BUILT:
        return Hopeless(wish.project.name, chains.why_failed(session, on))
    against = chains.why_not(session, job, on)
    if against is not None:
        return Hopeless(wish.project.name, against)
    queue.block(session, job, on, now, needs=needs, **detail)
    return Blocked(on.id, needs)


def _is_news(session: Session, job: Job, on: Job) -> bool:
    """True where the wheel was published when the job was being built already: that did not see it."""
    newest = (
        select(Wheel.published_at)
        .join(BuildRow, Wheel.build_id == BuildRow.id)
        .where(BuildRow.job_id == on.id)
    )
    published_at = session.scalar(newest.order_by(Wheel.id.desc()).limit(1))
    return published_at is not None and job.leased_at is not None and published_at > job.leased_at


def _newest(project: ProjectFiles, wanted: Requirement, target: Target) -> Version | None:
    """The newest version that pip would take: as wanted, not yanked, and for the target's Python."""
    usable = [
        version
        for version, files in project.releases.items()
        if any(one.yanked is None and admits(one.requires_python, target) for one in files)
    ]
    return max(wanted.specifier.filter(usable), default=None)
