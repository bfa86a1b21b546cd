# SPDX-License-Identifier: BSD-3-Clause
"""A whole farm: a master in one network namespace, two real builders that joined by token in two others.

The machines have nothing in common but cables, HTTPS and the join token; cables are pulled out and put in
again while they build and upload.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fix_command import Running, clean_environ, until
from fix_network import CENTER, Network
from sdists import c_extension, make_sdist

from piwheels_node.builder.trust import pip_options

PROGRAM = [sys.executable, "-m", "piwheels_node.cli"]
PORT = 8443
URL = f"https://{CENTER}:{PORT}"
LEASE_S = 6.0
_SUPPORT = Path(__file__).parents[1] / "support"
_PYPI = """
import sys, threading
from pathlib import Path
from fix_pypi import HomeMadePyPI
pypi = HomeMadePyPI(sys.argv[1])
for path in Path(sys.argv[2]).iterdir():
    pypi.add(path, project=path.name.rsplit("-", 1)[0])
print(pypi.index_url, flush=True)
threading.Event().wait()
"""
_SLOW = "import time; print('slow', flush=True); time.sleep(5)"
_LARGE = "import random; open('src/data', 'wb').write(random.Random(1).randbytes(3_000_000))"


class Machine:
    """A machine of the farm: its house, and the directory with its data."""

    def __init__(self, house, directory, stack):
        self.house = house
        self.directory = directory
        self.data = directory / "data"
        self._stack = stack
        directory.mkdir()

    def start(self, *words, environ=None):
        """Start a program there; it ends with the test."""
        environ = environ or clean_environ()
        for name in [name for name in environ if name.lower().endswith(("_proxy", "_ca_bundle"))]:
            del environ[name]
        running = Running(self.house.words([str(word) for word in words]), self.directory, environ)
        return self._stack.enter_context(running)

    def run(self, *words):
        """Run our command there; gives what it prints."""
        ended = self.start(*PROGRAM, *words).end()
        assert ended.code == 0, ended.err
        return ended.out


class WholeFarm:
    """The master, its PyPI, and builders called a and b."""

    def __init__(self, network, directory, stack):
        self.network = network
        self.master = Machine(network.center, directory / "center", stack)
        self.builders = {name: Machine(network.house(name), directory / name, stack) for name in ("a", "b")}
        sdists = directory / "sdists"
        sdists.mkdir()
        _make_sdists(sdists)
        paths = [str(_SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
        support = {**clean_environ(), "PYTHONPATH": os.pathsep.join(paths)}
        pypi = self.master.start(sys.executable, "-c", _PYPI, CENTER, sdists, environ=support)
        pypi.until_true(lambda: pypi.out.endswith("\n"), "the URL of the PyPI")
        self.settings = ["--set", f"pypi.index_url={pypi.out.strip()}", "--set", "pypi.max_age_s=0"]
        self._open()
        self.services = {name: self._join(name) for name in self.builders}

    def _open(self):
        data = ["--data", self.master.data]
        said = self.master.run("master", "init", *data, "--host", CENTER, "--name", CENTER, "--no-user")
        self.token = re.search(r"builder join \S+ (\S+)", said)[1]
        lease = ["--set", f"master.lease_s={LEASE_S}", "--set", "master.retry_delay_s=0.5"]
        where = ["--host", CENTER, "--port", PORT]
        self.service = self.master.start(*PROGRAM, "master", "run", *data, *where, *lease, *self.settings)
        until(lambda: self.status() is not None, f"the master: {self.service.err}")

    def _join(self, name):
        machine = self.builders[name]
        token = json.loads(self.master.run("master", "token", "new", "--data", self.master.data, "--json"))
        machine.run("builder", "join", URL, token["token"], "--name", name, "--data", machine.data)
        return machine.start(*PROGRAM, "-v", "builder", "run", "--data", machine.data, *self.settings)

    def status(self):
        """The builders, as the master lists them; None where it does not answer."""
        ended = self.master.start(*PROGRAM, "master", "builders", "--json", "--data", self.master.data).end()
        return {one["name"]: one for one in json.loads(ended.out)} if ended.code == 0 else None

    def ask(self, *names):
        """Ask for builds; gives the command, which goes on until they have ended."""
        return self.master.start(*PROGRAM, "build", *names, "--json", "--data", self.master.data)

    def who_builds(self, project, step="build"):
        """The name of the builder that is at this step of the project; None where nobody is."""
        held = self.rows(
            "select builder.name from job join builder on builder.id = job.builder_id"
            " join release on release.id = job.release_id join project on project.id = release.project_id"
            f" where job.state = 'leased' and job.step = '{step}' and project.name = '{project}'"
        )
        return held[0][0] if held else None

    def rows(self, query):
        with contextlib.closing(sqlite3.connect(self.master.data / "database.sqlite")) as database:
            return database.execute(query).fetchall()

    def job(self, project, columns="attempts, losses"):
        """What the database says of a project's job."""
        (row,) = self.rows(
            f"select {columns} from job join release on release.id = job.release_id"
            f" join project on project.id = release.project_id where project.name = '{project}'"
        )
        return row

    def nothing_is_lost(self):
        """Each job was built once, each wheel has its bytes, no lease is left."""
        built = "(select count(*) from build where job_id = job.id and outcome = 'built')"
        assert set(self.rows(f"select state, lease_token, {built} from job")) == {("built", None, 1)}
        for filename, sha256 in self.rows("select filename, sha256 from wheel"):
            (path,) = (self.master.data / "wheels").rglob(filename)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _make_sdists(place):
    for number in range(4):
        make_sdist(place, f"pure{number}", "1.0")
    make_sdist(place, "native", "1.0", c_source=c_extension("_native"))
    for name in ("slow", "slower"):
        make_sdist(place, name, "1.0", setup=_SLOW)
    make_sdist(place, "later", "1.0")
    make_sdist(place, "large", "1.0", setup=_LARGE)


