# SPDX-License-Identifier: BSD-3-Clause
"""A running master on loopback, with a home-made PyPI behind it and a builder's hands in front.

`farm_of_one` is a real `Master` and real clients; only the builder is played by the test, which leases jobs
and hands in wheels made on the fly.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sdists import make_wheel

from piwheels_node.client import MasterClient
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome
from piwheels_node.core.messages import (
    BuildEnvironment,
    BuildRequest,
    JobView,
    Lease,
    LeaseRequest,
    OfferedTarget,
    Report,
    ReportAnswer,
    RequestAnswer,
    WheelClaim,
)
from piwheels_node.core.settings import MasterSettings, PypiSettings, Settings
from piwheels_node.master.running.service import Master

if TYPE_CHECKING:  # a plugin must not be imported before pytest has seen it
    from fix_pypi import HomeMadePyPI

TARGET = "cp311-linux_x86_64-debian12"
OFFER = OfferedTarget(name=TARGET, environment_id="env-1")


class FarmOfOne:
    """A master that runs; `operator`, `builder` and `reader` are clients with such keys, or with none."""

    def __init__(self, data: Path, pypi: HomeMadePyPI, **master_settings: Any) -> None:
        self.pypi = pypi
        self.data = data
        self.settings = Settings(
            pypi=PypiSettings(index_url=pypi.index_url, timeout_s=2.0, max_age_s=0.0),
            master=MasterSettings(**master_settings),
        )
        self._made = data.parent / f"{data.name}-made"
        self._made.mkdir(exist_ok=True)
        self.master = Master(data, self.settings)
        self.url = self.master.start()
        self.keys = {
            "operator": self.master.create_key("operator"),
            "builder": self.master.create_key("builder", "pi"),
        }
        self.operator = MasterClient(self.url, self.keys["operator"])
        self.builder = MasterClient(self.url, self.keys["builder"])
        self.reader = MasterClient(self.url)

    @property
    def index_url(self) -> str:
        return f"{self.url}/simple/"

    def close(self) -> None:
        for client in (self.operator, self.builder, self.reader):
            client.close()
        self.master.stop()

    def add_sdist(self, name: str = "little", version: str = "1.0", **listed: Any) -> None:
        """Put a source file on PyPI; nothing of this test unpacks it."""
        path = self._made / f"{name.replace('-', '_')}-{version}.tar.gz"
        path.write_bytes(f"{name} {version}".encode())
        self.pypi.add(path, project=name, **listed)

    def ask(self, name: str = "little", version: str | None = None, **more: Any) -> RequestAnswer:
        return self.operator.request(BuildRequest(project=name, version=version, target=TARGET, **more))

    def lease(self, wait_s: float = 0, offer: OfferedTarget = OFFER) -> Lease | None:
        return self.builder.lease(LeaseRequest(targets=[offer], wait_s=wait_s))

    def leased(self, name: str = "little", version: str = "1.0") -> Lease:
        """A lease on a job that was made just now."""
        self.add_sdist(name, version)
        self.ask(name, version)
        lease = self.lease()
        assert lease is not None
        return lease

    def wheel(self, name: str = "little", version: str = "1.0", **lies: Any) -> Path:
        return make_wheel(self._made, name, version, **lies)

    def hand_in(self, lease: Lease, path: Path, **lies: Any) -> ReportAnswer:
        """Upload a wheel, and report it."""
        self.builder.upload_wheel(lease, path)
        return self.builder.report(lease, self.built(lease, path, **lies))

    def built(self, lease: Lease, path: Path, **lies: Any) -> Report:
        content = path.read_bytes()
        claim = WheelClaim(
            filename=path.name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
        )
        return Report(
            token=lease.token,
            outcome=Outcome.BUILT,
            duration_s=1.5,
            environment=environment(),
            wheel=claim.model_copy(update=lies),
        )

    def failed(
        self, lease: Lease, reason: FailureReason, environment_id: str = "env-1", captured: str = "ffi.h"
    ) -> ReportAnswer:
        report = Report(
            token=lease.token,
            outcome=Outcome.FAILED,
            reason=reason,
            captured=captured,
            evidence=f"fatal error: {captured}: No such file or directory",
            evidence_line=7,
            duration_s=2.5,
            environment=environment(environment_id),
        )
        return self.builder.report(lease, report)

    def publish(self, name: str = "little", version: str = "1.0", **wheel: Any) -> Path:
        """A wheel of a new release in the index; gives the file that was handed in."""
        lease = self.leased(name, version)
        path = self.wheel(name, version, **wheel)
        assert self.hand_in(lease, path).outcome is Outcome.BUILT
        return path

    def job(self, lease: Lease) -> JobView:
        return self.reader.job(lease.job_id)

    def events(self, lease: Lease) -> list[str]:
        return [event.kind for event in self.reader.events(lease.job_id)]


def environment(environment_id: str = "env-1") -> BuildEnvironment:
    return BuildEnvironment(environment_id=environment_id, python="3.11.2", release="debian12")


@pytest.fixture(params=["sqlite", "postgresql"])
def farm_of_one(request: pytest.FixtureRequest, tmp_path: Path, pypi: HomeMadePyPI) -> Iterator[FarmOfOne]:
    """A master on a database of each kind: tests that take it run on both."""
    database = "" if request.param == "sqlite" else request.getfixturevalue("new_postgres")()
    farm = FarmOfOne(tmp_path / "master", pypi, database=database)
    yield farm
    farm.close()


def with_settings(farm: FarmOfOne, **changes: Any) -> None:
    """Other settings of the master, from the next request on."""
    context = farm.master._context
    settings = dataclasses.replace(farm.settings, master=dataclasses.replace(farm.settings.master, **changes))
    object.__setattr__(context, "settings", settings)
