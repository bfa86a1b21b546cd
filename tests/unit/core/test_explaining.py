# SPDX-License-Identifier: BSD-3-Clause
"""What is to be built, and why not, in the words of the command line and of the screens."""

from __future__ import annotations

import pytest

from piwheels_node.core.explaining import answer_words, project_words, release_words, target_words
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import JobView, ProjectPlan, ReleasePlan, RequestAnswer, TargetPlan

NAMES = {"project": "numpy", "version": "2.1", "target": "cp313-linux_armv7l-debian13"}


def job(state):
    return JobView(job_id=7, state=state, attempts=0, created_at="2026-11-22T12:00:00Z", **NAMES)


def test_what_pypi_has_is_counted():
    assert project_words(ProjectPlan(name="numpy", known=1)) == (
        "numpy: PyPI has 1 release that tools can install"
    )
    assert project_words(ProjectPlan(name="numpy", known=20, status="archived")) == (
        "numpy, archived: PyPI has 20 releases that tools can install"
    )


def test_a_release_is_told_by_its_files():
    assert release_words(ReleasePlan(version="1", sdists=["a.tar.gz"], wheels=12)) == "1 sdist, 12 wheels"
    assert release_words(ReleasePlan(version="1", yanked=True)) == "0 sdists, 0 wheels, yanked"


def test_a_target_is_told_by_its_verdict_and_why():
    plan = TargetPlan(target="t", verdict="covered", what="PyPI has numpy-2.1-py3-none-any.whl")

    assert target_words(plan) == "covered: PyPI has numpy-2.1-py3-none-any.whl"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"job": job(JobState.READY)}, "numpy 2.1: job 7 is ready"),
        ({"job": job(JobState.BUILT), "wheel": "numpy-2.1.whl"}, "numpy 2.1: there is numpy-2.1.whl"),
        ({"reason": FailureReason.NO_SDIST, "what": "only wheels"}, "numpy 2.1: no-sdist. only wheels"),
    ],
)
def test_what_became_of_a_request_is_told(answer, words):
    assert answer_words(RequestAnswer(**NAMES, **answer)) == words
