# SPDX-License-Identifier: BSD-3-Clause
"""`libs` on a real virtual environment with wheels that lack libraries, before a real master's index."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from elfs import make_elf
from fix_command import clean_environ
from fix_master import FarmOfOne
from fix_pypi import HomeMadePyPI
from sdists import make_wheel

from piwheels_node.core.errors import EXIT_FAILED, EXIT_OK
from piwheels_node.core.jobs import Outcome

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the master's target here is x86_64"),
    pytest.mark.skipif(not shutil.which("apt-cache"), reason="not a Debian"),
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A master with a wheel whose libraries it knows."""
    pypi = HomeMadePyPI()
    farm = FarmOfOne(tmp_path_factory.mktemp("shelf") / "master", pypi)
    lease = farm.leased("needy", "1.0")
    libraries = {"libc.so.6": "libc6", "libnobody.so.7": "zlib1g", "libplugin.so.1": None}
    files = {"needy/x.abi3.so": extension("libnobody.so.7", "libplugin.so.1")}
    wheel = farm.wheel("needy", "1.0", files=files, tags="cp311-abi3-linux_x86_64")
    assert farm.hand_in(lease, wheel, libraries=libraries).outcome is Outcome.BUILT
    yield farm
    farm.close()
    pypi.close()


@pytest.fixture
def venv(tmp_path):
    """A virtual environment in which wheels are unpacked, as pip does."""
    place = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (packages,) = place.glob("lib/python*/site-packages")

    class Venv:
        python = place / "bin" / "python"

        def install(self, name, **files):
            unpacked = {key.replace("__", "/"): body for key, body in files.items()}
            with zipfile.ZipFile(make_wheel(tmp_path, name, "1.0", files=unpacked)) as archive:
                archive.extractall(packages)

    return Venv()


def extension(*needed, **more):
    return make_elf(needed=["libc.so.6", *needed], exports=["PyInit_x"], **more)


def libs(*words, **environ):
    return subprocess.run(
        [sys.executable, "-m", "piwheels_node.cli", "libs", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=clean_environ(**environ),
    )


def test_what_is_missing_is_told_with_the_package_that_the_index_knows(shelf, venv):
    venv.install("needy", **{"needy__x.so": extension("libnobody.so.7", "libz.so.1")})
    venv.install("content", **{"content__x.so": extension("libz.so.1")})
    done = libs("check", "--index", shelf.url, "--python", str(venv.python), "--json")

    assert done.returncode == EXIT_FAILED, done.stderr
    assert json.loads(done.stdout) == [
        {"project": "needy", "version": "1.0", "soname": "libnobody.so.7", "package": "zlib1g"}
    ]


def test_a_library_of_the_wheel_or_of_another_one_is_not_missing(shelf, venv):
    inside = make_elf(soname="libinside.so.1")
    venv.install("giver", **{"giver__libinside.so.1": inside})
    venv.install("taker", **{"taker__x.so": extension("libinside.so.1", runpath="$ORIGIN/../giver")})
    done = libs("check", "--index", shelf.url, VIRTUAL_ENV=str(venv.python.parents[1]))

    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    assert "2 packages" in done.stderr


def test_a_library_that_nobody_knows_is_told_as_such(shelf, venv):
    venv.install("odd", **{"odd__x.so": extension("libodd-and-unknown.so.3")})
    done = libs("check", "--index", shelf.url, "--python", str(venv.python))

    assert done.returncode == EXIT_FAILED
    assert done.stdout == "odd 1.0: libodd-and-unknown.so.3 is missing, no Debian package of it is known\n"


def test_an_index_that_is_away_is_no_reason_to_say_nothing(venv):
    venv.install("needy", **{"needy__x.so": extension("libnobody.so.7")})
    done = libs("check", "--index", "http://127.0.0.1:1/", "--python", str(venv.python))

    assert done.returncode == EXIT_FAILED
    assert "libnobody.so.7 is missing" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="apt-get is for root")
def test_what_is_not_installed_yet_is_asked_of_the_index(shelf, venv, tmp_path):
    stand_in = tmp_path / "apt-get"  # the real one would change the machine that tests
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    words = ["--index", shelf.url, "--python", str(venv.python), "--yes"]
    done = libs("install", "Needy", "unheard-of", *words, PATH=path)

    assert done.returncode == EXIT_OK, done.stderr
    assert done.stdout == "install --yes -- zlib1g\n"
    assert "needy 1.0: libnobody.so.7 is missing, in zlib1g" in done.stderr
    assert "unheard-of: not installed, and the index has no wheel" in done.stderr


def test_a_python_that_is_not_there_is_said(tmp_path):
    done = libs("check", "--python", str(tmp_path / "python"))

    assert done.returncode == EXIT_FAILED
    assert "there is no Python here" in done.stderr
    assert not Path(tmp_path / "python").exists()
