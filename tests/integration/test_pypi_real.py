# SPDX-License-Identifier: BSD-3-Clause
"""Real packages from the index that pip uses: built by a real farm, installed by the real pip.

Skipped where that index does not answer: the same paths are covered by home-made sdists in
`test_standalone` and `test_reasons`.
"""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from awkward import AWKWARD, NEW, OLD
from fix_farm import Farm
from packaging.utils import canonicalize_name
from test_explain import explained

from piwheels_node.core.errors import PyPIError
from piwheels_node.core.failure import FailureReason as Reason
from piwheels_node.core.jobs import JobState
from piwheels_node.master.pypi.index import PyPI, default_index_url

pytestmark = pytest.mark.pypi

ANSWERS_WITHIN_S = 5
WATCHED = "spidev RPi.GPIO lgpio smbus2 gpiozero pigpio rpi-ws281x sense-hat luma.oled w1thermsensor"


@pytest.fixture(scope="module")
def index_url():
    """The index that pip uses, where it answers."""
    try:
        url = default_index_url()
        httpx.get(
            f"{url.rstrip('/')}/spidev/", timeout=ANSWERS_WITHIN_S, follow_redirects=True
        ).raise_for_status()
    except (PyPIError, httpx.HTTPError) as error:
        pytest.skip(f"PyPI does not answer: {error}")
    return url


@pytest.fixture
def farm(open_tmp_path, index_url):
    """A farm in front of the real PyPI, found as a user's is: by asking pip."""
    farm = Farm(open_tmp_path / "farm", SimpleNamespace(index_url=index_url))
    farm.settings = dataclasses.replace(
        farm.settings, pypi=dataclasses.replace(farm.settings.pypi, index_url="")
    )
    with farm:
        yield farm


def test_spidev_is_built_and_installed(farm, venv):
    job = farm.wait(farm.ask("spidev"))
    venv.pip(farm, "--only-binary", ":all:", "spidev")

    assert job.state is JobState.BUILT, farm.log(job)
    assert venv.says("import spidev; print(spidev.SpiDev.__name__)") == "SpiDev"


@pytest.mark.skipif(Path("/usr/include/cups/http.h").exists(), reason="the headers of CUPS are installed")
def test_pycups_names_the_header_and_its_debian_package(farm):
    build = farm.wait(farm.ask("pycups")).build

    assert (build.reason, build.captured) == (Reason.MISSING_HEADER, "cups/http.h")
    assert build.debian_package == "libcups2-dev"


@pytest.fixture
def watching(open_tmp_path, index_url):
    """A farm that watches ten packages of Raspberry Pis."""
    farm = Farm(open_tmp_path / "farm", SimpleNamespace(index_url=index_url))
    farm.settings = dataclasses.replace(
        farm.settings, pypi=dataclasses.replace(farm.settings.pypi, follow="watch", watch=WATCHED)
    )
    with farm:
        yield farm


def test_what_is_missing_of_ten_packages_is_planned_and_built(watching):
    client, wanted = watching.client, {canonicalize_name(name) for name in WATCHED.split()}

    def until(holds):
        deadline = time.monotonic() + 240
        while not (found := holds()):
            assert time.monotonic() < deadline, (client.sync(), client.status())
            time.sleep(0.2)
        return found

    def is_planned():
        told = client.sync()
        return told.projects == len(wanted) and [walk.done for walk in told.walks] == [True]

    until(is_planned)
    plans = [client.plan(name) for name in sorted(wanted)]
    verdicts = {one.name: [target.verdict for target in one.releases[0].targets] for one in plans}
    jobs = until(lambda: [job for job in client.jobs(JobState.BUILT) if job.project in wanted])

    assert verdicts.keys() == wanted
    for name, found in verdicts.items():
        assert set(found) <= {"covered", "made", "under-way", "failed", "refused"}, name
    made = {job.build.wheel: job for job in jobs if job.build}
    assert made
    for wheel, job in made.items():
        listed = httpx.get(f"{watching.running.index_url}{job.project}/", follow_redirects=True).text
        assert wheel in listed
    for plan in plans:  # and nothing is built that PyPI has for this machine
        covered = {
            one.version for one in plan.releases for target in one.targets if target.verdict == "covered"
        }
        assert not covered & {job.version for job in client.jobs(limit=500) if job.project == plan.name}


@pytest.fixture
def pypi_itself(index_url):
    """Asks the index that pip uses."""
    pypi = PyPI(index_url)
    yield pypi
    pypi.close()


def test_what_is_said_of_awkward_projects_is_true(pypi_itself, sqlite_database):
    with ThreadPoolExecutor(8) as threads:
        projects = list(threads.map(lambda case: pypi_itself.project(case.project), AWKWARD))

    told = [
        explained(sqlite_database, project, case.version)
        for project, case in zip(projects, AWKWARD, strict=True)
    ]
    wrong = [
        (case.project, said)
        for case, said in zip(AWKWARD, told, strict=True)
        if not (said[OLD].startswith(case.old) and said[NEW].startswith(case.new))
    ]
    assert wrong == []
