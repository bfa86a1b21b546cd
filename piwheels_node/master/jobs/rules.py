# SPDX-License-Identifier: BSD-3-Clause
"""The rules "this project needs these Debian packages": found, tried, believed, and put off.

    a build failed     `after_failure`: what it has shown about the rules used; then what `fixes.decide` says
    a build succeeded  `after_success`: what it had works; the next releases of the project have it at once
    a person decides   `accept`, `refuse`, `add`, then `reconsider`: jobs that wait change, those that failed
                       for it are tried again

A rule holds for one release of Debian, since packages have other names in another; one that a person makes
may hold for any. Each function takes a session and does its part of one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session, contains_eager

from piwheels_node.core.errors import UsageError
from piwheels_node.core.failure import FailureReason, Policy
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import EventKind, JobState
from piwheels_node.core.messages import FixView
from piwheels_node.core.settings import BuildSettings
from piwheels_node.core.targets import Target
from piwheels_node.master.database.models import (
    Build,
    FixRule,
    Job,
    Project,
    Release,
    TargetRow,
)
from piwheels_node.master.jobs import fixes, queue
from piwheels_node.master.jobs.equipment import can_add, packages_for, rules_of
from piwheels_node.master.jobs.fixes import Decision, Known, Missing, Nothing, Propose, Situation, Try

MASTER, PERSON = "master", "person"
"""Who decides."""

_JOBS_AT_MOST = 200
_WAITING = (JobState.READY, JobState.DELAYED, JobState.BLOCKED)
_LONGEST_WHY = 500


def after_failure(
    session: Session, job: Job, build: Build, now: datetime, settings: BuildSettings
) -> Decision:
    """Judge the rules whose packages the build had, and decide what follows; a rule is noted where one does.

    The job itself is left to the caller. What is noted is in the job's history. `build` has the reason.
    """
    project_id, reason = job.release.project_id, build.reason or FailureReason.UNKNOWN
    had = frozenset(build.packages or ())
    if reason not in fixes.FIXABLE and not had:
        return Nothing("no Debian package mends this")
    session.get_one(Project, project_id, with_for_update=True)  # one rule, though two jobs fail at once
    release = Target.parse(job.target.name).release
    rules = rules_of(session, project_id, release)
    _judge(rules, had, reason, build.captured, now)
    decision = fixes.decide(
        Missing(reason, build.captured, build.debian_package),
        Situation(had, job.rounds, can_add(session, job.target_id, now)),
        [_known(rule) for rule in rules],
        settings,
    )
    match decision:
        case Propose(package, _, None):
            rule = _note(session, job, build, release, package, FixState.PROPOSED, now)
            return Propose(package, decision.why, rule.id)
        case Try(packages, None):
            rule = _note(session, job, build, release, packages[0], FixState.TRYING, now)
            return Try(packages, rule.id)
        case Try(_, rule_id):
            rule = session.get_one(FixRule, rule_id)
            if not rule.state.is_used:
                rule.state, rule.changed_at = FixState.TRYING, now
    return decision


def after_success(session: Session, job: Job, build: Build, now: datetime) -> None:
    """What the build had works."""
    had = frozenset(build.packages or ())
    if had:
        rules = rules_of(session, job.release.project_id, Target.parse(job.target.name).release)
        _judge(rules, had, None, None, now)


def apply(session: Session, job: Job, decision: Decision, detail: dict[str, Any], now: datetime) -> bool:
    """Do with a leased job whose build failed what was decided; False where it has failed for good."""
    match decision:
        case Try(packages, rule_id):
            together = sorted({*(job.packages or ()), *packages})
            added = " ".join(sorted(set(together) - set(job.packages or ())))
            queue.fix(session, job, together, now, added=added, rule=rule_id, **detail)
            return True
        case Propose(package, why, rule_id):
            queue.record(session, job.id, EventKind.PROPOSED, now, packages=package, rule=rule_id, why=why)
    return False


# --- people --------------------------------------------------------------------------------------------


def add(
    session: Session,
    *,
    project: str,
    packages: Sequence[str],
    release: str | None,
    why: str | None,
    now: datetime,
) -> FixRule:
    """A person says what a project needs; it is tried from now on. Raises UsageError for an unknown project.

    `project` is normalised; `release` as in a target, `debian13`, or None for any.
    """
    row = session.scalar(select(Project).where(Project.name == project).with_for_update())
    if row is None:
        raise UsageError(
            "the master has nothing of this project", where=project, hint="ask for a build of it first"
        )
    wanted = sorted(set(packages))
    for rule in rules_of(session, row.id, release):
        if rule.release == release and sorted(rule.packages) == wanted:
            break
    else:
        rule = FixRule(project=row, release=release, packages=wanted, created_at=now)
        session.add(rule)
    return _decide(session, rule, FixState.TRYING, why, now)


def accept(session: Session, rule_id: int, now: datetime, why: str | None = None) -> FixRule | None:
    """A person wants a rule: builds of the project get its packages. None where there is no such rule."""
    rule = session.get(FixRule, rule_id, with_for_update=True)
    if rule is None or rule.state.is_used:
        return rule
    return _decide(session, rule, FixState.TRYING, why, now)


def refuse(session: Session, rule_id: int, now: datetime, why: str | None = None) -> FixRule | None:
    """A person does not want a rule: it is neither used nor proposed again. None where there is none."""
    rule = session.get(FixRule, rule_id, with_for_update=True)
    return rule and _decide(session, rule, FixState.OFF, why, now)


def reconsider(session: Session, rule: FixRule, now: datetime) -> list[int]:
    """After a person decided: jobs that wait get what they are to have; failed ones are tried again.

    The latter where the rule is used, gives packages that they did not have, and is about what they missed,
    or about nothing in particular. Gives the ids of those that are ready again; `_JOBS_AT_MOST` at most.
    """
    session.flush()
    for job in session.scalars(_jobs(rule, Job.state.in_(_WAITING))):
        if queue.equip(session, job, packages_for(session, job.release.project_id, job.target, now)):
            detail = {"packages": " ".join(job.packages or ()), "rule": rule.id}
            queue.record(session, job.id, EventKind.EQUIPPED, now, **detail)
    if not rule.state.is_used:
        return []
    again = []
    for job in session.scalars(_jobs(rule, Job.state == JobState.FAILED)):
        newest = select(Build).where(Build.job_id == job.id).order_by(Build.id.desc()).limit(1)
        build = session.scalar(newest)
        if build is None or not _mends(rule, build) or not lacks(session, job, build, now):
            continue
        queue.requeue(session, job, now=now, why=f"rule {rule.id}: {' '.join(rule.packages)}")
        again.append(job.id)
    return again


def lacks(session: Session, job: Job, build: Build, now: datetime) -> bool:
    """True where the next build of a job would have packages that this one had not."""
    wanted = packages_for(session, job.release.project_id, job.target, now)
    return not set(wanted) <= set(build.packages or ())


def _jobs(rule: FixRule, condition: ColumnElement[bool]) -> Select[Any]:
    """The newest jobs of a rule's project and Debian release."""
    wanted = (
        select(Job)
        .join(Release, Job.release_id == Release.id)
        .join(TargetRow, Job.target_id == TargetRow.id)
        .where(Release.project_id == rule.project_id, condition)
        .order_by(Job.id.desc())
        .limit(_JOBS_AT_MOST)
        .with_for_update(of=Job)
    )
    if rule.release is not None:
        wanted = wanted.where(TargetRow.name.endswith(f"-{rule.release}", autoescape=True))
    return wanted


