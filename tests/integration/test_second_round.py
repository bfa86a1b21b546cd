# SPDX-License-Identifier: BSD-3-Clause
"""What a build missed is added in a layer, and it succeeds by itself: real master, builder, apt and sandbox.

The Debian archive and PyPI are home-made; which package has a header is known from the bundled table.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fix_farm import Farm
from sdists import c_extension, make_sdist

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState

HEADERS = {"aspell.h": "libaspell-dev", "cups/http.h": "libcups2-dev"}


def wants(tmp_path, *headers, version="1.0"):
    prelude = "".join(f"#include <{name}>\n" for name in headers)
    return make_sdist(tmp_path, "needy", version, c_source=c_extension("_needy", prelude=prelude))


@pytest.fixture
def farm_with_layers(open_tmp_path, pypi, apt_archive):
    """A farm whose builder adds packages of the home-made archive."""
    if any(Path("/usr/include", name).exists() for name in HEADERS):
        pytest.skip("the headers that builds are to miss are installed here")
    for header, package in HEADERS.items():
        apt_archive.add(package, {f"usr/include/{header}": ""}, version="99")
    with Farm(open_tmp_path / "farm", pypi, layers=True, apt_sources=str(apt_archive.sources)) as running:
        yield running


def test_a_build_succeeds_on_the_third_round_with_two_packages_and_the_next_release_at_once(
    farm_with_layers, tmp_path
):
    farm = farm_with_layers

    job = farm.build(wants(tmp_path, *HEADERS))

    assert job.state is JobState.BUILT, farm.log(job)
    assert (job.build.packages, job.rounds) == (["libaspell-dev", "libcups2-dev"], 2)
    kinds = [event.kind for event in farm.client.events(job.job_id) if event.kind != "step"]
    assert kinds == ["queued", "leased", "fixing", "leased", "fixing", "leased", "built"]
    rows = farm.rows("SELECT reason, captured, debian_package, environment FROM build ORDER BY id")
    assert [(row["captured"], row["debian_package"]) for row in rows] == [*HEADERS.items(), (None, None)]
    assert json.loads(rows[-1]["environment"])["layers"] == ["libaspell-dev=99", "libcups2-dev=99"]
    assert {rule.state for rule in farm.client.fixes()} == {FixState.WORKS}
    assert not Path("/usr/include/aspell.h").exists()

    later = farm.build(wants(tmp_path, *HEADERS, version="2.0"))
    assert (later.state, later.attempts, later.rounds) == (JobState.BUILT, 1, 0)
    assert len(farm.rows("SELECT id FROM build WHERE job_id = ?", later.job_id)) == 1


def test_a_package_that_the_archive_has_not_got_is_not_tried_again(
    open_tmp_path, pypi, apt_archive, tmp_path
):
    with Farm(open_tmp_path / "farm", pypi, layers=True, apt_sources=str(apt_archive.sources)) as farm:
        job = farm.build(wants(tmp_path, "aspell.h"))

        assert (job.state, job.build.reason) == (JobState.FAILED, FailureReason.LAYER_FAILED)
        assert job.build.captured == "libaspell-dev"
        assert [rule.state for rule in farm.client.fixes()] == [FixState.FAILED]
