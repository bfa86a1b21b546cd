# SPDX-License-Identifier: BSD-3-Clause
"""While the gate is closed a build stands still with all its processes, and its clocks with it."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from fix_builds import Builds, control_groups
from sdists import make_sdist

from piwheels_node.builder.confine.gate import Gate
from piwheels_node.builder.hooks import StoppedError
from piwheels_node.core.failure import FailureReason

TICKING = """
import sys, time
for tick in range({ticks}):
    print('tick', tick, flush=True)
    time.sleep(0.05)
"""

WAKING = """
import os, signal, time
children = []
for number in range(4):  # each wakes all others for as long as it runs
    child = os.fork()
    if child == 0:
        while True:
            for number in range(1, 20):
                try: os.kill(number, signal.SIGCONT)
                except OSError: pass
    children.append(child)
for tick in range(20):
    print('tick', tick, flush=True)
    time.sleep(0.05)
for child in children: os.kill(child, 9)
"""

VANISHED_LEADER = """
import ctypes, os, threading, time
def go_on():
    for tick in range(20):
        os.write(1, b'tick %d\\n' % tick)
        time.sleep(0.05)
    os._exit(0)
child = os.fork()
if child == 0:
    threading.Thread(target=go_on).start()
    ctypes.CDLL(None).pthread_exit(None)
os.waitpid(child, 0)
"""


@pytest.fixture(params=["cgroup", "none"])
def builds(request, open_tmp_path, pypi):
    """A workshop that freezes a control group, or sends signals."""
    with contextlib.ExitStack() as closing:
        setting = closing.enter_context(control_groups())[0] if request.param == "cgroup" else "none"
        made = Builds(open_tmp_path / "builder", pypi, cgroup=setting)
        closing.callback(made.close)
        yield made


class Started:
    """A build in a thread of its own, of which the log can be read meanwhile."""

    def __init__(self, builds, sdist, *, closed=False, **how):
        self.gate = Gate()
        if closed:
            self.gate.close("heat")
        self.stop = threading.Event()
        self.done = None
        self.error = None
        self.path = None
        self.thread = threading.Thread(target=self._run, args=(builds, sdist, how))
        self.thread.start()

    def _run(self, builds, sdist, how):
        try:
            self.done = builds.build(sdist, pause=self.gate, stop=self.stop, seen=self._seen, **how)
        except StoppedError as error:
            self.error = error

    def _seen(self, path):
        self.path = path

    def ticks(self):
        return self.path.read_text().count("tick ") if self.path and self.path.exists() else 0

    def wait_for_ticks(self, count):
        deadline = time.monotonic() + 60
        while self.ticks() < count:
            assert time.monotonic() < deadline
            assert self.thread.is_alive(), self.done
            time.sleep(0.01)

    def join(self):
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("setup", [TICKING.format(ticks=20), WAKING, VANISHED_LEADER])
def test_a_closed_gate_stops_every_process_and_an_open_one_lets_them_go_on(builds, tmp_path, setup):
    build = Started(builds, make_sdist(tmp_path, "ticker", "1.0", setup=setup))
    build.wait_for_ticks(2)

    build.gate.close("heat")
    time.sleep(0.6)
    stood_at = build.ticks()
    time.sleep(0.4)
    assert build.ticks() == stood_at < 20
    build.gate.open()
    build.join()

    assert build.done.wheel
    assert build.done.log.count("tick ") == 20


def test_the_clocks_rest_while_the_build_stands_still(builds, tmp_path):
    sdist = make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=8))
    build = Started(builds, sdist, timeout_s=2.0, silence_s=1.5)
    build.wait_for_ticks(2)

    build.gate.close("heat")
    time.sleep(2.5)
    build.gate.open()
    build.join()

    assert build.done.wheel


def test_a_clock_goes_on_where_it_stood(builds, tmp_path):
    sdist = make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=2) + "time.sleep(60)")
    build = Started(builds, sdist, silence_s=1.0)
    build.wait_for_ticks(2)
    build.gate.close("heat")
    time.sleep(0.5)
    build.gate.open()
    build.join()

    assert build.done.reason is FailureReason.SILENT


def test_a_build_that_stands_still_can_be_given_up(builds, tmp_path):
    build = Started(builds, make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=400)))
    build.wait_for_ticks(2)
    build.gate.close("heat")
    time.sleep(0.4)

    asked_at = time.monotonic()
    build.stop.set()
    build.join()

    assert isinstance(build.error, StoppedError)
    assert time.monotonic() - asked_at < 15


def test_a_build_that_begins_behind_a_closed_gate_waits_there(builds, tmp_path):
    build = Started(builds, make_sdist(tmp_path, "early", "1.0", setup=TICKING.format(ticks=2)), closed=True)
    time.sleep(1.0)
    assert build.path.exists()
    assert build.ticks() == 0

    build.gate.open()
    build.join()

    assert build.done.wheel
