# SPDX-License-Identifier: BSD-3-Clause
"""What the installed package makes of sdists on ARM: run by `make test-armhf` in a Debian for armhf only."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fix_farm import Farm
from fix_pypi import HomeMadePyPI
from sdists import c_extension, make_sdist

import piwheels_node
from piwheels_node.builder.interpreter import probe
from piwheels_node.core.errors import PyPIError
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuildRequest
from piwheels_node.master.pypi.index import PyPI, default_index_url

ARMV6_ONLY = (
    "import subprocess\n"
    "real = subprocess.run\n"
    "def run(command, **words):\n"
    "    # Debian's own C runtime is ARMv7: without it the file is what the compiler makes, as on Raspbian.\n"
    "    return real([*command, '-march=armv6+fp', '-marm', '-nostdlib', '-nostartfiles'], **words)\n"
    "subprocess.run = run\n"
)
LINKED = (
    "import subprocess\n"
    "real = subprocess.run\n"
    "def run(command, **words):\n"
    "    return real([*command, '-Wl,--no-as-needed', '-lstdc++'], **words)\n"
    "subprocess.run = run\n"
)
HOST_MASTER = Path("/host-master")
"""What `beside-master` tells of a master outside."""


class SlowFarm(Farm):
    """A farm that is given time: emulated, all takes some ten times as long."""

    def wait(self, answer):
        """The job of an answer, when it has ended."""
        assert answer.job is not None, answer
        deadline = time.monotonic() + 1800
        while not (job := self.client.job(answer.job.job_id)).state.is_final:
            assert time.monotonic() < deadline, job
            time.sleep(0.5)
        return job

    def built(self, job):
        """The wheel that a job has made."""
        assert job.state is JobState.BUILT, (job, self.log(job))
        (wheel,) = self.client.project(job.project).wheels
        return wheel

    def install(self, project, place):
        """Install from the farm's index as a consumer does."""
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--root-user-action"]
        command += ["ignore", "--target", place, "--index-url", self.running.index_url, project]
        subprocess.run(command, check=True)


@pytest.fixture
def directory():
    """A directory that the account of package code can reach."""
    made = Path(tempfile.mkdtemp(prefix="armhf-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def armhf_farm(directory):
    """A farm of one ARM machine, in front of a home-made PyPI."""
    pypi = HomeMadePyPI()
    with SlowFarm(directory / "farm", pypi) as farm:
        yield farm
    pypi.close()


def test_this_is_a_32_bit_arm():
    target = probe().target

    assert struct.calcsize("P") == 4
    assert (target.abi, target.platform, target.release) == ("cp313", "linux_armv7l", "debian13")


def test_it_is_the_package_that_is_tested():
    assert piwheels_node.__file__ == "/usr/lib/python3/dist-packages/piwheels_node/__init__.py"


def test_home_made_sdists_become_wheels_for_the_right_arms(armhf_farm, directory):
    farm = armhf_farm

    pure = farm.built(farm.build(make_sdist(directory, "plain", "1.0")))
    source = c_extension("_tiny", prelude="#include <stdio.h>\nvoid say(void) { puts(__func__); }")
    native = farm.built(farm.build(make_sdist(directory, "tiny", "1.0", c_source=source)))
    sdist = make_sdist(directory, "linked", "1.0", c_source=c_extension("_linked"), setup=LINKED)
    linked = farm.built(farm.build(sdist))
    sdist = make_sdist(directory, "old", "1.0", c_source=c_extension("_old"), setup=ARMV6_ONLY)
    old = farm.built(farm.build(sdist))

    assert pure.filename == "plain-1.0-py3-none-any.whl"
    assert native.filename == "tiny-1.0-cp313-cp313-linux_armv7l.whl"
    assert native.libraries == {"libc.so.6": "libc6"}
    assert linked.libraries == {"libc.so.6": "libc6", "libstdc++.so.6": "libstdc++6"}
    assert old.filename == "old-1.0-cp313-cp313-linux_armv6l.linux_armv7l.whl"
    farm.install("tiny", directory / "installed")
    check = "import _tiny; assert _tiny.answer() == 42"
    subprocess.run([sys.executable, "-c", check], cwd=directory / "installed", check=True)


def test_a_real_package_becomes_a_wheel(directory):
    pypi = PyPI()
    try:
        pypi.project("markupsafe")
    except PyPIError as error:
        pytest.skip(f"no PyPI: {error}")
    finally:
        pypi.close()
    with SlowFarm(directory / "farm", SimpleNamespace(index_url=default_index_url())) as farm:
        answer = farm.client.request(BuildRequest(project="markupsafe", force=True))
        wheel = farm.built(farm.wait(answer))

        assert "-cp313-cp313-linux_armv7l.whl" in wheel.filename
        assert wheel.libraries["libc.so.6"] == "libc6"
        farm.install("markupsafe", directory / "installed")
        said = subprocess.run(
            [sys.executable, "-c", "import markupsafe._speedups, platform; print(platform.machine())"],
            cwd=directory / "installed",
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout == "armv7l\n"


def run(*words, may_fail=False):
    """Run a command that must succeed; gives what it prints."""
    done = subprocess.run(list(map(str, words)), check=False, stdout=subprocess.PIPE, text=True)
    assert may_fail or done.returncode == 0, (words, done.stdout)
    return done.stdout


def ask_outside(project):
    """Ask the master outside for a project, as soon as it knows of a builder; gives the result."""
    url = (HOST_MASTER / "url").read_text().strip()
    ask = ["--master", url, "--key-file", HOST_MASTER / "operator.key"]
    ask += ["--certificate", HOST_MASTER / "certificate.pem", "--json", project]
    deadline = time.monotonic() + 300
    while True:
        (result,) = json.loads(run("piwheels-node", "build", *ask, may_fail=True))
        if "no builder has joined" not in (result["message"] or ""):
            return result
        assert time.monotonic() < deadline, result
        time.sleep(1)


def test_a_master_elsewhere_gets_a_real_wheel_that_pip_installs_from_it(directory):
    node, data = "piwheels-node", directory / "builder"
    url, token = ((HOST_MASTER / name).read_text().strip() for name in ("url", "token"))
    run(node, "builder", "join", url, token, "--name", "arm", "--data", data)
    with subprocess.Popen([node, "builder", "run", "--data", data]) as builder:
        try:
            built = ask_outside("spidev")
        finally:
            builder.terminate()
    assert builder.returncode == 0
    assert built["outcome"] == "built", built
    assert built["wheel"].endswith("-cp313-cp313-linux_armv7l.whl")

    run(node, "pip", "enable", "--data", data)
    place = directory / "installed"
    said = run("pip", "install", "--no-deps", "--only-binary", ":all:", "--target", place, "spidev")

    assert f"{url}/files/spidev/" in said
    check = [sys.executable, "-c", "import spidev; print(spidev.SpiDev.__name__)"]
    assert subprocess.run(check, cwd=place, capture_output=True, text=True, check=True).stdout == "SpiDev\n"
