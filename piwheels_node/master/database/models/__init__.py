# SPDX-License-Identifier: BSD-3-Clause
"""The tables of the master.

    releases   what there is to build: projects, releases, files of PyPI, targets
    following  what is remembered of PyPI, and what is to be planned
    builders   builders, what they offer, keys
    jobs       the queue, events, rules learned from failures
    builds     builds, wheels, their libraries, blocked bytes
    counts     counters and flags

Times are UTC and aware, and their names end in `_at`; amounts carry their unit. A change here needs a
migration (docs/development.md); a test compares the two. Names of projects are normalised (PEP 503).
"""

from piwheels_node.master.database.models.base import EnumValue, Model, UtcDateTime
from piwheels_node.master.database.models.builders import (
    Builder,
    BuilderEvent,
    BuilderTarget,
    JoinToken,
    Token,
)
from piwheels_node.master.database.models.builds import BlockedWheel, Build, Wheel, WheelLibrary
from piwheels_node.master.database.models.counts import (
    BuildCount,
    BuilderCount,
    Counter,
    Flag,
    HourCount,
)
from piwheels_node.master.database.models.following import (
    Miss,
    PlanNote,
    PypiNote,
    PypiProject,
    SkipRule,
    Walk,
)
from piwheels_node.master.database.models.jobs import Event, FixRule, Job, JobAvoidance
from piwheels_node.master.database.models.releases import Project, PypiFile, Release, TargetRow

__all__ = [
    "BlockedWheel",
    "Build",
    "BuildCount",
    "Builder",
    "BuilderCount",
    "BuilderEvent",
    "BuilderTarget",
    "Counter",
    "EnumValue",
    "Event",
    "FixRule",
    "Flag",
    "HourCount",
    "Job",
    "JobAvoidance",
    "JoinToken",
    "Miss",
    "Model",
    "PlanNote",
    "Project",
    "PypiFile",
    "PypiNote",
    "PypiProject",
    "Release",
    "SkipRule",
    "TargetRow",
    "Token",
    "UtcDateTime",
    "Walk",
    "Wheel",
    "WheelLibrary",
]