def _mends(rule: FixRule, build: Build) -> bool:
    reason = build.reason or FailureReason.UNKNOWN
    if rule.reason is not None:
        return (reason, build.captured) == (rule.reason, rule.captured)
    return reason.policy is Policy.RETRY_WHEN_ENVIRONMENT_CHANGES


def _decide(session: Session, rule: FixRule, state: FixState, why: str | None, now: datetime) -> FixRule:
    rule.state, rule.decided_by, rule.changed_at = state, PERSON, now
    rule.why = (why or "")[:_LONGEST_WHY] or None
    session.flush()
    return rule


# --- for people to see ---------------------------------------------------------------------------------


def newest(session: Session, state: FixState | None, project: str | None, limit: int) -> list[FixRule]:
    """The newest rules first, in one state or in any, of one project or of all."""
    wanted = select(FixRule).join(Project).options(contains_eager(FixRule.project))
    if state is not None:
        wanted = wanted.where(FixRule.state == state)
    if project is not None:
        wanted = wanted.where(Project.name == project)
    return list(session.scalars(wanted.order_by(FixRule.id.desc()).limit(limit)))


def view(session: Session, rule: FixRule) -> FixView:
    """A rule as people see it."""
    build = None if rule.build_id is None else session.get(Build, rule.build_id)
    return FixView(
        rule_id=rule.id,
        project=rule.project.name,
        packages=rule.packages,
        state=rule.state,
        release=rule.release,
        reason=rule.reason,
        captured=rule.captured,
        job_id=build.job_id if build else None,
        build_id=rule.build_id,
        decided_by=rule.decided_by,
        why=rule.why,
        created_at=rule.created_at,
        changed_at=rule.changed_at,
    )


# --- rows ----------------------------------------------------------------------------------------------


def _judge(
    rules: Iterable[FixRule],
    had: frozenset[str],
    reason: FailureReason | None,
    captured: str | None,
    now: datetime,
) -> None:
    for rule in rules:
        state = fixes.judged(_known(rule), had, reason, captured)
        if state is not None:
            rule.state, rule.changed_at = state, now


def _note(  # noqa: PLR0917 - a row and what it is about
    session: Session, job: Job, build: Build, release: str, package: str, state: FixState, now: datetime
) -> FixRule:
    rule = FixRule(
        project_id=job.release.project_id,
        release=release,
        packages=[package],
        state=state,
        reason=build.reason,
        captured=build.captured,
        build_id=build.id,
        decided_by=MASTER,
        created_at=now,
        changed_at=now,
    )
    session.add(rule)
    session.flush()
    return rule


def _known(rule: FixRule) -> Known:
    return Known(rule.id, tuple(rule.packages), rule.state, rule.reason, rule.captured)
