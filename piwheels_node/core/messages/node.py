# SPDX-License-Identifier: BSD-3-Clause
"""How one machine stands by itself, whatever a master says of it: for its own screen.

`LocalBuilder` is also what a builder that runs tells other programs of its machine, in a file that everybody
may read: nothing in it is secret.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import AwareDatetime

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Step
from piwheels_node.core.messages.base import Message
from piwheels_node.core.messages.building import Health

STALE_AFTER = timedelta(seconds=90)
"""A builder tells every half a minute at least; what is older was left by one that died."""


class LocalBuild(Message):
    """A build that this machine is at; `log_tail` is the end of its log, of `log_bytes` by now."""

    job_id: int
    project: str
    version: str
    target: str
    step: Step
    begun_at: AwareDatetime
    log_bytes: int = 0
    log_tail: str = ""


class LocalEnd(Message):
    """What became of a job here; no outcome: it was handed back, refused or lost."""

    job_id: int
    project: str
    version: str
    target: str
    ended_at: AwareDatetime
    outcome: Outcome | None = None
    reason: FailureReason | None = None


class LocalBuilder(Message):
    """The builder's service of this machine, as it was `at`.

    `data` is its directory. `paused` is why it takes no jobs now, `trouble` why its master cannot be asked;
    `ended` are its last jobs, newest first.
    """

    at: AwareDatetime
    started_at: AwareDatetime
    data: str
    name: str
    master: str
    version: str
    slots: int = 1
    paused: str | None = None
    trouble: str | None = None
    builds: list[LocalBuild] = []
    ended: list[LocalEnd] = []
    health: Health = Health()

    def is_fresh(self, now: datetime) -> bool:
        """True where a builder that lives can have said it."""
        return now - self.at < STALE_AFTER


class NodeView(Message):
    """A machine at one moment.

    `roles` are those of consumer, builder and master that it has; `services` what systemd says of each unit.
    `pip_asks` and `uv_asks`: they ask `index`; `pip_by` is the file that decided it. `masters` are the URLs
    that it knows, `builder` is None where no builder runs that it may look at.
    """

    at: AwareDatetime
    roles: list[str] = []
    services: dict[str, str] = {}
    index: str = ""
    pip_asks: bool = False
    pip_by: str | None = None
    uv_asks: bool = False
    masters: list[str] = []
    builder: LocalBuilder | None = None
    health: Health = Health()
    notes: list[str] = []
