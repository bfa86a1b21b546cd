# SPDX-License-Identifier: BSD-3-Clause
"""A farm of one machine on loopback, in front of the home-made PyPI: real master, builder and sandbox."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from piwheels_node.builder.interpreter import probe
from piwheels_node.core.messages import BuildRequest
from piwheels_node.core.settings import BuilderSettings, Settings
from piwheels_node.standalone import Standalone


class Farm:
    """What a test does with a farm: offer an sdist, have it built, look at the outcome."""

    def __init__(self, data, pypi, *, layers=False, **builder):
        """`layers`: Debian packages are added to builds; not from the mirror of whoever runs the tests."""
        self.data = data
        self.pypi = pypi
        settings = Settings()
        self.settings = dataclasses.replace(
            settings,
            pypi=dataclasses.replace(settings.pypi, index_url=pypi.index_url, max_age_s=0.0),
            builder=dataclasses.replace(BuilderSettings(), layers=layers, **builder),
        )
        self.running = None
        self.client = None

    def __enter__(self):
        self.running = Standalone(self.data, self.settings).__enter__()
        self.client = self.running.client()
        return self

    def __exit__(self, *error):
        self.client.close()
        self.running.__exit__(*error)

    def build(self, sdist, *, force=False, **offer):
        """Offer an sdist and have it built; gives the job when it has ended."""
        project = sdist.name.rsplit("-", 1)[0].replace("_", "-")
        self.pypi.add(sdist, project=project, **offer)
        return self.wait(self.client.request(BuildRequest(project=project, force=force)))

    def ask(self, project, **words):
        """The answer to a request."""
        return self.client.request(BuildRequest(project=project, **words))

    def rows(self, statement, *values):
        """Rows of the farm's database, as dictionaries."""
        with contextlib.closing(sqlite3.connect(self.data / "database.sqlite")) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(statement, values)]

    def published(self, filename):
        """The bytes of a wheel in the store."""
        return next((self.data / "wheels").rglob(filename)).read_bytes()

    def wait(self, answer):
        """The job of an answer, when it has ended."""
        assert answer.job is not None, answer
        deadline = time.monotonic() + 120
        while not (job := self.client.job(answer.job.job_id)).state.is_final:
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
        if job.build and job.build.reason:  # pytest shows it where a test fails
            sys.stdout.write(f"{job.build.model_dump_json(indent=1)}\n{self.log(job)[-5000:]}\n")
        return job

    def rooms(self):
        """The directories of builds that there are now, in memory and on the disk."""
        builder = self.data / "builder"
        memory = Path((builder / "memory").read_text())
        return [*memory.iterdir(), *(builder / "builds").iterdir()]

    def log(self, job):
        """The log of a job's newest build."""
        return self.client.log(job.job_id).decode(errors="replace")


class Venv:
    """A fresh virtual environment of the farm's target, into which the real pip and uv install."""

    def __init__(self, path, python):
        self.python = path / "bin" / "python"
        subprocess.run([python, "-m", "venv", "--without-pip", str(path)], check=True)
        self._environ = {
            key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))
        }

    def pip(self, farm, *names):
        """`pip install --extra-index-url`, as a person with a farm calls it; gives what pip says."""
        pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir"]
        return self._run(*pip, "--python", str(self.python), "install", *_indexes(farm), *names)

    def uv(self, farm, *names):
        """`uv pip install --extra-index-url`; uv takes a project from the first index that has it."""
        uv = shutil.which("uv", path=str(Path(sys.executable).parent))
        assert uv, "uv is in the environment of the tests"
        options = ["--python", str(self.python), "--no-cache", "--no-config", "--no-build"]
        return self._run(uv, "pip", "install", *options, *_indexes(farm), *names)

    def says(self, code):
        """What Python code prints in the environment."""
        return self._run(str(self.python), "-c", code).strip()

    def _run(self, *command):
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self._environ)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _indexes(farm):
    return ["--index-url", farm.pypi.index_url, "--extra-index-url", farm.running.index_url]


@pytest.fixture
def venv(tmp_path):
    """A fresh virtual environment."""
    return Venv(tmp_path / "venv", probe().path)


@pytest.fixture
def open_tmp_path():
    """A directory that package code can reach, whatever account it runs as.

    Not below pytest's own: each pytest that starts on the machine closes that to everybody else.
    """
    with tempfile.TemporaryDirectory(prefix="piwheels-node-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@pytest.fixture
def farm(open_tmp_path, pypi):
    """A running farm with the default limits."""
    with Farm(open_tmp_path / "farm", pypi) as running:
        yield running
