# SPDX-License-Identifier: BSD-3-Clause
"""A whole farm: a master in one network namespace, two real builders that joined by token in two others.

The machines have nothing in common but cables, HTTPS and the join token.
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
from pathlib import Path

from fix_command import Running, clean_environ, until
from fix_network import CENTER, Network

from piwheels_node.builder.trust import pip_options

PROGRAM = [sys.executable, "-m", "piwheels_node.cli"]
PORT = 8443
URL = f"https://{CENTER}:{PORT}"
LEASE_S = 6.0
_SUPPORT = Path(__file__).parent
_PYPI = """
import sys, threading
from pathlib import Path
from fix_pypi import HomeMadePyPI
pypi = HomeMadePyPI(sys.argv[1])
for path in Path(sys.argv[2]).iterdir():
    pypi.add(path, project=path.name.split("-")[0] if path.suffix == ".whl" else path.name.rsplit("-", 1)[0])
print(pypi.index_url, flush=True)
threading.Event().wait()
"""


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
    """The master, a PyPI with the files of `served`, and builders called a and b."""

    def __init__(self, network, directory, stack, served):
        self.network = network
        self.master = Machine(network.center, directory / "center", stack)
        self.builders = {name: Machine(network.house(name), directory / name, stack) for name in ("a", "b")}
        paths = [str(_SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])]
        support = {**clean_environ(), "PYTHONPATH": os.pathsep.join(paths)}
        pypi = self.master.start(sys.executable, "-c", _PYPI, CENTER, served, environ=support)
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
        return machine.start(
            *(*PROGRAM, "-v", "builder", "run", "--data", machine.data, *self.settings),
            environ={**clean_environ(), "PIP_TRUSTED_HOST": CENTER, "PIP_CONFIG_FILE": os.devnull},
        )

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

    def show(self):
        """Print what the machines said last; pytest shows it where the test fails."""
        for name, service in {"master": self.service, **self.services}.items():
            sys.stdout.write(f"--- {name}\n{service.err[-4000:]}\n")

    def install(self, name, venv, *projects):
        """The machine of that builder installs them with pip, from the master's index."""
        certificate = self.master.data / "certificate.pem"
        pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir"]
        where = [
            "--python",
            venv.python,
            "install",
            *pip_options(certificate),
            "--index-url",
            f"{URL}/simple/",
        ]
        installed = self.builders[name].start(*pip, *where, *projects).end()
        assert installed.code == 0, installed.err


@contextlib.contextmanager
def whole_farm_of(make_files):
    """A master and two builders that run; `make_files(directory)` fills what their PyPI serves."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="piwheels-node-test-")))
        directory.chmod(0o755)
        served = directory / "served"
        served.mkdir()
        make_files(served)
        network = stack.enter_context(contextlib.closing(Network("a", "b")))
        yield WholeFarm(network, directory, stack, served)
