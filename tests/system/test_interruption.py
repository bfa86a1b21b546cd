# SPDX-License-Identifier: BSD-3-Clause
"""Ctrl-C, a signal from the system, and a plain kill, at every step of a build.

Each obstacle holds a job at one step. However the command ends there, nothing is half-published and no
process is left; and once the obstacle is gone the next run builds the package at once, with no lease to wait
for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from fix_command import still_there
from sdists import c_extension, make_sdist, make_wheel

import piwheels_node.builder

SOON_S = 20.0
"""Sooner than any of these obstacles goes away by itself."""

HELD = "import os; held = os.environ['CARGO_BUILD_JOBS'] == '7'\n"  # see Obstacle.start
SLEEPS = HELD + "import time; time.sleep(600 * held)"
SLOW_TO_COMPILE = HELD + "os.mkfifo('slow.h') if held else open('slow.h', 'w')"  # nobody writes to the pipe
SLOW_TO_LOAD = (
    HELD + "code = '__attribute__((constructor)) static void slow(void) { sleep(600); }' if held else ''\n"
    "open('slow.h', 'w').write('#include <unistd.h>\\n' + code + '\\n')"
)
SLOW_SOURCE = c_extension("_slow", prelude='#include "/build/src/slow.h"')
WHEEL_BYTES = 24 << 20


@dataclass
class Obstacle:
    """What holds the package `slow` at a step, and how to see that it does."""

    command: object
    made: object
    fault: str = ""

    def start(self):
        """Start the command; package code can tell by a setting that it is to be held."""
        return self.command.start("standalone", "slow", "--set", "builder.jobs=7")

    def offer(self, **sdist):
        self.command.pypi.add(make_sdist(self.made, "slow", "1.0", **sdist), project="slow")

    def break_pypi(self, path, how):
        self.fault = path
        self.command.pypi.fail(path, how)

    def until_asked(self, running, path):
        running.until_true(lambda: path in self.command.pypi.requests, f"a request for {path}")

    def until_runs(self, running, *words):
        """Wait until a process of the command's has all the words on its command line."""

        def there():
            return any(all(word in _cmdline(pid) for word in words) for pid, _ in running.descendants())

        running.until_true(there, f"a process with {words}")

    def remove(self):
        """PyPI is well; what held the package was the setting."""
        if self.fault:
            self.command.pypi.fail(self.fault, None)


def _cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def held_while_pypi_is_asked(obstacle):
    obstacle.offer()
    obstacle.break_pypi("/simple/slow/", "hang")
    running = obstacle.start()
    obstacle.until_asked(running, "/simple/slow/")
    return running


def held_at_fetch(obstacle):
    obstacle.offer()
    obstacle.break_pypi("/files/slow/", "hang")
    running = obstacle.start()
    obstacle.until_asked(running, "/files/slow/slow-1.0.tar.gz")
    running.until("slow 1.0: fetch")
    return running


def held_at_a_trickling_fetch(obstacle):
    obstacle.offer()
    obstacle.break_pypi("/files/slow/", "trickle")
    running = obstacle.start()
    obstacle.until_asked(running, "/files/slow/slow-1.0.tar.gz")
    running.until("slow 1.0: fetch")
    return running


def held_at_prepare(obstacle):
    obstacle.offer(requires=["somebackend"])
    obstacle.break_pypi("/simple/somebackend/", "hang")
    wheel = make_wheel(obstacle.made, "somebackend", "1.0")
    obstacle.command.pypi.add(wheel, project="somebackend")
    running = obstacle.start()
    obstacle.until_asked(running, "/simple/somebackend/")
    running.until("slow 1.0: prepare")
    return running


def held_at_the_fetch_of_a_requirement(obstacle):
    obstacle.offer(requires=["somebackend"])
    obstacle.break_pypi("/files/somebackend/", "hang")
    wheel = make_wheel(obstacle.made, "somebackend", "1.0")
    obstacle.command.pypi.add(wheel, project="somebackend")
    running = obstacle.start()
    obstacle.until_asked(running, f"/files/somebackend/{wheel.name}")
    return running


def held_at_ask(obstacle):
    obstacle.offer(ask=SLEEPS)
    running = obstacle.start()
    obstacle.until_runs(running, "/hook.py build")
    return running


def held_at_build(obstacle):
    obstacle.offer(c_source=SLOW_SOURCE, setup=SLOW_TO_COMPILE)
    running = obstacle.start()
    obstacle.until_runs(running, "cc1", "src/_slow.c")
    return running


