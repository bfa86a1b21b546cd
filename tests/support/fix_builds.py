# SPDX-License-Identifier: BSD-3-Clause
"""Builds without a master: the real steps in the real sandbox, and every limit for the test to choose."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from piwheels_node.builder.build import Build, Record
from piwheels_node.builder.confine.cgroups import Groups, own_group
from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.workshop import Workshop
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.messages import Lease, SdistFile
from piwheels_node.core.settings import BuilderSettings, Settings


@dataclass(frozen=True)
class Done:
    """How a build ended, and what it printed."""

    record: Record
    log: str

    @property
    def reason(self) -> FailureReason | None:
        return self.record.reason

    @property
    def wheel(self) -> str | None:
        return self.record.wheel.path.name if self.record.wheel else None


class Builds:
    """A workshop; its limits may be others for each build."""

    def __init__(self, root: Path, pypi, **builder) -> None:
        settings = Settings()
        self.pypi = pypi
        self.settings = dataclasses.replace(
            settings,
            pypi=dataclasses.replace(settings.pypi, index_url=pypi.index_url),
            builder=dataclasses.replace(BuilderSettings(), **builder),
        )
        self.workshop = Workshop(root, probe(), self.settings, stop=threading.Event())

    def close(self) -> None:
        self.workshop.close()

    def lease(self, sdist: Path, packages=()) -> Lease:
        """A lease to build an archive that the home-made PyPI serves from now on."""
        project = sdist.name.rsplit("-", 1)[0].replace("_", "-")
        self.pypi.add(sdist, project=project)
        content = sdist.read_bytes()
        return Lease(
            job_id=1,
            token="0123456789abcdef",
            project=project,
            version=sdist.name.removesuffix(".tar.gz").rpartition("-")[2],
            target=str(self.workshop.interpreter.target),
            expires_in_s=600,
            packages=list(packages),
            sdist=SdistFile(
                filename=sdist.name,
                url=f"{self.pypi.url}/files/{project}/{sdist.name}",
                sha256=hashlib.sha256(content).hexdigest(),
                size_bytes=len(content),
            ),
        )

    def build(self, sdist: Path, *, packages=(), stop=None, pause=None, seen=None, **limits) -> Done:
        """Build it, with these Debian packages; `seen` gets the path of its log. May raise StoppedError.

        `limits` are settings of the builder that are different this time.
        """
        builder = dataclasses.replace(self.settings.builder, **limits)
        self.workshop.settings = dataclasses.replace(self.settings, builder=builder)
        self.workshop.sandbox.settings = self.workshop.rooms.settings = builder
        with self.workshop.directory() as directory:
            build = Build(
                self.workshop,
                self.lease(sdist, packages),
                directory,
                on_step=lambda _: None,
                stop=stop or threading.Event(),
                pause=pause,
            )
            if seen:
                seen(build.log_path)
            record = build.run()
            return Done(record, build.log_path.read_text(errors="replace"))


@contextlib.contextmanager
def control_groups():
    """A value of `builder.cgroup` with which builds get control groups, and the directory of those."""
    delegated = Groups.find()
    if delegated:
        yield "", delegated.base
        return
    own = own_group()
    if own is None or Path("/run/systemd/system").exists():
        pytest.skip("no control group was delegated to us: systemd-run -p Delegate=yes pytest")
    made = own / f"piwheels-node-test-{secrets.token_hex(4)}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield str(made), made
    made.rmdir()


@pytest.fixture
def layered(open_tmp_path, pypi, apt_archive):
    """A workshop whose layers come from the home-made archive."""
    made = Builds(open_tmp_path / "builder", pypi, apt_sources=str(apt_archive.sources))
    yield made
    made.close()


@pytest.fixture
def builds(open_tmp_path, pypi):
    """A workshop with the default limits."""
    made = Builds(open_tmp_path / "builder", pypi)
    yield made
    made.close()
