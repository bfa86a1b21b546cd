# SPDX-License-Identifier: BSD-3-Clause
"""What becomes of a job whose build failed: the first of these that fits.

    blocking          what it needs is to be had as source only: that is built first, and the job waits
    rules, fixes      a Debian package has what it missed: it goes back to the queue with that
    retry elsewhere   the machine or the network is to blame, by the reason's policy, `max_attempts` times
    failed            that was it, until somebody asks and something has changed

The build's row is in the database already; this ends the lease, in the same transaction. `publish` calls it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from piwheels_node.core.failure import FailureReason, Policy
from piwheels_node.core.jobs import JobState
from piwheels_node.core.settings import BuildSettings, MasterSettings
from piwheels_node.master.database.models import Build, Job
from piwheels_node.master.jobs import blocking, queue, rules
from piwheels_node.master.jobs.blocking import Blocked, Hopeless
from piwheels_node.master.jobs.requests import Wish


@dataclass(frozen=True)
class Judge:
    """What decides, besides the build: settings, and what is known of what it missed.

    `debian_package` has it; `needs` is the release that PyPI has as source.
    """

    master: MasterSettings
    build: BuildSettings
    debian_package: str | None = None
    needs: Wish | None = None


def settle(session: Session, job: Job, build: Build, judge: Judge, now: datetime) -> str | None:
    """End the lease of a job whose build failed; what to say of it where it goes on all the same.

    The build's reason may be told more exactly afterwards.
    """
    detail = {"build": build.id, "reason": _reason(build).value, "captured": build.captured}
    if judge.needs is not None:
        begun = blocking.begin(session, job, judge.needs, now, detail)
        if isinstance(begun, Blocked):
            return f"it waits for job {begun.on}, which builds {begun.needs}"
        if isinstance(begun, Hopeless):
            build.reason, build.captured = FailureReason.REQUIREMENT_FAILED, begun.project
            build.evidence, build.evidence_line = begun.what, None
            detail |= {"reason": _reason(build).value, "captured": build.captured}
    decision = rules.after_failure(session, job, build, now, judge.build)
    if rules.apply(session, job, decision, detail, now):
        return f"it comes back with {', '.join(job.packages or ())}"
    if _reason(build).policy is Policy.RETRY_ELSEWHERE and job.attempts < judge.master.max_attempts:
        queue.retry_elsewhere(session, job, now, judge.master, **detail)
        return None
    queue.count(session, f"builder.{job.builder_id}.failed", 1)
    queue.finish(session, job, state=JobState.FAILED, now=now, **detail)
    return None


def _reason(build: Build) -> FailureReason:
    return build.reason or FailureReason.UNKNOWN
