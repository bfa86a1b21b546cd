# SPDX-License-Identifier: BSD-3-Clause
"""What people ask of the part of a master that follows PyPI and plans: how far, what, why not."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from piwheels_node.core.messages.base import Message, Name

PROJECTS_AT_ONCE = 5000
"""How many names one `Popularity` has."""

Reason = Annotated[str, Field(min_length=1, max_length=500)]


class WalkView(Message):
    """How far the planning of all projects for a target has come; `done`: nothing of the backlog is left."""

    target: str
    projects: int = 0
    jobs: int = 0
    done: bool = False


class SyncView(Message):
    """How far a master has come in following PyPI.

    `serial` is PyPI's number of the last change that was heard, `projects` how many are known, `waiting` how
    many must be asked about now, `delayed` how many later, because PyPI could not answer.
    """

    follow: str
    serial: int | None = None
    listed_at: AwareDatetime | None = None
    projects: int = 0
    waiting: int = 0
    delayed: int = 0
    walks: list[WalkView] = []


class TargetPlan(Message):
    """What is to be done about a release for a target: a word, and what it means here."""

    target: str
    verdict: str
    what: str


class ReleasePlan(Message):
    """What PyPI has of a release, and what is to be done about it."""

    version: str
    uploaded_at: AwareDatetime | None = None
    yanked: bool = False
    sdists: list[str] = []
    wheels: int = 0
    targets: list[TargetPlan] = []


class ProjectPlan(Message):
    """What PyPI has of a project, newest release first; `releases` are those that were asked about."""

    name: str
    status: str = "active"
    known: int = 0
    "How many releases PyPI has."
    releases: list[ReleasePlan] = []


class SkipRequest(Message):
    """A person wants nothing built of a project, or of some of its versions (a PEP 440 specifier)."""

    project: Name
    versions: Annotated[str, Field(max_length=200)] = ""
    reason: Reason
    who: Annotated[str, Field(min_length=1, max_length=100)] = "operator"


class SkipView(Message):
    """A rule that is kept."""

    rule_id: int
    project: str
    versions: str
    reason: str
    who: str
    created_at: AwareDatetime


class RebuildRequest(Message):
    """A person wants what was built, or has failed, built once more; a new wheel gets a new name."""

    project: Name
    version: Name | None = None
    target: Name | None = None


class Popularity(Message):
    """Projects, the most wanted first; the first of them has this place in the whole list."""

    projects: Annotated[list[Name], Field(max_length=PROJECTS_AT_ONCE)]
    first: Annotated[int, Field(ge=1, le=2**31 - PROJECTS_AT_ONCE)] = 1


class PopularityAnswer(Message):
    """How many of the projects are known here."""

    known: int
