# SPDX-License-Identifier: BSD-3-Clause
"""Wheel file names, and which of them are free."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.wheels import WheelName, free_filename, same_project


def test_a_file_name_is_taken_apart():
    name = WheelName.parse("My_Tiny-1.0.post1-2b-cp313-cp313-linux_armv6l.linux_armv7l.whl")

    assert name.project == "my-tiny"
    assert name.version == Version("1.0.post1")
    assert name.build == (2, "b")
    assert {str(tag) for tag in name.tags} == {"cp313-cp313-linux_armv6l", "cp313-cp313-linux_armv7l"}
    assert not name.is_pure
    assert WheelName.parse("tiny-1.0-py2.py3-none-any.whl").is_pure


@pytest.mark.parametrize(
    "filename",
    [
        "",
        "tiny.whl",
        "tiny-1.0.tar.gz",
        "tiny-1.0-py3-none.whl",
        "tiny-nonsense-py3-none-any.whl",
        "tiny-1.0-x-py3-none-any.whl",
        "ti ny-1.0-py3-none-any.whl",
        "ti/ny-1.0-py3-none-any.whl",
        "-1.0-py3-none-any.whl",
        "tiny-1.0-1/../../x-py3-none-any.whl",
        "tiny-1.0-py3-none-x/../y.whl",
        "tiny-1.0-1\n-py3-none-any.whl",
        "tiny-1.0-py3-none-any.whl\n",
        "tiny-1.0-py3-none-a\0ny.whl",
        "tïny-1.0-py3-none-any.whl",
        f"{'t' * 250}-1.0-py3-none-any.whl",
    ],
)
def test_what_is_no_wheels_name_is_refused(filename):
    with pytest.raises(WheelError) as caught:
        WheelName.parse(filename)

    assert caught.value.reason is FailureReason.WHEEL_INVALID


@settings(database=None, deadline=None)
@given(st.text(alphabet="tiny-1.0py3noea_cl ./\n\0ä", max_size=40))
def test_whatever_the_name_it_is_taken_apart_or_refused(stem):
    try:
        name = WheelName.parse(f"{stem}.whl")
    except WheelError:
        return
    assert re.fullmatch(r"[\w.+!-]+\.whl", name.filename, re.ASCII)


@pytest.mark.parametrize(
    ("filename", "number", "renamed"),
    [
        ("tiny-1.0-py3-none-any.whl", 1, "tiny-1.0-1-py3-none-any.whl"),
        ("tiny-1.0-1-py3-none-any.whl", 2, "tiny-1.0-2-py3-none-any.whl"),
        ("tiny-1.0-1b-py3-none-any.whl", 3, "tiny-1.0-3-py3-none-any.whl"),
    ],
)
def test_a_build_tag_is_added_or_replaced(filename, number, renamed):
    assert WheelName.parse(filename).with_build(number) == renamed
    assert WheelName.parse(renamed).build == (number, "")


@pytest.mark.parametrize(
    ("taken", "free"),
    [
        (set(), "tiny-1.0-py3-none-any.whl"),
        ({"tiny-1.0-1-py3-none-any.whl"}, "tiny-1.0-py3-none-any.whl"),
        ({"tiny-1.0-py3-none-any.whl"}, "tiny-1.0-1-py3-none-any.whl"),
        ({"tiny-1.0-py3-none-any.whl", "tiny-1.0-1-py3-none-any.whl"}, "tiny-1.0-2-py3-none-any.whl"),
    ],
)
def test_a_name_that_was_once_used_is_not_used_again(taken, free):
    assert free_filename("tiny-1.0-py3-none-any.whl", frozenset(taken)) == free


def test_a_build_tag_that_is_taken_is_counted_on():
    taken = frozenset({"tiny-1.0-4-py3-none-any.whl"})

    assert free_filename("tiny-1.0-4-py3-none-any.whl", taken) == "tiny-1.0-5-py3-none-any.whl"


def test_spellings_of_one_project_are_the_same():
    assert same_project("My.Tiny_Thing", "my-tiny-thing")
    assert not same_project("tiny", "tinier")
