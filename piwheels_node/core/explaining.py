# SPDX-License-Identifier: BSD-3-Clause
"""What is to be built of a project, and why or why not, in words: the same for commands and screens.

The words are foreign in part (file names, versions), so whoever shows them makes them harmless.
This module imports only the standard library, pydantic and `core`.
"""

from __future__ import annotations

from piwheels_node.core.messages import ProjectPlan, ReleasePlan, RequestAnswer, TargetPlan

NO_TARGET = "No builder has joined, so there is no target to build for."


def project_words(plan: ProjectPlan) -> str:
    """What PyPI has of the project: `numpy: PyPI has 120 releases that tools can install`."""
    status = "" if plan.status == "active" else f", {plan.status}"
    return f"{plan.name}{status}: PyPI has {counted(plan.known, 'release')} that tools can install"


def release_words(release: ReleasePlan) -> str:
    """What PyPI has of a release: `1 sdist, 12 wheels`."""
    has = [counted(len(release.sdists), "sdist"), counted(release.wheels, "wheel")]
    return ", ".join([*has, "yanked"] if release.yanked else has)


def target_words(target: TargetPlan) -> str:
    """What is done about a release for a target, or why not: `covered: PyPI has numpy-2.1.0-...`."""
    return f"{target.verdict}: {target.what}"


def answer_words(answer: RequestAnswer) -> str:
    """What became of a request: `numpy 2.1.0: job 17 is ready`."""
    name = f"{answer.project} {answer.version}"
    if answer.job is not None and not answer.job.state.is_final:
        return f"{name}: job {answer.job.job_id} is {answer.job.state.value}"
    if answer.wheel is not None:
        return f"{name}: there is {answer.wheel}"
    return f"{name}: {answer.reason.value if answer.reason else 'failed'}. {answer.what or ''}".rstrip()


def counted(many: int, what: str) -> str:
    """How many of what: `1 sdist`, `2 sdists`."""
    return f"{many} {what}" if many == 1 else f"{many} {what}s"
