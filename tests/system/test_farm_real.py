# SPDX-License-Identifier: BSD-3-Clause
"""Real packages of PyPI, built by a farm that is three networks of its own.

The networks of the farm lead nowhere else; so what it needs of PyPI is fetched before, and served to it by
a PyPI on the master's machine. `test_farm` covers the same path with home-made sdists.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib

import httpx
import pytest
from whole_farm import whole_farm_of

from piwheels_node.core.errors import PyPIError
from piwheels_node.master.pypi.index import PyPI

pytestmark = pytest.mark.pypi

PURE = ("six", "idna", "click")
NATIVE = ("spidev", "smbus", "RPi.GPIO")


def _fetch(directory):
    """The newest sdist of each project, and the wheels that their builds require."""
    pypi = PyPI(timeout_s=10, max_age_s=600)
    try:
        for name in (*PURE, *NATIVE):
            sdists = [
                one for one in pypi.project(name).files if one.is_sdist and not one.version.is_prerelease
            ]
            newest = max(sdists, key=lambda one: one.version)
            content = httpx.get(newest.url, follow_redirects=True, timeout=30).raise_for_status().content
            (directory / newest.filename).write_bytes(content)
            _download(_required(directory / newest.filename), directory)
    except (PyPIError, httpx.HTTPError) as error:
        pytest.skip(f"PyPI does not answer: {error}")
    finally:
        pypi.close()


def _required(sdist):
    """What pyproject.toml requires for a build; where there is none, what PEP 517 says."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            if member.name.count("/") == 1 and member.name.endswith("/pyproject.toml"):
                document = tomllib.loads(archive.extractfile(member).read().decode())
                return document.get("build-system", {}).get("requires", ["setuptools"])
    return ["setuptools"]


def _download(requirements, directory):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--only-binary", ":all:", "--dest", directory, *requirements, "wheel"], check=True)


@pytest.fixture
def whole_farm():
    with whole_farm_of(_fetch) as farm:
        yield farm
        farm.show()


def test_two_builders_build_real_packages_for_a_master_in_a_third_network(whole_farm, venv):
    ended = whole_farm.ask(*PURE, *NATIVE).end()
    assert ended.code == 0, ended.err
    assert {one["outcome"] for one in ended.results} == {"built"}
    built_by = "select builder.name from build join builder on builder.id = build.builder_id"
    assert {name for (name,) in whole_farm.rows(built_by)} == {"a", "b"}

    whole_farm.install("a", venv, *PURE, *NATIVE)
    assert venv.says("import six, click, spidev; print(spidev.SpiDev.__name__)") == "SpiDev"
    whole_farm.nothing_is_lost()
