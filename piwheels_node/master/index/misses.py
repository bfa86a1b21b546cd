# SPDX-License-Identifier: BSD-3-Clause
"""What pip and uv asked the index for and it did not have, remembered until somebody looks.

    note    called by the index with each 404: a look at one dictionary, nothing else
    take    what was missed since, each project once for each kind of client

A 404 is the most frequent answer of all and must stay the quickest, so nothing is read or parsed here; that
is done later, by `wanted_by`, in a thread of the follower. This module does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from piwheels_node.core.targets import Target

MOST = 1000
"""Projects that are remembered at a time; more are forgotten, and will be missed again."""

_LONGEST_AGENT = 2000
_TOOLS = ("pip/", "uv/")
_RUNS_AS = {"armv8l": "armv7l"}


class Misses:
    """One per process. `note` is called by the event loop, `take` by a thread."""

    def __init__(self) -> None:
        self._agents: dict[tuple[str, str], None] = {}

    def note(self, name: str, agent: str) -> None:
        """A client with this User-Agent was told that there is no such project."""
        if len(self._agents) < MOST:
            self._agents[name, agent[:_LONGEST_AGENT]] = None

    def take(self) -> list[tuple[str, str]]:
        """What was missed since the last call: names, and the User-Agents that wanted them."""
        taken, self._agents = self._agents, {}
        return list(taken)


def wanted_by(agent: str, targets: Iterable[Target]) -> Target | None:
    """The target that a client installs for, of those that there are; None for who does not say.

    pip and uv tell their Python, processor and distribution as JSON behind their name.
    """
    text = agent[:_LONGEST_AGENT]
    if not text.startswith(_TOOLS) or "{" not in text:
        return None
    try:
        told = json.loads(text[text.index("{") :])
        cpu, python = str(told["cpu"]), str(told.get("python") or told["implementation"]["version"])
        distro = told.get("distro") or {}
        major, minor = (int(part) for part in python.split(".")[:2])
        version = str(distro.get("version", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    for target in sorted(targets):
        fits = target.arch == _RUNS_AS.get(cpu, cpu) and target.python_version == (major, minor)
        if fits and (not target.release.startswith("debian") or target.release == f"debian{version}"):
            return target
    return None
