# SPDX-License-Identifier: BSD-3-Clause
"""What follows from a failure that a Debian package may mend, case by case."""

from __future__ import annotations

import pytest

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState, is_debian_name
from piwheels_node.core.settings import BuildSettings
from piwheels_node.master.jobs.fixes import (
    Known,
    Missing,
    Nothing,
    Propose,
    Situation,
    Try,
    decide,
    judged,
)

HEADER = FailureReason.MISSING_HEADER
FFI = Missing(HEADER, "ffi.h", "libffi-dev")
AUTO = BuildSettings()
BY_HAND = BuildSettings(auto_fix=False)


def rule(state, *packages, about=FFI, rule_id=7):
    return Known(
        rule_id, packages or ("libffi-dev",), state, about and about.reason, about and about.captured
    )


def by_hand(state, *packages):
    return rule(state, *packages, about=None)


ELSE = Missing(HEADER, "ffi/other.h", "libffi-dev")


@pytest.mark.parametrize(
    ("missing", "situation", "rules", "settings", "expected"),
    [
        (FFI, Situation(), [], AUTO, Try(("libffi-dev",))),
        (FFI, Situation(), [], BY_HAND, Propose),
        (FFI, Situation(can_add=False), [], AUTO, Propose),
        (FFI, Situation(rounds=1, had=frozenset({"x-dev"})), [], AUTO, Try(("libffi-dev",))),
        (FFI, Situation(rounds=2, had=frozenset({"x-dev"})), [], AUTO, Propose),
        (FFI, Situation(), [], BuildSettings(fix_rounds=0), Propose),
        (FFI, Situation(had=frozenset(f"lib{n}" for n in range(32))), [], AUTO, Propose),
        (Missing(HEADER, "own.h", None), Situation(), [], AUTO, Nothing),
        (Missing(HEADER, "ffi.h", "-o Dir=/"), Situation(), [], AUTO, Nothing),
        (Missing(FailureReason.COMPILER_ERROR, None, "gcc"), Situation(), [], AUTO, Nothing),
        (FFI, Situation(had=frozenset({"libffi-dev"})), [], AUTO, Nothing),
        (FFI, Situation(), [rule(FixState.OFF)], AUTO, Nothing),
        (FFI, Situation(), [rule(FixState.OFF, about=ELSE)], AUTO, Nothing),
        (FFI, Situation(), [rule(FixState.FAILED)], AUTO, Nothing),
        (FFI, Situation(), [rule(FixState.FAILED, about=ELSE)], AUTO, Try(("libffi-dev",))),
        (FFI, Situation(), [rule(FixState.PROPOSED)], AUTO, Try(("libffi-dev",), 7)),
        (FFI, Situation(can_add=False), [rule(FixState.PROPOSED)], AUTO, Propose),
        (FFI, Situation(), [rule(FixState.WORKS)], BY_HAND, Try(("libffi-dev",), 7)),
        (FFI, Situation(), [rule(FixState.TRYING, about=ELSE)], BY_HAND, Try(("libffi-dev",), 7)),
        (
            FFI,
            Situation(),
            [by_hand(FixState.WORKS, "libffi-dev", "gcc")],
            AUTO,
            Try(("libffi-dev", "gcc"), 7),
        ),
        (FFI, Situation(), [by_hand(FixState.WORKS, "cmake")], AUTO, Try(("libffi-dev",))),
    ],
)
def test_what_follows_from_a_failure(missing, situation, rules, settings, expected):
    decision = decide(missing, situation, rules, settings)

    if isinstance(expected, type):
        assert isinstance(decision, expected), decision
        assert decision.why
    else:
        assert decision == expected


@pytest.mark.parametrize("state", [FixState.PROPOSED, FixState.TRYING])
def test_a_proposal_names_the_rule_that_is_there_already(state):
    assert decide(FFI, Situation(can_add=False), [rule(state)], AUTO).rule_id == 7


HAD = frozenset({"libffi-dev"})


@pytest.mark.parametrize(
    ("known", "had", "reason", "captured", "expected"),
    [
        (rule(FixState.TRYING), HAD, None, None, FixState.WORKS),
        (rule(FixState.TRYING), HAD | {"gcc"}, None, None, FixState.WORKS),
        (rule(FixState.TRYING, "libffi-dev", "gcc"), HAD, None, None, None),
        (rule(FixState.TRYING), frozenset(), None, None, None),
        (rule(FixState.OFF), HAD, None, None, None),
        (rule(FixState.WORKS), HAD, HEADER, "ffi.h", None),
        (rule(FixState.TRYING), HAD, HEADER, "ffi.h", FixState.FAILED),
        (rule(FixState.TRYING), HAD, HEADER, "another.h", None),
        (by_hand(FixState.TRYING), HAD, HEADER, "ffi.h", None),
        (rule(FixState.TRYING), HAD, FailureReason.TIMEOUT, None, None),
        (rule(FixState.TRYING), HAD, FailureReason.LAYER_FAILED, "libffi-dev", FixState.FAILED),
        (rule(FixState.TRYING), HAD, FailureReason.LAYER_FAILED, None, None),
    ],
)
def test_what_a_build_shows_about_a_rule(known, had, reason, captured, expected):
    assert judged(known, had, reason, captured) is expected


@pytest.mark.parametrize("name", ["libffi-dev", "g++", "libstdc++6", "0ad", "python3.13-dev"])
def test_names_that_debian_allows(name):
    assert is_debian_name(name)


@pytest.mark.parametrize(
    "name", ["", "a", "-o", "--yes", "a b", "A", "a/b", "gcc-", "a\n", "a=1", "é1", "a" * 101]
)
def test_names_that_debian_does_not_allow(name):
    assert not is_debian_name(name)