@pytest.fixture(scope="module")
def whole_farm():
    """A master and two builders that run, for all tests of this module."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="piwheels-node-test-")))
        directory.chmod(0o755)
        network = stack.enter_context(contextlib.closing(Network("a", "b")))
        yield WholeFarm(network, directory, stack)


@pytest.fixture(autouse=True)
def _shown(request, whole_farm):
    """Where a test fails pytest shows what the machines said."""
    yield
    for name, service in {"master": whole_farm.service, **whole_farm.services}.items():
        sys.stdout.write(f"--- {name}\n{service.err[-4000:]}\n")


def test_builders_in_other_networks_build_what_pip_installs(whole_farm, venv):
    names = ["native", *(f"pure{number}" for number in range(4))]
    ended = whole_farm.ask(*names).end()
    assert ended.code == 0, ended.err
    assert {one["outcome"] for one in ended.results} == {"built"}
    assert set(whole_farm.status()) == {"a", "b"}

    certificate = whole_farm.master.data / "certificate.pem"
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir"]
    where = ["--python", venv.python, "install", *pip_options(certificate), "--index-url", f"{URL}/simple/"]
    installed = whole_farm.builders["b"].start(*pip, *where, *names).end()
    assert installed.code == 0, installed.err
    assert venv.says("import _native, pure3; print(_native.answer(), pure3.VERSION)") == "42 1.0"
    whole_farm.nothing_is_lost()


def test_a_cable_out_for_less_than_a_lease_costs_nothing(whole_farm):
    asked = whole_farm.ask("slow")
    name = until(lambda: whole_farm.who_builds("slow"), "a builder that builds it")
    whole_farm.network.cut(name)
    time.sleep(LEASE_S / 2)
    whole_farm.network.mend(name)

    ended = asked.end()
    assert ended.code == 0, ended.err
    assert whole_farm.job("slow") == (1, 0)
    whole_farm.nothing_is_lost()


def test_a_cable_out_for_longer_than_a_lease_gives_the_job_to_the_other(whole_farm):
    asked = whole_farm.ask("slower")
    first = until(lambda: whole_farm.who_builds("slower"), "a builder that builds it")
    whole_farm.network.cut(first)
    second = until(lambda: whole_farm.who_builds("slower") not in {None, first}, "the other builder")
    assert second
    whole_farm.network.mend(first)

    ended = asked.end()
    assert ended.code == 0, ended.err
    assert whole_farm.job("slower") == (2, 1)
    until(lambda: "given back" in whole_farm.services[first].err, "the first to give up")
    whole_farm.nothing_is_lost()
    again = whole_farm.ask("later").end()
    assert again.code == 0, again.err


def test_a_cable_pulled_out_in_the_middle_of_an_upload_is_no_loss(whole_farm):
    for name in whole_farm.builders:
        whole_farm.network.slow_down(name, "4mbit")  # 3 MB take 6 s
    asked = whole_farm.ask("large")
    incoming = whole_farm.master.data / "incoming"

    def arriving():
        return sum(path.stat().st_size for path in incoming.glob("*.part"))

    until(lambda: arriving() > 500_000, "the beginning of the wheel")
    name = until(lambda: whole_farm.who_builds("large", step="upload"), "the builder that uploads")
    whole_farm.network.cut(name)
    time.sleep(2)
    before = arriving()
    whole_farm.network.mend(name)

    ended = asked.end()
    assert 0 < before < 3_000_000
    assert ended.code == 0, ended.err
    whole_farm.nothing_is_lost()
