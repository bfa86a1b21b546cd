# SPDX-License-Identifier: BSD-3-Clause
"""The gate that builds pass, and the patience of who waits for a master."""

from __future__ import annotations

import threading
import time

import pytest

from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.farm.patience import Patience


def test_a_gate_is_open_at_first_and_tells_why_it_was_closed():
    gate = Gate()
    assert (gate.closed, gate.why, gate.wait_open(0)) == (False, None, True)

    gate.close("heat")
    gate.close("told to pause")

    assert (gate.closed, gate.why, gate.wait_open(0)) == (True, "told to pause", False)


def test_who_waits_at_the_gate_goes_on_at_once():
    gate = Gate()
    gate.close("heat")
    passed_at = []
    waiting = threading.Thread(target=lambda: passed_at.append(gate.wait_open(10) and time.monotonic()))
    waiting.start()

    gate.open()
    opened_at = time.monotonic()
    waiting.join(5)

    assert passed_at[0] - opened_at < 8


def test_the_time_that_a_gate_was_closed_adds_up():
    gate = Gate()
    assert gate.closed_s == 0.0
    for _ in range(2):
        gate.close("heat")
        gate.close("heat, still")
        time.sleep(0.05)
        assert gate.closed_s >= 0.05
        gate.open()
        gate.open()
    total_s = gate.closed_s
    time.sleep(0.05)

    assert 0.1 <= gate.closed_s == total_s


@pytest.mark.parametrize(
    ("failure", "longest_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 5.0), (5, 10.0), (99, 10.0)]
)
def test_patience_grows_to_ten_seconds_and_is_never_exact(failure, longest_s):
    delays = set()
    for _ in range(20):
        patience = Patience()
        delays.add([patience.next_s() for _ in range(failure)][-1])

    assert longest_s / 2 <= min(delays) < max(delays) <= longest_s


def test_patience_begins_anew_after_a_success():
    patience = Patience()
    for _ in range(5):
        patience.next_s()
    patience.reset()

    assert patience.next_s() <= 0.5


def test_waiting_ends_when_we_are_to_stop():
    stop = threading.Event()
    stop.set()
    patience = Patience()
    for _ in range(5):
        patience.next_s()

    began = time.monotonic()
    assert patience.wait(stop)
    assert time.monotonic() - began < 4  # of the 5 at least that it would be