def held_by_a_build_that_ignores_signals(obstacle):
    setup = (
        HELD + "import signal, sys, time\n"
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "if held and os.fork() == 0:\n"
        "    os.setsid()\n"
        "    os.execv(sys.executable, ['python', '-c', 'import time; time.sleep(600)', 'a-daemon'])\n"
        "time.sleep(600 * held)\n"
    )
    obstacle.offer(setup=setup)
    running = obstacle.start()
    obstacle.until_runs(running, "a-daemon")
    return running


def held_at_inspect(obstacle):
    obstacle.offer(c_source=SLOW_SOURCE, setup=SLOW_TO_LOAD)
    running = obstacle.start()
    obstacle.until_runs(running, "/hook.py load")
    return running


def held_at_upload(obstacle):
    files = {"slow.py": "VERSION = '1.0'\n", "large.bin": os.urandom(WHEEL_BYTES)}
    obstacle.offer(files=files)
    running = obstacle.start()
    running.until("slow 1.0: upload")
    return running


STEPS = (
    held_while_pypi_is_asked,
    held_at_fetch,
    held_at_a_trickling_fetch,
    held_at_prepare,
    held_at_the_fetch_of_a_requirement,
    held_at_ask,
    held_at_build,
    held_by_a_build_that_ignores_signals,
    held_at_inspect,
    held_at_upload,
)
ENDINGS = [
    *((held, signal.SIGINT) for held in STEPS),
    (held_at_build, signal.SIGTERM),
    (held_at_prepare, signal.SIGHUP),
    *((held, signal.SIGKILL) for held in (held_at_fetch, held_at_build, held_at_inspect, held_at_upload)),
]


@pytest.mark.parametrize(
    ("held", "number"), [pytest.param(*one, id=f"{one[0].__name__}-{one[1].name}") for one in ENDINGS]
)
def test_an_end_at_any_step_leaves_nothing_and_the_next_run_builds(command, made, held, number):
    obstacle = Obstacle(command, made)
    with held(obstacle) as running:
        family = running.descendants()
        ended = running.end(number)

        assert ended.code == (-number if number is signal.SIGKILL else 130), ended.err
        assert ended.took_s < SOON_S
        assert not still_there(family)
        assert "Traceback" not in ended.err
        assert ended.out == ""
        published = command.rows("select count(*) from wheel")[0][0]
        if held is held_at_upload:  # it may have been too late
            assert len(command.wheels()) in ((2,) if published else (0, 1, 2))
        else:
            assert not published
            assert command.wheels() == []
        if number is not signal.SIGKILL:
            assert command.builds() == []
            states = [state for (state,) in command.rows("select state from job")]
            assert states == [] if held is held_while_pypi_is_asked else states[0] in {"ready", "built"}

    obstacle.remove()
    begun = time.monotonic()
    again = command.standalone("slow", "--json")

    assert again.code == 0, again.err
    assert again.one()["outcome"] == "built"
    assert time.monotonic() - begun < 80
    assert command.builds() == []
    assert again.one()["wheel"] in command.wheels()


def test_a_second_ctrl_c_while_it_ends_changes_nothing(command, made):
    obstacle = Obstacle(command, made)
    with held_at_build(obstacle) as running:
        family = running.descendants()
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGINT)
        ended = running.end(signal.SIGINT)

    assert ended.code == 130
    assert ended.took_s < SOON_S
    assert "Traceback" not in ended.err
    assert not still_there(family)
    assert command.rows("select state from job") == [("ready",)]
    assert command.builds() == []


def test_ctrl_c_is_the_normal_end_of_keep(command, made):
    command.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    with command.start("standalone", "--keep", "little") as running:
        running.until("until Ctrl-C")
        ended = running.end(signal.SIGINT)

    assert ended.code == 0
    assert ended.took_s < SOON_S
    assert ended.err.endswith("until Ctrl-C.\n")
    assert not (command.data / "endpoint.json").exists()


def test_a_hook_whose_builder_is_gone_does_nothing(tmp_path):
    hook = Path(piwheels_node.builder.__file__).parent / "data" / "hook.py"
    read, write = os.pipe()
    os.close(read)

    ended = subprocess.run(
        [sys.executable, hook, "build", "{}"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)

    assert (ended.returncode, ended.stderr) == (1, "the builder is gone\n")
