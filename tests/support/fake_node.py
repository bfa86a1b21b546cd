# SPDX-License-Identifier: BSD-3-Clause
"""A machine in memory, for the screen of a node: what `client.port.Node` gives, as the test has set it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fake_farm import NOW, TARGET

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Step
from piwheels_node.core.messages import Health, LocalBuild, LocalBuilder, LocalEnd, NodeView

MASTER = "https://pi-hub:8080"


class FakeNode:
    """Gives `view` whenever it is looked at, and counts how often."""

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self.looks = 0

    def change(self, **changes: Any) -> None:
        """Something else is true of the machine."""
        self.view = self.view.model_copy(update=changes)

    def look(self) -> NodeView:
        self.looks += 1
        return self.view


def consumer(**changes: Any) -> FakeNode:
    """A machine that only installs wheels."""
    facts: dict[str, Any] = {
        "at": NOW,
        "roles": ["consumer"],
        "index": f"{MASTER}/simple/",
        "pip_asks": True,
        "pip_by": "/etc/xdg/pip/pip.conf",
        "uv_asks": False,
        "health": Health(at=NOW, load_1m=0.2, temperature_c=44.1, memory_available_bytes=400 << 20),
    }
    return FakeNode(NodeView(**{**facts, **changes}))


def builder(**changes: Any) -> FakeNode:
    """A machine that installs wheels and builds them; `changes` are those of its builder."""
    node = consumer(
        roles=["consumer", "builder"],
        services={"piwheels-builder.service": "active (running)"},
        masters=[MASTER],
    )
    node.change(builder=local_builder(**changes))
    return node


def local_builder(**changes: Any) -> LocalBuilder:
    """A builder at work on numpy, after two jobs of which one failed."""
    begun_at = NOW - timedelta(minutes=3, seconds=12)
    facts: dict[str, Any] = {
        "at": NOW,
        "started_at": NOW - timedelta(days=2),
        "data": "/var/lib/piwheels-node",
        "name": "pi-1",
        "master": MASTER,
        "version": "1.0",
        "builds": [local_build(begun_at)],
        "ended": [
            _ended(6, "lxml", Outcome.FAILED, FailureReason.MISSING_HEADER),
            _ended(5, "cffi", Outcome.BUILT),
        ],
        "health": Health(at=NOW, load_1m=3.9, temperature_c=63.0, memory_available_bytes=900 << 20),
    }
    return LocalBuilder(**{**facts, **changes})


def local_build(begun_at: datetime = NOW, **changes: Any) -> LocalBuild:
    """A build in the middle of its work."""
    facts: dict[str, Any] = {
        "job_id": 7,
        "project": "numpy",
        "version": "2.3.1",
        "target": TARGET,
        "step": Step.BUILD,
        "begun_at": begun_at,
        "log_bytes": 123_456,
        "log_tail": "[1/3] cc -c core.c\n[2/3] cc -c math.c\n",
    }
    return LocalBuild(**{**facts, **changes})


def _ended(
    job_id: int, project: str, outcome: Outcome | None, reason: FailureReason | None = None
) -> LocalEnd:
    return LocalEnd(
        job_id=job_id,
        project=project,
        version="1.0",
        target=TARGET,
        ended_at=NOW - timedelta(minutes=10 * (7 - job_id)),
        outcome=outcome,
        reason=reason,
    )
