# SPDX-License-Identifier: BSD-3-Clause
"""What people and their tools ask of a master: builds, and what became of them; builders, orders, tokens."""

from __future__ import annotations

from datetime import date
from typing import Any
from urllib.parse import quote

from piwheels_node.client.transport import CHECK_TIMEOUT_S, Transport
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import (
    BuilderEventView,
    BuilderOrder,
    BuilderView,
    BuildRequest,
    EventView,
    FailedBuild,
    FailureReport,
    FixAnswer,
    FixDecision,
    FixRequest,
    FixView,
    JobView,
    ProjectView,
    Purge,
    PurgeAnswer,
    RequestAnswer,
    Status,
    TokenRequest,
    TokenView,
)


class AskingClient(Transport):
    """Endpoints for people; see `MasterClient`. What changes something needs an operator's key."""

    def request(self, request: BuildRequest) -> RequestAnswer:
        """Ask for a wheel."""
        return self._read(self._call("POST", "/requests", request, timeout_s=CHECK_TIMEOUT_S), RequestAnswer)

    def status(self) -> Status:
        """The master in a few numbers."""
        return self._read(self._call("GET", "/status"), Status)

    def jobs(self, state: JobState | None = None, limit: int = 50) -> list[JobView]:
        """The newest jobs."""
        params: dict[str, Any] = {"limit": limit} | ({"state": state.value} if state else {})
        return self._read_list(self._call("GET", "/jobs", params=params), JobView)

    def job(self, job_id: int) -> JobView:
        """One job, with its newest build."""
        return self._read(self._call("GET", f"/jobs/{job_id}"), JobView)

    def events(self, job_id: int) -> list[EventView]:
        """What happened to a job."""
        return self._read_list(self._call("GET", f"/jobs/{job_id}/events"), EventView)

    def cancel(self, job_id: int) -> JobView:
        """Nobody wants this job any more; a builder that is at it stops."""
        return self._read(self._call("POST", f"/jobs/{job_id}/cancel"), JobView)

    def project(self, name: str) -> ProjectView:
        """What the master has of a project."""
        return self._read(self._call("GET", f"/projects/{_part(name)}"), ProjectView)

    def failures(
        self,
        since: date | None = None,
        until: date | None = None,
        *,
        target: str | None = None,
        project: str | None = None,
    ) -> FailureReport:
        """Why builds failed from one day to another (UTC, both included); without words: the last 7 days."""
        asked = {"since": since, "until": until, "target": target, "project": project}
        params = {name: str(value) for name, value in asked.items() if value is not None}
        return self._read(self._call("GET", "/failures", params=params), FailureReport)

    def failed_builds(
        self,
        reason: FailureReason,
        *,
        target: str | None = None,
        project: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[FailedBuild]:
        """Builds that failed for a reason, newest first; `before`: only those older than this number."""
        asked = {"target": target, "project": project, "before": before, "limit": limit}
        params = {name: value for name, value in asked.items() if value is not None}
        return self._read_list(self._call("GET", f"/failures/{reason.value}", params=params), FailedBuild)

    def builders(self) -> list[BuilderView]:
        """All builders, by name."""
        return self._read_list(self._call("GET", "/builders"), BuilderView)

    def builder(self, name: str) -> BuilderView:
        """One builder, with what it builds now."""
        return self._read(self._call("GET", _builder(name)), BuilderView)

    def builder_events(self, name: str) -> list[BuilderEventView]:
        """What happened to a builder."""
        return self._read_list(self._call("GET", _builder(name, "/events")), BuilderEventView)

    def order(self, name: str | None, order: BuilderOrder) -> BuilderView | Status:
        """Tell a builder what to do, or all of them where `name` is None: then the farm is the answer."""
        if name is None:
            return self._read(self._call("POST", "/order", order), Status)
        return self._read(self._call("POST", _builder(name, "/order"), order), BuilderView)

    def skip(self, name: str | None) -> list[JobView]:
        """Cancel what a builder builds now, or what all build where `name` is None; gives those jobs."""
        path = "/skip" if name is None else _builder(name, "/skip")
        return self._read_list(self._call("POST", path), JobView)

    def approve(self, name: str) -> BuilderView:
        """Let a builder that has joined lease jobs."""
        return self._read(self._call("POST", _builder(name, "/approve")), BuilderView)

    def revoke(self, name: str) -> BuilderView:
        """Take a builder's key back, and its jobs."""
        return self._read(self._call("POST", _builder(name, "/revoke")), BuilderView)

    def purge(self, name: str, purge: Purge) -> PurgeAnswer:
        """Withdraw what a builder has built since a time, block those bytes, and queue the jobs again."""
        path = _builder(name, "/purge")
        return self._read(self._call("POST", path, purge, timeout_s=CHECK_TIMEOUT_S), PurgeAnswer)

    def create_token(self, request: TokenRequest) -> TokenView:
        """Make a join token; it is shown only in this answer."""
        return self._read(self._call("POST", "/tokens", request), TokenView)

    def tokens(self) -> list[TokenView]:
        """The join tokens, newest first, without what is secret in them."""
        return self._read_list(self._call("GET", "/tokens"), TokenView)

    def revoke_token(self, token_id: int) -> None:
        """Make a join token worthless."""
        self._call("DELETE", f"/tokens/{token_id}")

    def fixes(
        self, state: FixState | None = None, project: str | None = None, limit: int = 100
    ) -> list[FixView]:
        """The newest rules "this project needs these Debian packages"."""
        params: dict[str, Any] = {"limit": limit}
        params |= {"state": state.value} if state else {}
        params |= {"project": project} if project else {}
        return self._read_list(self._call("GET", "/fixes", params=params), FixView)

    def add_fix(self, request: FixRequest) -> FixAnswer:
        """Say which Debian packages a project needs."""
        return self._read(self._call("POST", "/fixes", request), FixAnswer)

    def accept_fix(self, rule_id: int, why: str | None = None) -> FixAnswer:
        """Use a rule that was proposed, or put off; jobs that failed for what it mends begin anew."""
        path = f"/fixes/{rule_id}/accept"
        return self._read(self._call("POST", path, FixDecision(why=why)), FixAnswer)

    def refuse_fix(self, rule_id: int, why: str | None = None) -> FixAnswer:
        """Neither use a rule nor have it proposed again."""
        return self._read(self._call("POST", f"/fixes/{rule_id}/off", FixDecision(why=why)), FixAnswer)


def _part(name: str) -> str:
    """A name as one part of a path: nothing in it can lead elsewhere."""
    return quote(name, safe="")


def _builder(name: str, more: str = "") -> str:
    return f"/builders/{_part(name)}{more}"
