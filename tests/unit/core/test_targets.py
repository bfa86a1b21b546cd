# SPDX-License-Identifier: BSD-3-Clause
"""Targets: their names, their order, and the wheels that their pip accepts."""

from __future__ import annotations

import platform
import sys
import sysconfig

import pytest
from packaging.tags import parse_tag, sys_tags

from piwheels_node.core.errors import UsageError
from piwheels_node.core.targets import Target


def target(name: str) -> Target:
    return Target.parse(name)


def accepts(name: str, tags: str) -> bool:
    return target(name).accepts(parse_tag(tags))


def this_machine() -> Target:
    abi = f"cp{sys.version_info[0]}{sys.version_info[1]}{getattr(sys, 'abiflags', '')}"
    native = next(tag.platform for tag in sys_tags() if tag.platform.startswith("linux_"))
    return target(f"{abi}-{native}-glibc{platform.libc_ver()[1]}")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="targets are glibc's")
def test_this_machines_target_has_the_tags_of_the_running_interpreter():
    ours, theirs = this_machine().tags, tuple(sys_tags())

    assert len(ours) == len(set(ours))
    assert set(ours) == set(theirs)
    # packaging 26.3 moved the plain linux tags before the manylinux ones; all others keep their order.
    without_native = [tag for tag in theirs if not tag.platform.startswith("linux_")]
    assert [tag for tag in ours if not tag.platform.startswith("linux_")] == without_native
    assert sysconfig.get_config_var("SOABI")  # the interpreter is CPython, for which the above is meant


def test_targets_are_ordered_by_python_version_not_by_text():
    names = ["cp39", "cp310", "cp311", "cp313", "cp314"]

    targets = [target(f"{name}-linux_armv7l-debian13") for name in reversed(names)]

    assert [one.abi for one in sorted(targets)] == names


def test_a_target_is_named_as_it_was_parsed():
    name = "cp313-linux_armv7l-debian13"

    assert str(target(name)) == name
    assert target(name) == Target("cp313", "linux_armv7l", "debian13")
    assert target(name).arch == "armv7l"
    assert target(name).python_version == (3, 13)


def test_a_release_may_be_told_by_its_c_library():
    assert target("cp312-linux_x86_64-glibc2.39").glibc == (2, 39)
    assert target("cp313-linux_armv6l-debian13").glibc == (2, 41)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cp313",
        "cp313-linux_armv7l",
        "py3-none-any",
        "cp27-linux_armv7l-debian13",
        "cp313-win_amd64-debian13",
        "cp313-linux_armv7l-debian99",
        "cp313-linux_armv7l-glibc2",
        "cp313-linux_armv7l-debian13\n",
        "cp３13-linux_armv7l-debian13",  # noqa: RUF001 - a digit that is not ASCII, on purpose
    ],
)
def test_what_is_no_target_is_refused_with_a_hint(name):
    with pytest.raises(UsageError) as caught:
        target(name)

    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "tags", "accepted"),
    [
        ("cp313-linux_armv7l-debian13", "py3-none-any", True),
        ("cp313-linux_armv7l-debian13", "py2.py3-none-any", True),
        ("cp313-linux_armv7l-debian13", "py2-none-any", False),
        ("cp313-linux_armv7l-debian13", "py39-none-any", True),
        ("cp313-linux_armv7l-debian13", "py314-none-any", False),
        ("cp313-linux_armv7l-debian13", "cp313-cp313-linux_armv7l", True),
        ("cp313-linux_armv7l-debian13", "cp313-cp313-linux_armv6l", False),
        ("cp313-linux_armv7l-debian13", "cp313-cp313-linux_armv6l.linux_armv7l", True),
        ("cp313-linux_armv7l-debian13", "cp311-cp311-linux_armv7l", False),
        ("cp313-linux_armv7l-debian13", "cp39-abi3-linux_armv7l", True),
        ("cp311-linux_armv7l-debian12", "cp313-abi3-linux_armv7l", False),
        ("cp313-linux_armv7l-debian13", "py3-none-linux_armv7l", True),
        ("cp313-linux_armv7l-debian13", "cp313-none-linux_armv7l", True),
        ("cp313-linux_armv7l-debian13", "cp313-cp313-manylinux_2_41_armv7l", True),
        ("cp311-linux_armv7l-debian12", "cp311-cp311-manylinux_2_41_armv7l", False),
        ("cp313-linux_armv7l-debian13", "cp313-cp313-manylinux2014_armv7l", True),
        ("cp313-linux_armv7l-debian13", "cp313-cp313-manylinux2010_armv7l", False),
        ("cp313-linux_armv7l-debian13", "cp313-cp313-musllinux_1_2_armv7l", False),
        ("cp313-linux_armv6l-debian13", "cp313-cp313-linux_armv6l", True),
        ("cp313-linux_armv6l-debian13", "cp313-cp313-linux_armv7l", False),
        ("cp313-linux_armv6l-debian13", "cp313-cp313-manylinux_2_31_armv6l", False),
        ("cp313-linux_armv8l-debian13", "cp313-cp313-linux_armv7l", True),
        ("cp313-linux_armv8l-debian13", "cp313-cp313-manylinux_2_31_armv7l", True),
        ("cp313-linux_aarch64-debian13", "cp313-cp313-manylinux2014_aarch64", True),
        ("cp313-linux_aarch64-debian13", "cp313-cp313-linux_armv7l", False),
        ("cp313-linux_x86_64-debian13", "cp313-cp313-manylinux1_x86_64", True),
        ("cp313t-linux_armv7l-debian13", "cp313-cp313t-linux_armv7l", True),
        ("cp313t-linux_armv7l-debian13", "cp313-cp313-linux_armv7l", False),
        ("cp313t-linux_armv7l-debian13", "cp39-abi3-linux_armv7l", False),
        ("cp313t-linux_armv7l-debian13", "py3-none-any", True),
    ],
)
def test_a_wheel_is_accepted_where_the_targets_pip_would_take_it(name, tags, accepted):
    assert accepts(name, tags) is accepted


def test_the_more_specific_wheel_ranks_before_the_less_specific():
    pi = target("cp313-linux_armv7l-debian13")
    tags = [
        "cp313-cp313-manylinux_2_41_armv7l",
        "cp313-cp313-manylinux2014_armv7l",
        "cp313-cp313-linux_armv7l",
        "cp313-abi3-linux_armv7l",
        "cp39-abi3-linux_armv7l",
        "py3-none-linux_armv7l",
        "cp313-none-any",
        "py3-none-any",
    ]

    ranks = [pi.rank(parse_tag(one)) for one in tags]

    assert ranks == sorted(ranks)
    assert None not in ranks


def test_a_set_of_tags_ranks_as_its_best():
    pi = target("cp313-linux_armv7l-debian13")

    both = pi.rank(parse_tag("py2.py3-none-any"))

    assert both == pi.rank(parse_tag("py3-none-any"))
    assert pi.rank(parse_tag("py2-none-any")) is None
