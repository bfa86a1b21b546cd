# SPDX-License-Identifier: BSD-3-Clause
"""What the report says of real builds, through the API and the command; and what builds wrote on the disk."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from fix_farm import Farm
from sdists import c_extension, make_sdist

from piwheels_node.builder.confine.written import by_this_thread
from piwheels_node.cli.main import group
from piwheels_node.core.errors import MasterError
from piwheels_node.core.failure import FailureReason

MIB = 1 << 20
WRITES = (
    "import os; f = open('/build/big', 'wb'); f.write(os.urandom(3 << 20)); f.flush(); os.fsync(f.fileno())"
)


@pytest.fixture
def farm(open_tmp_path, pypi):
    """A farm whose builds lie on the disk."""
    with Farm(open_tmp_path / "farm", pypi, memory_bytes=0) as running:
        yield running


@pytest.fixture
def disk_counts(open_tmp_path):
    """False where the tests' files lie in memory, or the kernel does not count."""
    before = by_this_thread()
    (open_tmp_path / "probe").write_bytes(bytes(MIB))
    return before is not None and by_this_thread() - before >= MIB


def command(farm, *words):
    """`master failures`, as a person calls it."""
    done = CliRunner().invoke(group, ["master", "failures", *words, "--data", str(farm.data)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_failed_builds_are_reported_by_reason(farm, tmp_path):
    source = c_extension("_tiny", prelude="#include <aspell.h>")
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", c_source=source))
    farm.build(make_sdist(tmp_path, "fine", "1.0"))

    report = farm.client.failures()
    assert (report.built, report.failed) == (1, 1)
    [one] = report.reasons
    assert (one.reason, one.builds, one.share, one.before) == (FailureReason.MISSING_HEADER, 1, 1.0, 0)
    assert (one.newest.job_id, one.newest.debian_package) == (job.job_id, "libaspell-dev")
    assert farm.client.failures(target="cp39-linux_armv7l-debian11").reasons == []
    assert farm.client.failures(project="Tiny").failed == 1
    assert [b.project for b in farm.client.failed_builds(FailureReason.MISSING_HEADER)] == ["tiny"]
    with pytest.raises(MasterError, match="1 to 400 days"):
        farm.client.failures(since=datetime(2020, 1, 1, tzinfo=UTC).date())

    said = command(farm)
    assert "missing-header" in said
    assert "1 failed, 50% of 2" in said
    assert json.loads(command(farm, "--json"))["failed"] == 1
    assert "tiny 1.0" in command(farm, "--reason", "missing-header")
    assert json.loads(command(farm, "--reason", "missing-header", "--json"))[0]["captured"] == "aspell.h"
    assert "0 failed" in command(farm, "--since", "2026-01-01", "--until", "2026-01-02")


def test_what_a_build_wrote_on_the_disk_is_told(farm, tmp_path, disk_counts):
    if not disk_counts:
        pytest.skip("files of tests lie in memory here")
    wrote = farm.build(make_sdist(tmp_path, "writer", "1.0", setup=WRITES))
    little = farm.build(make_sdist(tmp_path, "little", "1.0"))

    assert little.build.written_bytes + 3 * MIB <= wrote.build.written_bytes + MIB // 2
    assert 3 * MIB <= wrote.build.written_bytes < 30 * MIB


def test_what_was_fetched_for_a_build_is_told(farm, tmp_path, disk_counts):
    if not disk_counts:
        pytest.skip("files of tests lie in memory here")
    data = {"data": random.Random(1).randbytes(4 * MIB)}
    large = farm.build(make_sdist(tmp_path, "large", "1.0", extra=data))
    little = farm.build(make_sdist(tmp_path, "little", "1.0"))

    assert little.build.written_bytes + 3 * MIB <= large.build.written_bytes
