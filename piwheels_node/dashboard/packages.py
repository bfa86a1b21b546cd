# SPDX-License-Identifier: BSD-3-Clause
"""Any project: found by its name, what PyPI has of it, what is here for each target, and why or why not.

    about ""        the search
    about "numpy"   one project

The answer is that of `piwheels-node master explain`, in the words of `core.explaining`. This module must not
import Textual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from piwheels_node.client.port import Watched
from piwheels_node.core.errors import MasterError, NodeError
from piwheels_node.core.explaining import NO_TARGET, counted, project_words, release_words, target_words
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import JobView, ProjectMatch, ProjectPlan, ProjectView, WheelView
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.words import Cell, Line, Role, ago, amount, number, short_target

_MOST_MATCHES = 100


@dataclass(frozen=True)
class Matches:
    """Projects whose names fit what was typed."""

    wanted: str
    found: tuple[ProjectMatch, ...]
    at: datetime


@dataclass(frozen=True)
class ProjectSight:
    """One project; `plan` is what PyPI has, `view` what is here, and the words say why one is not there."""

    name: str
    at: datetime
    plan: ProjectPlan | None
    view: ProjectView | None
    no_plan: str = ""


@dataclass(frozen=True)
class Offer:
    """A release for a target: what is done about it, and the job and the wheel of it, where they are."""

    version: str
    target: str
    verdict: str
    what: str
    has: str
    at: datetime
    job: JobView | None = None
    wheel: WheelView | None = None


def search(master: Watched, wanted: str, now: datetime | None = None) -> Matches:
    """Projects with such a name; nothing where nothing was typed."""
    found = tuple(master.search(wanted, _MOST_MATCHES)) if wanted else ()
    return Matches(wanted, found, now or datetime.now(UTC))


def look_at(master: Watched, name: str, now: datetime | None = None) -> ProjectSight:
    """Ask for both: what PyPI has of a project, and what is here. What a master refuses is told in words."""
    no_plan, plan, view = "", None, None
    try:
        plan = master.plan(name)
    except NodeError as error:
        if isinstance(error, MasterError) and not error.refused:
            raise
        no_plan = error.what
    try:
        view = master.project(name)
    except MasterError as error:
        if not error.refused:
            raise
    return ProjectSight(plan.name if plan else name, now or datetime.now(UTC), plan, view, no_plan)


def offers(sight: ProjectSight) -> list[Offer]:
    """Each release for each target, the newest first; then jobs of releases that PyPI does not list."""
    jobs = {(job.version, job.target): job for job in reversed(sight.view.jobs if sight.view else [])}
    wheels = {wheel.filename: wheel for wheel in (sight.view.wheels if sight.view else [])}

    def offer(version: str, target: str, verdict: str, what: str, has: str) -> Offer:
        job = jobs.pop((version, target), None)
        made = job.build.wheel if job and job.build else None
        return Offer(version, target, verdict, what, has, sight.at, job, wheels.get(made or ""))

    found = [
        offer(release.version, target.target, target.verdict, target_words(target), release_words(release))
        for release in (sight.plan.releases if sight.plan else [])
        for target in release.targets
    ]
    rest = sorted(jobs.values(), key=lambda job: -job.job_id)
    return found + [
        offer(job.version, job.target, job.state.value, _job_words(job), "not listed") for job in rest
    ]


def _job_words(job: JobView) -> str:
    if job.build and job.build.reason:
        return f"{job.build.reason}: {job.build.captured or job.build.reason.sentence}"
    if job.build and job.build.wheel:
        return f"the index has {job.build.wheel}"
    return f"there is a job, which is {job.state.value}"


def heading(sight: ProjectSight) -> list[Line]:
    """What PyPI has, in one line; what is here, in another."""
    words = (
        project_words(sight.plan) if sight.plan else f"{sight.name}: {sight.no_plan or 'nothing is known'}"
    )
    lines: list[Line] = [[Cell(f" {words}", Role.PLAIN if sight.plan else Role.WARN)]]
    wheels = sight.view.wheels if sight.view else []
    size = sum(wheel.size_bytes for wheel in wheels)
    here = f"{counted(len(wheels), 'wheel')}, {amount(size)}" if wheels else "no wheel"
    newest = f", the newest {ago(max(one.published_at for one in wheels), sight.at)} ago" if wheels else ""
    lines.append([Cell(" here: ", Role.FAINT), Cell(here + newest, Role.GOOD if wheels else Role.PLAIN)])
    if sight.plan and sight.plan.releases and not sight.plan.releases[0].targets:
        lines.append([Cell(f" {NO_TARGET}", Role.WARN)])
    return lines


_VERDICTS = {
    "covered": Role.GOOD,
    "made": Role.GOOD,
    "built": Role.GOOD,
    "build": Role.BUSY,
    "under-way": Role.BUSY,
    "leased": Role.BUSY,
    "ready": Role.BUSY,
    "waits": Role.WARN,
    "failed": Role.BAD,
    "refused": Role.BAD,
    "quarantined": Role.BAD,
}


def selected(offer: Offer) -> list[Line]:
    """All about the release and target under the cursor, for whoever has a narrow terminal."""
    job = offer.job
    state = f"job {job.job_id}: {job.state.value}" if job else "no job"
    if job and job.state is JobState.BLOCKED and job.blocked_on:
        state += f", waits for job {job.blocked_on}"
    lines: list[Line] = [
        [
            Cell(f" {offer.version}", Role.STRONG),
            Cell(f"  {offer.target}  PyPI: {offer.has}  {state}", Role.FAINT),
        ],
        [Cell(f" {offer.what}", _VERDICTS.get(offer.verdict, Role.PLAIN))],
    ]
    if offer.wheel:
        needs = ", ".join(sorted({package or soname for soname, package in offer.wheel.libraries.items()}))
        told = f" {offer.wheel.filename}  {amount(offer.wheel.size_bytes)}"
        lines.append([Cell(told, Role.GOOD), Cell(f"  needs {needs}" if needs else "", Role.PLAIN)])
    return lines


OFFERS: Arrangement[Offer] = Arrangement(
    (
        Column("version", "version", 10, lambda row: Cell(row.version, Role.STRONG), lambda row: row.version),
        Column("target", "target", 19, lambda row: Cell(short_target(row.target)), lambda row: row.target),
        Column(
            "verdict",
            "state",
            9,
            lambda row: Cell(row.verdict, _VERDICTS.get(row.verdict, Role.PLAIN)),
            lambda row: row.verdict,
        ),
        Column(
            "what", "what and why", 16, lambda row: Cell(row.what.partition(": ")[2] or row.what), share=4
        ),
        Column("pypi", "PyPI has", 20, lambda row: Cell(row.has, Role.FAINT), rank=2),
        Column(
            "size",
            "size",
            7,
            lambda row: Cell(amount(row.wheel.size_bytes) if row.wheel else ""),
            lambda row: row.wheel and row.wheel.size_bytes,
            right=True,
            rank=1,
            falling=True,
        ),
    ),
    key=lambda row: f"{row.version} {row.target}",
    text=lambda row: f"{row.version} {row.target} {row.what}",
    is_fault=lambda row: row.verdict in {"failed", "refused", "quarantined"},
)


def _standing(row: ProjectMatch) -> Cell:
    if row.is_on_pypi:
        return Cell("on PyPI")
    return Cell("not followed", Role.FAINT)


MATCHES: Arrangement[ProjectMatch] = Arrangement(
    (
        Column("name", "project", 24, lambda row: Cell(row.name, Role.STRONG), lambda row: row.name, share=2),
        Column("pypi", "", 18, _standing, lambda row: row.is_on_pypi, share=1),
        Column("known", "here", 13, lambda row: Cell("has had jobs" if row.is_known else ""), rank=1),
        Column(
            "popularity",
            "rank",
            6,
            lambda row: Cell(number(row.popularity) if row.popularity else ""),
            lambda row: row.popularity,
            right=True,
            rank=2,
        ),
        Column(
            "newest",
            "newest",
            10,
            lambda row: Cell(f"{row.newest_at:%Y-%m-%d}" if row.newest_at else "", Role.FAINT),
            lambda row: row.newest_at,
            rank=3,
            falling=True,
        ),
    ),
    key=lambda row: row.name,
    text=lambda row: row.name,
    is_fault=lambda row: not row.is_on_pypi,
)
