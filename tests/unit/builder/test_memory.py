# SPDX-License-Identifier: BSD-3-Clause
"""What processes hold of the memory, each page once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from piwheels_node.builder.confine.memory import GroupMemory, SampledMemory, nameless_files
from piwheels_node.builder.confine.processes import Family

MIB = 1 << 20


@pytest.fixture
def holder():
    """Starts a process that runs code, and gives its family when it has printed a line."""
    started = []

    def start(code):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        started.append((process, Family(process.pid)))
        assert process.stdout.readline() == b"up\n"
        return started[-1][1]

    yield start
    for process, family in started:
        for number in family.numbers():
            os.kill(number, 9)
        process.communicate()
        family.close()


def sampled(family, most_mib):
    return SampledMemory(family, most_bytes=most_mib * MIB, tmp_bytes=MIB)


def test_memory_of_a_process_is_seen(holder):
    family = holder(
        "import time; held = bytearray(b'x' * (40 << 20)); print('up', flush=True); time.sleep(60)"
    )
    memory = sampled(family, 200)

    assert not memory.look(family.numbers())
    assert 40 * MIB < memory.peak_bytes < 200 * MIB


def test_memory_that_children_share_counts_once(holder):
    family = holder(
        "import os, time; held = bytearray(b'x' * (40 << 20))\n"
        "for number in range(5):\n"
        "    if os.fork() == 0: time.sleep(60)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    memory = sampled(family, 100)

    assert not memory.look(family.numbers())
    assert 40 * MIB < memory.peak_bytes < 100 * MIB


def test_shared_memory_counts(holder):
    family = holder(
        "import mmap, time; held = mmap.mmap(-1, 40 << 20); held.write(b'x' * (40 << 20))\n"
        "print('up', flush=True); time.sleep(60)"
    )
    memory = sampled(family, 30)

    assert memory.look(family.numbers())


def test_a_file_in_memory_that_has_no_name_counts(holder):
    family = holder(
        "import os, time; held = os.memfd_create('x'); os.write(held, b'x' * (40 << 20))\n"
        "print('up', flush=True); time.sleep(60)"
    )

    assert sum(nameless_files(family.numbers()).values()) >= 40 * MIB
    assert sampled(family, 30).look(family.numbers())


def test_the_closer_to_the_limit_the_sooner_we_look_again(holder):
    family = holder(
        "import time; held = bytearray(b'x' * (40 << 20)); print('up', flush=True); time.sleep(60)"
    )
    far, near = sampled(family, 4000), sampled(family, 100)
    far.look(family.numbers())
    near.look(family.numbers())

    assert near.wait_s < far.wait_s <= 0.25 or far.wait_s > 0.25  # the latter where looking itself is slow


def test_only_a_kill_can_be_for_want_of_memory(holder):
    memory = sampled(holder("print('up', flush=True); input()"), 100)

    assert not memory.ended(137)  # the kernel has ended nothing for want of memory meanwhile
    memory._killed_before -= 1
    assert memory.ended(137)
    assert not memory.ended(1)


class FakeGroup:
    """The files of a group, as the kernel writes them."""

    def __init__(self, kills):
        self.kills = kills

    def memory_bytes(self):
        return 5 * MIB

    def peak_memory_bytes(self):
        return 9 * MIB

    def was_out_of_memory(self):
        return self.kills > 0


@pytest.mark.parametrize("kills", [0, 1])
def test_of_a_group_the_kernel_tells_whether_it_was_too_much(kills):
    memory = GroupMemory(FakeGroup(kills))

    assert memory.ended(0) == bool(kills)
    assert memory.peak_bytes == 9 * MIB
    assert memory.look([]) == bool(kills)
