# SPDX-License-Identifier: BSD-3-Clause
# ruff: noqa: D102 - the docstrings are those of `MasterClient`
"""What screens need of a client and of their machine, and no more: tests put others in their places.

`MasterClient` is one; its docstrings say what each method does, and which errors it raises.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Protocol

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState, Outcome, Priority
from piwheels_node.core.messages import (
    BuilderEventView,
    BuilderOrder,
    BuilderStatistics,
    BuilderView,
    BuildFacts,
    BuildPage,
    BuildRequest,
    EventView,
    FailedBuild,
    FailureReport,
    FarmView,
    FixAnswer,
    FixView,
    HourCount,
    JobView,
    LogSlice,
    NodeView,
    ProjectMatch,
    ProjectPlan,
    ProjectView,
    QueuedJob,
    QueueView,
    RebuildRequest,
    RequestAnswer,
    RetryAnswer,
    SkipRequest,
    SkipView,
    Statistics,
    Status,
    SyncView,
    WhoAmI,
)

if TYPE_CHECKING:
    from piwheels_node.client import MasterClient


class Watched(Protocol):
    """A farm that is looked at; the second half of it changes something, for operators."""

    url: str

    def close(self) -> None: ...

    def who_am_i(self) -> WhoAmI: ...

    def farm(self, *, rows: bool = False, first: int | None = None) -> FarmView: ...

    def builder(self, name: str) -> BuilderView: ...

    def builder_events(self, name: str) -> list[BuilderEventView]: ...

    def builds(
        self,
        *,
        builder: str | None = None,
        project: str | None = None,
        target: str | None = None,
        job_id: int | None = None,
        outcome: Outcome | None = None,
        reason: FailureReason | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> BuildPage: ...

    def build(self, build_id: int) -> BuildFacts: ...

    def build_log(
        self, build_id: int, offset: int = 0, *, last: int | None = None, line: int | None = None
    ) -> LogSlice: ...

    def job_log(
        self, job_id: int, offset: int = 0, *, last: int | None = None, line: int | None = None
    ) -> LogSlice: ...

    def jobs(self, state: JobState | None = None, limit: int = 50) -> list[JobView]: ...

    def job(self, job_id: int) -> JobView: ...

    def events(self, job_id: int) -> list[EventView]: ...

    def queue(self, limit: int = 20) -> QueueView: ...

    def queue_of(
        self, target: str, priority: Priority | None = None, limit: int = 100
    ) -> list[QueuedJob]: ...

    def failures(
        self,
        since: date | None = None,
        until: date | None = None,
        *,
        target: str | None = None,
        project: str | None = None,
    ) -> FailureReport: ...

    def failed_builds(
        self,
        reason: FailureReason,
        *,
        target: str | None = None,
        project: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[FailedBuild]: ...

    def statistics(
        self, since: date | None = None, until: date | None = None, *, target: str | None = None
    ) -> Statistics: ...

    def hours(self, hours: int = 24) -> list[HourCount]: ...

    def builder_statistics(
        self,
        since: date | None = None,
        until: date | None = None,
        *,
        builder: str | None = None,
        limit: int = 50,
    ) -> BuilderStatistics: ...

    def search(self, name: str, limit: int = 50) -> list[ProjectMatch]: ...

    def project(self, name: str) -> ProjectView: ...

    def plan(self, name: str, version: str | None = None) -> ProjectPlan: ...

    def sync(self) -> SyncView: ...

    def skips(self) -> list[SkipView]: ...

    def fixes(
        self, state: FixState | None = None, project: str | None = None, limit: int = 100
    ) -> list[FixView]: ...

    def order(self, name: str | None, order: BuilderOrder) -> BuilderView | Status: ...

    def approve(self, name: str) -> BuilderView: ...

    def skip(self, name: str | None) -> list[JobView]: ...

    def cancel(self, job_id: int) -> JobView: ...

    def retry(self, job_id: int) -> JobView: ...

    def retry_failed(
        self, reason: FailureReason, *, target: str | None = None, project: str | None = None
    ) -> RetryAnswer: ...

    def request(self, request: BuildRequest) -> RequestAnswer: ...

    def rebuild(self, wanted: RebuildRequest) -> list[JobView]: ...

    def add_skip(self, wanted: SkipRequest) -> SkipView: ...

    def remove_skips(self, project: str) -> list[SkipView]: ...

    def accept_fix(self, rule_id: int, why: str | None = None) -> FixAnswer: ...

    def refuse_fix(self, rule_id: int, why: str | None = None) -> FixAnswer: ...


class Node(Protocol):
    """The machine that the screen runs on; `look` never raises."""

    def look(self) -> NodeView: ...


if TYPE_CHECKING:

    def _fits(client: MasterClient) -> Watched:
        return client
