# SPDX-License-Identifier: BSD-3-Clause
"""What is to be built of a project, and why or why not, in words: the same for commands and screens.

The words are foreign in part (file names, versions), so whoever shows them makes them harmless.
This module imports only the standard library, pydantic and `core`.
"""

from __future__ import annotations

from piwheels_node.core.messages import ProjectPlan, ReleasePlan, TargetPlan

NO_TARGET = "No builder has joined, so there is no target to build for."


def project_words(plan: ProjectPlan) -> str:
    """What PyPI has of the project: `numpy: PyPI has 120 releases that tools can install`."""
    status = "" if plan.status == "active" else f", {plan.status}"
    return f"{plan.name}{status}: PyPI has {plan.known} releases that tools can install"


def release_words(release: ReleasePlan) -> str:
    """What PyPI has of a release: `1 sdists, 12 wheels`."""
    has = [f"{len(release.sdists)} sdists", f"{release.wheels} wheels"]
    return ", ".join([*has, "yanked"] if release.yanked else has)


def target_words(target: TargetPlan) -> str:
    """What is done about a release for a target, or why not: `covered: PyPI has numpy-2.1.0-...`."""
    return f"{target.verdict}: {target.what}"
