# SPDX-License-Identifier: BSD-3-Clause
"""`status` and `doctor` as commands, before a master that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from fix_command import Running, clean_environ
from fix_master import FarmOfOne

from piwheels_node.core.places import ENDPOINT

NODE = [sys.executable, "-m", "piwheels_node.cli"]


@pytest.fixture
def farm(tmp_path, pypi):
    """A master with a wheel in its index, whose directory says where it is."""
    made = FarmOfOne(tmp_path / "master", pypi)
    (made.data / ENDPOINT).write_text(json.dumps({"url": made.url}))
    made.publish()
    yield made
    made.close()


def run(*words, **environ):
    done = subprocess.run(
        [*NODE, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=clean_environ(**environ),
    )
    assert "Traceback" not in done.stderr
    return done


def test_status_tells_of_the_master_of_this_machine(farm):
    told = json.loads(run("status", "--data", str(farm.data), "--json").stdout)

    assert "master" in told["roles"]
    (master,) = told["masters"]
    assert (master["url"], master["error"], master["status"]["wheels"]) == (farm.url, None, 1)
    assert master["jobs"][0]["build"]["outcome"] == "built"


def test_watch_prints_what_changes_until_it_is_told_to_end(farm, tmp_path):
    words = [*NODE, "status", "--data", str(farm.data), "--watch", "--interval", "0.1"]
    with Running(words, tmp_path, clean_environ(PYTHONUNBUFFERED="1")) as watching:
        watching.until_true(lambda: "answers: 1 wheels" in watching.out, "the first look")
        farm.publish(version="1.1")
        watching.until_true(lambda: "answers: 2 wheels" in watching.out, "the change")
        ended = watching.end(signal.SIGINT)

    assert ended.code == 130
    assert ended.out.count("roles ") == 1
    assert ended.err.strip() == ""


def test_doctor_finds_the_index_well_and_says_what_is_not(farm, tmp_path):
    words = ["doctor", "--index", farm.url, "--data", str(tmp_path)]
    done = run(*words, "--json", HOME=str(tmp_path), PIP_EXTRA_INDEX_URL=farm.index_url)
    told = {one["check"]: one for one in json.loads(done.stdout)}

    assert told["index"]["severity"] == "ok"
    assert told["pip"]["severity"] in {"ok", "problem"}  # what is broken on this machine is its own affair
    assert told["versions"]["what"].startswith("piwheels-node ")
    worst = {"ok": 0, "note": 0, "warning": 1, "problem": 3}
    assert done.returncode == max(worst[one["severity"]] for one in json.loads(done.stdout))


def test_doctor_says_what_to_try_where_nobody_answers(tmp_path):
    done = run("doctor", "--index", "http://127.0.0.1:1", "--data", str(tmp_path), HOME=str(tmp_path))

    assert done.returncode == 3
    assert "PROBLEM  index: the index does not answer" in done.stdout
    assert "try: is the master running" in done.stdout
    assert os.listdir(tmp_path) == []
