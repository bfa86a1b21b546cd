# SPDX-License-Identifier: BSD-3-Clause
"""The error tree: what an operator reads, and how a command ends."""

from __future__ import annotations

import inspect
import re

import pytest

from piwheels_node.core import errors
from piwheels_node.core.errors import (
    BuildError,
    MasterError,
    NodeError,
    SettingsError,
    UsageError,
    WheelError,
)
from piwheels_node.core.failure import FailureReason

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, NodeError)]


def test_an_error_tells_what_where_and_what_to_try():
    error = NodeError("the disk is full", where="/var/lib/piwheels-node", hint="make room")

    assert str(error) == "the disk is full\n  where: /var/lib/piwheels-node\n  try: make room"
    assert str(NodeError("the disk is full")) == "the disk is full"


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_in_the_picture_of_the_tree(kind):
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__)
    assert kind.__doc__


def test_the_tree_is_drawn_as_it_is():
    drawn = re.findall(r"(│   )?[├└]── (\w+Error)", errors.__doc__)

    above = NodeError
    for nested, name in drawn:
        kind = getattr(errors, name)
        assert kind.__mro__[1] is (above if nested else NodeError), name
        above = above if nested else kind


@pytest.mark.parametrize("kind", ALL)
def test_wrong_words_and_settings_end_with_2_and_all_else_with_3(kind):
    assert kind.exit_code == (2 if issubclass(kind, SettingsError | UsageError) else 3)


def test_a_wheel_error_has_its_reason():
    error = WheelError(FailureReason.WHEEL_INVALID, "no RECORD", where="x.whl")

    assert error.reason is FailureReason.WHEEL_INVALID
    assert str(error) == "no RECORD\n  where: x.whl"


def test_a_build_error_says_its_reasons_sentence_where_nothing_better_is_known():
    error = BuildError(FailureReason.MISSING_HEADER, captured="ffi.h", evidence="ffi.h: No such file")

    assert error.what == FailureReason.MISSING_HEADER.sentence
    assert (error.captured, error.evidence) == ("ffi.h", "ffi.h: No such file")
    assert BuildError(FailureReason.TIMEOUT, "after 3 h").what == "after 3 h"


def test_errors_can_be_caught_as_one():
    with pytest.raises(NodeError):
        raise MasterError("no", refused=True)
