# SPDX-License-Identifier: BSD-3-Clause
"""Every reason can happen: a rule reads it from a log, or a place in the code gives it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import piwheels_node
from piwheels_node.builder.diagnosis import all_rules
from piwheels_node.core.failure import FailureReason

OF_RULES = {rule.reason for rule in all_rules().rules}
GIVEN = {
    name
    for path in Path(piwheels_node.__file__).parent.glob("**/*.py")
    for name in re.findall(r"FailureReason\.([A-Z_]+)", path.read_text())
}
FROM_LOGS = {
    FailureReason.BAD_METADATA,
    FailureReason.COMPILER_ERROR,
    FailureReason.ILLEGAL_INSTRUCTION,
    FailureReason.MISSING_HEADER,
    FailureReason.MISSING_LIBRARY,
    FailureReason.MISSING_MODULE,
    FailureReason.MISSING_PKG_CONFIG,
    FailureReason.MISSING_TOOL,
    FailureReason.NEEDS_INPUT,
    FailureReason.NEEDS_NETWORK,
    FailureReason.OUT_OF_DISK,
    FailureReason.OUT_OF_MEMORY,
    FailureReason.REQUIRES_PYTHON,
    FailureReason.RUST_TOO_OLD,
    FailureReason.SANDBOX_DENIED,
    FailureReason.TOO_MANY_PROCESSES,
    FailureReason.WRONG_PLATFORM,
}


@pytest.mark.parametrize("reason", FailureReason, ids=str)
def test_a_reason_is_given_by_a_rule_or_by_the_code(reason):
    assert reason in OF_RULES or reason.name in GIVEN


def test_what_only_logs_tell_has_rules():
    assert FROM_LOGS == OF_RULES
