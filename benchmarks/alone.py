# SPDX-License-Identifier: BSD-3-Clause
"""Builds of real releases by a workshop alone, without a master: what several benchmarks need."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from piwheels_node.builder.build import Build, Record
from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.workshop import Workshop
from piwheels_node.core.errors import NodeError
from piwheels_node.core.messages import Lease, SdistFile
from piwheels_node.core.settings import Settings
from piwheels_node.core.targets import Target
from piwheels_node.master.jobs import plan
from piwheels_node.master.pypi.index import PyPI


@contextmanager
def work_directory(where: Path | None) -> Iterator[Path]:
    """A directory to work in, gone afterwards, that the account of package code can reach."""
    with tempfile.TemporaryDirectory(prefix="piwheels-node-bench-", dir=where or "/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def workshop(root: Path, settings: Settings | None = None) -> Iterator[Workshop]:
    """A workshop below `root`."""
    settings = settings or Settings()
    stop = threading.Event()
    made = Workshop(root, probe(settings.builder.python), settings, stop=stop)
    try:
        yield made
    finally:
        stop.set()
        made.close()


def lease_of(pypi: PyPI, target: Target, project: str, version: str | None = None) -> Lease:
    """A job as a master would give it, for the newest version or the one that is named; raises NodeError."""
    files = pypi.project(project)
    chosen = plan.choose_version(files, version, target)
    decision = plan.plan(files.releases[chosen], target, force=True)
    if not isinstance(decision, plan.Build):
        raise NodeError(f"{project} {chosen} is not to be built: {decision}")
    sdist = decision.sdist
    if sdist.sha256 is None:
        raise NodeError(f"the index gives no hash of {sdist.filename}")
    return Lease(
        job_id=1,
        token="0" * 32,
        project=project,
        version=str(chosen),
        target=str(target),
        sdist=SdistFile(
            filename=sdist.filename,
            url=sdist.url,
            sha256=sdist.sha256,
            size_bytes=sdist.size_bytes,
            uploaded_at=sdist.uploaded_at,
        ),
        expires_in_s=3600,
    )


def build(shop: Workshop, lease: Lease, directory: Path) -> Record:
    """Take all steps of one build in a directory of its own; log and wheel are left there."""
    directory.mkdir(parents=True)
    record = Build(shop, lease, directory, on_step=lambda _: None, stop=shop.stop).run()
    if record.wheel is None:
        print(f"{lease.project} {lease.version}: {record.reason} {record.captured or ''}", file=sys.stderr)
    return record
