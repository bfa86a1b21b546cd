# SPDX-License-Identifier: BSD-3-Clause
"""What those ask who watch a farm: screens, every few seconds; and what they do to single jobs and builds."""

from __future__ import annotations

from datetime import date
from typing import Any

import httpx

from piwheels_node.client.transport import CHECK_TIMEOUT_S, Transport
from piwheels_node.core.errors import MasterError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Priority
from piwheels_node.core.messages import (
    BuilderStatistics,
    BuildFacts,
    BuildPage,
    FarmView,
    HourCount,
    JobView,
    LogSlice,
    ProjectMatch,
    QueuedJob,
    QueueView,
    RetryAnswer,
    RetryRequest,
    Statistics,
    WhoAmI,
)


class WatchingClient(Transport):
    """Endpoints for screens; see `MasterClient`. What changes something needs an operator's key."""

    def who_am_i(self) -> WhoAmI:
        """What this client's key may do; raises KeyRefusedError where the master does not know it."""
        return self._read(self._call("GET", "/whoami"), WhoAmI)

    def farm(self, *, rows: bool = False, first: int | None = None) -> FarmView:
        """The farm at a glance; with `rows`, builders as rows of a table, all or the `first` so many.

        Those come first that stand worst, then by name (`core.standing`).
        """
        asked = "?rows=true" if rows else ""
        if rows and first is not None:
            asked += f"&first={first}"
        return self._read(self._look(f"/farm{asked}"), FarmView)

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
    ) -> BuildPage:
        """Builds that have ended, newest first; `before` is that of the page before this one."""
        params = _given(
            builder=builder,
            project=project,
            target=target,
            job=job_id,
            outcome=outcome and outcome.value,
            reason=reason and reason.value,
            before=before,
            limit=limit,
        )
        return self._read(self._call("GET", "/builds", params=params), BuildPage)

    def build(self, build_id: int) -> BuildFacts:
        """Everything about one build."""
        return self._read(self._call("GET", f"/builds/{build_id}"), BuildFacts)

    def build_log(
        self, build_id: int, offset: int = 0, *, last: int | None = None, line: int | None = None
    ) -> LogSlice:
        """The log of a build from `offset` on, 1 MiB at most; empty where there is no more.

        `last`: that many bytes at its end, in place of an offset; `line`: from where that line begins
        (from 1).
        """
        params = _given(offset=offset or None, last=last, line=line)
        return _slice(self._call("GET", f"/builds/{build_id}/log", params=params))

    def job_log(
        self, job_id: int, offset: int = 0, *, last: int | None = None, line: int | None = None
    ) -> LogSlice:
        """The log of a job's newest lease, while it grows and after; see `build_log`."""
        params = _given(offset=offset or None, last=last, line=line)
        return _slice(self._call("GET", f"/jobs/{job_id}/log", params=params))

    def log(self, job_id: int, offset: int = 0) -> bytes:
        """The bytes of `job_log`."""
        return self.job_log(job_id, offset).data

    def queue(self, limit: int = 20) -> QueueView:
        """What waits, and what comes next; `limit` jobs of each kind at most."""
        return self._read(self._call("GET", "/queue", params={"limit": limit}), QueueView)

    def queue_of(self, target: str, priority: Priority | None = None, limit: int = 100) -> list[QueuedJob]:
        """The next jobs of a target in the order in which they are served, of one priority or of all."""
        params = _given(target=target, priority=priority and int(priority), limit=limit)
        if priority is Priority.BACKLOG:  # 0
            params["priority"] = 0
        return self._read_list(self._call("GET", "/queue/ready", params=params), QueuedJob)

    def statistics(
        self, since: date | None = None, until: date | None = None, *, target: str | None = None
    ) -> Statistics:
        """Builds per day, reasons, and wheels by tag; without words: the last 30 days."""
        params = _given(since=since and str(since), until=until and str(until), target=target)
        return self._read(self._call("GET", "/statistics", params=params), Statistics)

    def hours(self, hours: int = 24) -> list[HourCount]:
        """Builds of each of the last so many hours, oldest first."""
        return self._read_list(self._call("GET", "/statistics/hours", params={"hours": hours}), HourCount)

    def builder_statistics(
        self,
        since: date | None = None,
        until: date | None = None,
        *,
        builder: str | None = None,
        limit: int = 50,
    ) -> BuilderStatistics:
        """Builds per builder and day, of those that built most or of one; without words: the last 30 days."""
        params = _given(since=since and str(since), until=until and str(until), builder=builder, limit=limit)
        return self._read(self._call("GET", "/statistics/builders", params=params), BuilderStatistics)

    def search(self, name: str, limit: int = 50) -> list[ProjectMatch]:
        """Projects with this name, then those whose names begin with it, then those that have it in them."""
        params = {"name": name, "limit": limit}
        return self._read_list(self._call("GET", "/projects", params=params), ProjectMatch)

    def retry(self, job_id: int) -> JobView:
        """Queue a job that has ended once more."""
        return self._read(self._call("POST", f"/jobs/{job_id}/retry"), JobView)

    def retry_failed(
        self, reason: FailureReason, *, target: str | None = None, project: str | None = None
    ) -> RetryAnswer:
        """Queue the jobs once more that failed for a reason, the newest of them."""
        wanted = RetryRequest(target=target, project=project)
        path = f"/failures/{reason.value}/retry"
        return self._read(self._call("POST", path, wanted, timeout_s=CHECK_TIMEOUT_S), RetryAnswer)


def _given(**asked: Any) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _slice(answer: httpx.Response) -> LogSlice:
    try:
        return LogSlice(
            offset=int(answer.headers["X-Log-Offset"]),
            size_bytes=int(answer.headers["X-Log-Size"]),
            data=answer.content,
            name=answer.headers.get("X-Log-Name", ""),
        )
    except (KeyError, ValueError) as error:
        raise MasterError(
            "what the master answers is no part of a log",
            where=str(answer.url),
            hint="is it of an older version?",
        ) from error
