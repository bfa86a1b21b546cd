# SPDX-License-Identifier: BSD-3-Clause
"""Failure reasons: a closed list with a sentence and a policy each."""

from __future__ import annotations

import pickle
import re

import pytest

from piwheels_node.core.failure import FailureReason, Policy


@pytest.mark.parametrize("reason", FailureReason)
def test_a_reason_has_a_name_for_the_wire_a_sentence_and_a_policy(reason):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", reason.value)
    assert reason.name.lower().replace("_", "-") == reason.value
    assert re.fullmatch(r"[A-Z].*\.", reason.sentence)
    assert isinstance(reason.policy, Policy)


@pytest.mark.parametrize("reason", FailureReason)
def test_a_reason_survives_the_wire(reason):
    assert FailureReason(str(reason)) is reason
    assert pickle.loads(pickle.dumps(reason)) is reason


def test_no_two_reasons_say_the_same():
    sentences = [reason.sentence for reason in FailureReason]

    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("policy", "reasons"),
    [
        (
            Policy.RETRY_ELSEWHERE,
            {
                "hash-mismatch",
                "fetch-failed",
                "out-of-memory",
                "out-of-disk",
                "builder-failed",
                "builder-lost",
            },
        ),
        (Policy.WAIT_FOR_DEPENDENCY, {"requirement-missing", "requirement-failed"}),
    ],
)
def test_another_builder_gets_the_job_only_where_the_package_is_not_to_blame(policy, reasons):
    assert {reason.value for reason in FailureReason if reason.policy is policy} == reasons


@pytest.mark.parametrize(
    "reason",
    [
        FailureReason.MISSING_HEADER,
        FailureReason.MISSING_LIBRARY,
        FailureReason.MISSING_PKG_CONFIG,
        FailureReason.MISSING_TOOL,
        FailureReason.COMPILER_ERROR,
        FailureReason.UNKNOWN,
    ],
)
def test_what_another_environment_may_mend_is_tried_when_it_changes(reason):
    assert reason.policy is Policy.RETRY_WHEN_ENVIRONMENT_CHANGES


def test_an_unknown_name_is_no_reason():
    with pytest.raises(ValueError, match="no-such-reason"):
        FailureReason("no-such-reason")
