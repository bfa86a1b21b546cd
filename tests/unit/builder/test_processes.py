# SPDX-License-Identifier: BSD-3-Clause
"""Processes by descent: all of them are found, stopped, let go and ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from piwheels_node.builder.confine import processes
from piwheels_node.builder.confine.processes import Family

FAMILY = """
import os, sys, threading, time
if os.fork() == 0:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    if os.fork() == 0: time.sleep(60)
    print('up', flush=True)
    time.sleep(60)
time.sleep(60)
"""


@pytest.fixture(params=[True, False], ids=["lists-of-children", "none"])
def family(request, monkeypatch):
    """Three processes, of which one has two threads; the last is a child of the second."""
    monkeypatch.setattr(processes, "_HAS_CHILDREN", request.param and processes._HAS_CHILDREN)
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True
    ) as first:
        assert first.stdout.readline() == b"up\n"
        found = Family(first.pid)
        yield found
        for number in found.numbers():
            os.kill(number, 9)
        first.wait()
        found.close()


def states(numbers):
    return {processes.read(f"/proc/{number}/stat").rpartition(b")")[2].split()[0] for number in numbers}


def test_all_descendants_are_found_with_their_threads(family):
    numbers = family.numbers()

    assert len(numbers) == 3
    assert numbers[0] == family.first
    assert family.threads == 4


def test_all_stand_still_and_go_on(family):
    deadline = time.monotonic() + 60
    while not family.stop():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert states(family.numbers()) == {b"T"}

    family.resume()

    time.sleep(0.05)
    assert b"T" not in states(family.numbers())


def test_a_family_that_is_gone_has_nobody():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as first:
        family = Family(first.pid)
    assert family.numbers() == []
    assert family.threads == 0
    assert family.stop()
    family.resume()
    family.kill()
    family.close()


def test_nobody_is_no_family():
    with subprocess.Popen(["true"]) as first:
        pass

    with pytest.raises(ProcessLookupError):
        Family(first.pid)


def test_a_name_that_looks_like_the_end_of_a_line_deceives_nobody():
    assert processes._stat_fields(b"7 (a) R 1 (b) S 3 4) T 5 6") == [b"T", b"5", b"6"]
