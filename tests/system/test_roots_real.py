# SPDX-License-Identifier: BSD-3-Clause
"""`make test-roots`: a real root of Debian trixie, and real packages that fail for want of a Debian package.

Each must fail with the right package named, and be built on the second round, by itself, in the root. It
takes minutes and the network, so it is run where TEST_ROOTS is set; that may be a directory to keep roots in.
"""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

WANTED = {
    "python-prctl": ("missing-library", "libcap-dev", "libcap2"),
    "pycups": ("missing-header", "libcups2-dev", "libcups2t64"),
    "psycopg2": ("missing-tool", "libpq-dev", "libpq5"),
}
_BUILDS = """
    SELECT project.name AS project, build.id, outcome, reason, debian_package, environment FROM build
    JOIN job ON job.id = build.job_id JOIN release ON release.id = job.release_id
    JOIN project ON project.id = release.project_id ORDER BY build.id
"""
_LIBRARIES = """
    SELECT wheel_library.* FROM wheel_library JOIN wheel ON wheel.id = wheel_library.wheel_id
    WHERE wheel.build_id = ?
"""

pytestmark = [
    pytest.mark.skipif(not os.environ.get("TEST_ROOTS"), reason="takes minutes: make test-roots"),
    pytest.mark.timeout(1800),
]
ENVIRON = {key: value for key, value in os.environ.items() if not key.startswith("PIWHEELS_NODE_")}


def program(*words):
    command = [sys.executable, "-m", "piwheels_node.cli", *map(str, words)]
    environ = {**ENVIRON, "PIWHEELS_NODE_BUILDER_ROOTS": "trixie"}
    done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def data(open_tmp_path):
    """A data directory whose builder has a root of trixie: a kept one where TEST_ROOTS names a directory."""
    directory, kept = open_tmp_path / "farm", Path(os.environ["TEST_ROOTS"])
    if kept.is_absolute():
        kept.mkdir(parents=True, exist_ok=True)
        (directory / "builder").mkdir(parents=True)
        (directory / "builder" / "roots").symlink_to(kept)
    made = json.loads(program("builder", "root", "list", "--json", "--data", directory))
    if "trixie" not in [root["name"] for root in made]:
        program("builder", "root", "create", "trixie", "--release", "trixie", "--data", directory)
    return directory


def host_state():
    """What must be the same afterwards: what dpkg has, apt's lists and archives, mounts."""
    places = ("/var/lib/dpkg", "/var/lib/apt/lists", "/var/cache/apt/archives", "/usr/include", "/usr/lib")
    times = {place: os.stat(place).st_mtime_ns for place in places}
    return times, Path("/var/lib/dpkg/status").read_bytes(), Path("/proc/mounts").read_text()


def rows(data, statement, *values):
    with closing(sqlite3.connect(data / "database.sqlite")) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(statement, values)]


def test_real_packages_get_what_they_lack_in_a_root_of_another_debian(data):
    before = host_state()
    results = json.loads(program("standalone", "--data", data, "--force", "--json", *WANTED))

    builds = rows(data, _BUILDS)
    for project, (reason, package, library) in WANTED.items():
        first, second = (row for row in builds if row["project"] == project)
        assert (first["outcome"], first["reason"], first["debian_package"]) == ("failed", reason, package)
        assert second["outcome"] == "built"
        environment = json.loads(second["environment"])
        assert environment["root"].startswith("trixie:")
        assert any(layer.startswith(f"{package}=") for layer in environment["layers"])
        assert library in [value for row in rows(data, _LIBRARIES, second["id"]) for value in row.values()]
    assert all("-cp313-cp313-linux_" in result["wheel"] for result in results)
    assert host_state() == before
