# SPDX-License-Identifier: BSD-3-Clause
"""How much memory a build may have, and how many compilers."""

from __future__ import annotations

import dataclasses

import pytest

from piwheels_node.builder.confine.limits import build_memory_bytes, compilers, is_large
from piwheels_node.builder.machine.health import cores
from piwheels_node.core.settings import BuilderSettings

MIB = 1 << 20


def with_settings(**values):
    return dataclasses.replace(BuilderSettings(), **values)


@pytest.mark.parametrize(
    ("machine_mib", "slots", "share_mib"),
    [
        (426, 1, 213),  # a Zero: half of it, since less than that compiles nothing
        (925, 1, 625),
        (1900, 2, 800),
        (3800, 4, 875),
        (7900, 4, 1900),
        (100, 4, 64),
    ],
)
def test_the_slots_share_what_the_machine_can_spare(machine_mib, slots, share_mib):
    assert build_memory_bytes(with_settings(slots=slots), machine_mib * MIB) == share_mib * MIB


def test_a_build_that_is_alone_has_what_the_slots_would_share():
    shares = with_settings(slots=4)

    assert build_memory_bytes(shares, 3800 * MIB, alone=True) == 3500 * MIB
    assert is_large(shares, 900 * MIB, 3800 * MIB)
    assert not is_large(shares, 800 * MIB, 3800 * MIB)


def test_a_bound_that_is_set_is_the_bound():
    assert build_memory_bytes(with_settings(memory_max_bytes=7 * MIB, slots=3), 1000 * MIB) == 7 * MIB


def test_no_more_is_shared_than_the_machine_has():
    assert build_memory_bytes(with_settings(slots=1), 1 << 60) == build_memory_bytes(with_settings(slots=1))


@pytest.mark.parametrize(("memory_mib", "expected"), [(100, 1), (700, 2), (1 << 30, None)])
def test_a_compiler_needs_memory_and_a_core(memory_mib, expected):
    wanted = min(expected or cores(), cores())

    assert compilers(BuilderSettings(), memory_mib * MIB) == wanted


def test_a_number_of_compilers_that_is_set_is_the_number():
    assert compilers(with_settings(jobs=9), 100 * MIB) == 9
