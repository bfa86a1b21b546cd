# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node build` against a running `standalone --keep`; and the happy path of an ordinary user."""

from __future__ import annotations

import signal

import pytest
from fix_command import until
from sdists import c_extension, make_sdist, make_wheel

SLEEPS = "import os, time; time.sleep(600 * (os.environ['CARGO_BUILD_JOBS'] == '7'))"


@pytest.fixture
def serving(command):
    """A master that serves."""
    with command.start("standalone", "--keep", "--set", "builder.jobs=7") as running:
        running.until("until Ctrl-C")
        yield command
        assert running.end(signal.SIGINT).code == 0


def test_a_running_master_is_asked_and_says_how_each_ended(serving, made):
    serving.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    serving.pypi.add(make_sdist(made, "broken", "1.0", setup="raise SystemExit(1)"), project="broken")
    serving.pypi.add(make_sdist(made, "served", "1.0"), project="served")
    serving.pypi.add(make_wheel(made, "served", "1.0"), project="served")

    ended = serving.run("build", "little", "broken", "served", "absent", "--json")
    assert ended.code == 3
    assert [one["outcome"] for one in ended.results] == ["built", "failed", "covered", "failed"]
    assert ended.results[3]["reason"] == "not-on-pypi"

    again = serving.run("build", "little")
    assert again.code == 0
    assert "built before" in again.out
    assert "\nlittle 1.0" in again.out

    forced = serving.run("build", "served", "--force", "--json")
    assert forced.code == 0
    assert forced.one()["wheel"] == "served-1.0-1-py3-none-any.whl"


def test_ctrl_c_while_waiting_leaves_the_job_running(serving, made):
    serving.pypi.add(make_sdist(made, "slow", "1.0", setup=SLEEPS), project="slow")
    with serving.start("build", "slow") as waiting:
        waiting.until("slow 1.0: build")
        ended = waiting.end(signal.SIGINT)

    assert ended.code == 130
    assert ended.took_s < 20
    assert "Traceback" not in ended.err
    assert serving.rows("select state from job") == [("leased",)]


def test_a_wrong_key_and_no_key_are_refused(serving, made):
    wrong = serving.directory / "wrong.key"
    wrong.write_text("pwn_wrong\n")

    ended = serving.run("build", "little", "--key-file", str(wrong))
    assert ended.code == 3
    assert "does not know this key" in ended.err
    assert "pwn_wrong" not in ended.err

    ended = serving.run("build", "little", "--key-file", str(serving.directory / "none.key"))
    assert ended.code == 3
    assert "cannot be read: No such file" in ended.err
    assert str(serving.directory / "none.key") in ended.err

    wrong.write_text("two words\nand a line\n")
    ended = serving.run("build", "little", "--key-file", str(wrong))
    assert ended.code == 3
    assert "Traceback" not in ended.err


def test_no_master_is_refused(command):
    ended = command.run("build", "little")
    assert ended.code == 3
    assert "no master is running on this directory" in ended.err
    assert f"standalone --keep --data {command.data}" in ended.err


def test_a_master_that_was_killed_is_not_there(command):
    with command.start("standalone", "--keep") as running:
        running.until("until Ctrl-C")
        running.end(signal.SIGKILL)

    ended = command.run("build", "little")

    assert ended.code == 3
    assert "does not answer" in ended.err
    assert "Traceback" not in ended.err


def test_an_ordinary_user_builds_and_the_second_run_is_quick(ordinary, made):
    ordinary.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    ordinary.pypi.add(make_sdist(made, "tiny", "1.0", c_source=c_extension("_tiny")), project="tiny")

    first = ordinary.standalone("little", "tiny")
    assert first.code == 0, first.err
    assert first.out.splitlines()[0].split() == ["package", "outcome", "time", "size", "wheel"]
    assert first.out.count(" built ") == 2
    assert until(lambda: not ordinary.builds(), "no build left")

    second = ordinary.standalone("little", "tiny")
    assert second.code == 0
    assert second.out.count(" built before ") == 2
    assert (ordinary.data / "keys" / "operator.key").stat().st_mode & 0o777 == 0o600
