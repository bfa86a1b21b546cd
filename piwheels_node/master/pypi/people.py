# SPDX-License-Identifier: BSD-3-Clause
"""What people want to know of following and planning, and what they decide: for the API.

Functions take a session and give `core.messages`; this module knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NotOnPyPIError, UsageError
from piwheels_node.core.jobs import JobState, Priority
from piwheels_node.core.messages import (
    JobView,
    Popularity,
    ProjectPlan,
    RebuildRequest,
    ReleasePlan,
    SkipRequest,
    SkipView,
    SyncView,
    TargetPlan,
    WalkView,
)
from piwheels_node.core.settings import PypiSettings
from piwheels_node.core.targets import Target
from piwheels_node.master import views
from piwheels_node.master.database.models import (
    Job,
    Project,
    PypiNote,
    PypiProject,
    Release,
    SkipRule,
    TargetRow,
    Walk,
)
from piwheels_node.master.jobs import queue
from piwheels_node.master.jobs.plan import (
    Build,
    Covered,
    Failed,
    Made,
    Refused,
    UnderWay,
    Unwanted,
    Verdict,
    Waits,
)
from piwheels_node.master.jobs.planning import Farm, outlook
from piwheels_node.master.pypi import notes
from piwheels_node.master.pypi.listing import ListedFile, ProjectFiles

_MOST_RELEASES = 20
_MOST_JOBS = 500


def sync_view(session: Session, settings: PypiSettings) -> SyncView:
    """How far following and planning have come."""
    position = notes.position(session)
    count = select(func.count())
    waiting = session.scalar(count.select_from(PypiNote).where(PypiNote.tries == 0)) or 0
    delayed = session.scalar(count.select_from(PypiNote).where(PypiNote.tries > 0)) or 0
    walks = session.execute(
        select(TargetRow.name, Walk).join(Walk, Walk.target_id == TargetRow.id).order_by(TargetRow.id)
    )
    return SyncView(
        follow=settings.follow,
        serial=position["serial"],
        listed_at=position["list_at"] and datetime.fromisoformat(position["list_at"]),
        projects=session.scalar(select(func.count()).select_from(PypiProject)) or 0,
        waiting=waiting,
        delayed=delayed,
        walks=[
            WalkView(target=name, projects=walk.projects, jobs=walk.jobs, done=walk.done_at is not None)
            for name, walk in walks
        ],
    )


def sync_again(session: Session, now: datetime) -> None:
    """Have the whole list read now, and everything that differs with it."""
    notes.move(session, now, list_at=None)


def explain(
    session: Session, project: ProjectFiles, version: str | None, farm: Farm, *, why_not: str | None = None
) -> ProjectPlan:
    """What PyPI has of a project and what is to be done about it; raises NotOnPyPIError for a version.

    `why_not` says why nothing of this project is built by itself, whatever the rules would want.
    """
    releases = project.releases
    chosen = sorted(releases, reverse=True)
    if version is not None:
        chosen = [one for one in chosen if project.spelling(one) == version or str(one) == version]
        if not chosen:
            raise NotOnPyPIError(
                f"PyPI has no version {version} of {project.name} that could be installed or built",
                where=f"{project.name}=={version}",
            )
    chosen = chosen[:_MOST_RELEASES]
    found = outlook(session, project, farm, chosen)
    if why_not is not None:
        found = {one: _unless_asked(verdicts, why_not) for one, verdicts in found.items()}
    return ProjectPlan(
        name=project.name,
        status=project.status,
        known=len(releases),
        releases=[_release(project, one, releases[one], found[one]) for one in chosen],
    )


def _unless_asked(verdicts: Mapping[Target, Verdict], why_not: str) -> dict[Target, Verdict]:
    return {
        target: Unwanted(why_not) if isinstance(one, Build | Waits) else one
        for target, one in verdicts.items()
    }


def _release(
    project: ProjectFiles, version: Version, files: Sequence[ListedFile], verdicts: dict[Target, Verdict]
) -> ReleasePlan:
    plans = []
    for target, verdict in verdicts.items():
        word, what = say(verdict)
        plans.append(TargetPlan(target=str(target), verdict=word, what=what))
    return ReleasePlan(
        version=project.spelling(version),
        uploaded_at=max((file.uploaded_at for file in files if file.uploaded_at), default=None),
        yanked=all(file.yanked is not None for file in files),
        sdists=[file.filename for file in files if file.is_sdist],
        wheels=sum(1 for file in files if not file.is_sdist),
        targets=plans,
    )


def say(verdict: Verdict) -> tuple[str, str]:  # noqa: PLR0911 - one line for each verdict
    """A verdict as a word and a sentence."""
    match verdict:
        case Covered(file):
            return "covered", f"PyPI has {file.filename}"
        case Build(sdist):
            return "build", f"from {sdist.filename}"
        case Refused(reason, what):
            return "refused", f"{reason.value}: {what}"
        case Made(filename):
            return "made", f"the index has {filename}"
        case UnderWay(state):
            return "under-way", f"there is a job, which is {state.value}"
        case Failed(state, reason):
            return "failed", f"{reason.value}: {reason.sentence}" if reason else f"its job is {state.value}"
        case Waits(on):
            return "waits", f"first it is built for {on}, whose wheel may serve here too"
        case Unwanted(why):
            return "unwanted", why


def add_skip(session: Session, wanted: SkipRequest, now: datetime) -> SkipView:
    """Keep a rule, and plan the project again: what waits is cancelled. Raises UsageError."""
    try:
        SpecifierSet(wanted.versions)
    except InvalidSpecifier as error:
        raise UsageError(
            f"'{wanted.versions}' is no range of versions", hint="as in '<2', '==1.4.*' or '>=1,!=1.3'"
        ) from error
    rule = SkipRule(
        project=canonicalize_name(wanted.project),
        versions=wanted.versions,
        reason=wanted.reason,
        who=wanted.who,
        created_at=now,
    )
    session.add(rule)
    session.flush()
    notes.think_again(session, [rule.project], now)
    return _skip_view(rule)


def skips(session: Session) -> list[SkipView]:
    """The rules, newest first."""
    rows = session.scalars(select(SkipRule).order_by(SkipRule.id.desc()).limit(_MOST_JOBS))
    return [_skip_view(rule) for rule in rows]


def remove_skips(session: Session, project: str, now: datetime) -> list[SkipView]:
    """Forget all rules about a project, and plan it again; gives what they were."""
    name = canonicalize_name(project)
    rules = session.scalars(select(SkipRule).where(SkipRule.project == name).order_by(SkipRule.id)).all()
    for rule in rules:
        session.delete(rule)
    if rules:
        notes.think_again(session, [name], now)
    return [_skip_view(rule) for rule in rules]


def _skip_view(rule: SkipRule) -> SkipView:
    return SkipView(
        rule_id=rule.id,
        project=rule.project,
        versions=rule.versions,
        reason=rule.reason,
        who=rule.who,
        created_at=rule.created_at,
    )


def rebuild(session: Session, wanted: RebuildRequest, now: datetime) -> list[JobView]:
    """Queue jobs that have ended again, for whatever they ended; gives them. Raises NotOnPyPIError."""
    name = canonicalize_name(wanted.project)
    chosen = (
        select(Job)
        .join(Release, Job.release_id == Release.id)
        .join(Project, Release.project_id == Project.id)
        .join(TargetRow, Job.target_id == TargetRow.id)
        .where(Project.name == name)
    )
    if wanted.version is not None:
        chosen = chosen.where(Release.version == wanted.version)
    if wanted.target is not None:
        chosen = chosen.where(TargetRow.name == wanted.target)
    jobs = session.scalars(chosen.order_by(Job.id.desc()).limit(_MOST_JOBS).with_for_update(of=Job)).all()
    if not jobs:
        raise NotOnPyPIError(
            "there is no job of this", where=name, hint=f"piwheels-node master request {name}"
        )
    ended = [job for job in jobs if job.state.is_final]
    for job in ended:
        if job.state is not JobState.LEASED:
            queue.requeue(session, job, now=now, why="a person wants it again", priority=Priority.REQUESTED)
    session.flush()
    return views.jobs_of(session, [job.id for job in ended])


def load_popularity(session: Session, wanted: Popularity, now: datetime) -> int:
    """Give projects their places, and plan them again; gives how many are known. The first call forgets."""
    if wanted.first == 1:
        session.execute(
            update(PypiProject).where(PypiProject.popularity.is_not(None)).values(popularity=None)
        )
    names: dict[str, int] = {}
    for at, name in enumerate(wanted.projects):
        names.setdefault(canonicalize_name(name), wanted.first + at)
    rows = session.scalars(select(PypiProject).where(PypiProject.name.in_(names))).all()
    for row in rows:
        row.popularity = names[row.name]
    notes.think_again(session, [row.name for row in rows], now)
    return len(rows)
