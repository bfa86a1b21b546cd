# SPDX-License-Identifier: BSD-3-Clause
"""A farm of one machine on loopback, in front of the home-made PyPI: real master, builder and sandbox."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

import pytest

from piwheels_node.core.messages import BuildRequest
from piwheels_node.core.settings import BuilderSettings, Settings
from piwheels_node.standalone import Standalone


def open_to_all(directory):
    """Let the account that package code runs as walk to a directory of pytest's."""
    root = Path(tempfile.gettempdir())
    for path in (directory, *directory.parents):
        if path == root or not path.is_relative_to(root):
            break
        path.chmod(path.stat().st_mode | 0o055)
    return directory


class Farm:
    """What a test does with a farm: offer an sdist, have it built, look at the outcome."""

    def __init__(self, data, pypi, **builder):
        self.data = data
        self.pypi = pypi
        settings = Settings()
        self.settings = dataclasses.replace(
            settings,
            pypi=dataclasses.replace(settings.pypi, index_url=pypi.index_url, max_age_s=0.0),
            builder=dataclasses.replace(BuilderSettings(), **builder),
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

    def wait(self, answer):
        """The job of an answer, when it has ended."""
        assert answer.job is not None, answer
        deadline = time.monotonic() + 60
        while not (job := self.client.job(answer.job.job_id)).state.is_final:
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
        return job

    def log(self, job):
        """The log of a job's newest build."""
        return self.client.log(job.job_id).decode(errors="replace")


@pytest.fixture
def open_tmp_path(tmp_path):
    """`tmp_path`, for things that package code must be able to reach."""
    return open_to_all(tmp_path)


@pytest.fixture
def farm(open_tmp_path, pypi):
    """A running farm with the default limits."""
    with Farm(open_tmp_path / "farm", pypi) as running:
        yield running
