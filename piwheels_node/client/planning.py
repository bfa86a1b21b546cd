# SPDX-License-Identifier: BSD-3-Clause
"""What people ask of a master about following PyPI and planning."""

from __future__ import annotations

from urllib.parse import quote

from piwheels_node.client.transport import CHECK_TIMEOUT_S, Transport
from piwheels_node.core.messages import (
    JobView,
    Popularity,
    PopularityAnswer,
    ProjectPlan,
    RebuildRequest,
    SkipRequest,
    SkipView,
    SyncView,
)


class PlanningClient(Transport):
    """Endpoints for planning; see `MasterClient`. What changes something needs an operator's key."""

    def sync(self) -> SyncView:
        """How far the master has come."""
        return self._read(self._call("GET", "/sync"), SyncView)

    def sync_again(self) -> SyncView:
        """Have PyPI's whole list read now."""
        return self._read(self._call("POST", "/sync"), SyncView)

    def plan(self, name: str, version: str | None = None) -> ProjectPlan:
        """What PyPI has of a project, and what is to be done about it."""
        params = {} if version is None else {"version": version}
        path = f"/projects/{quote(name, safe='')}/plan"
        return self._read(self._call("GET", path, params=params, timeout_s=CHECK_TIMEOUT_S), ProjectPlan)

    def skips(self) -> list[SkipView]:
        """The rules that say what is not built."""
        return self._read_list(self._call("GET", "/skips"), SkipView)

    def add_skip(self, wanted: SkipRequest) -> SkipView:
        """Add a rule."""
        return self._read(self._call("POST", "/skips", wanted), SkipView)

    def remove_skips(self, project: str) -> list[SkipView]:
        """Forget the rules about a project."""
        return self._read_list(self._call("DELETE", f"/skips/{quote(project, safe='')}"), SkipView)

    def rebuild(self, wanted: RebuildRequest) -> list[JobView]:
        """Queue jobs that have ended once more."""
        return self._read_list(self._call("POST", "/rebuilds", wanted), JobView)

    def load_popularity(self, wanted: Popularity) -> PopularityAnswer:
        """Say which projects are wanted most."""
        path = "/popularity"
        return self._read(self._call("POST", path, wanted, timeout_s=CHECK_TIMEOUT_S), PopularityAnswer)
