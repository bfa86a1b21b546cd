# SPDX-License-Identifier: BSD-3-Clause
"""Why a build fails: each reason with a home-made sdist that fails for it, built by a real farm.

The rules that read logs are tested one by one in `unit/builder/test_diagnosis`; here the whole way is:
what a person gets to read about a package that cannot be built.
"""

from __future__ import annotations

import pytest
from fix_farm import Farm
from sdists import c_extension, make_sdist

from piwheels_node.core.failure import FailureReason as Reason
from piwheels_node.core.jobs import JobState

CALL = "import subprocess; subprocess.run({}, shell={}, check=True)"


def failed(job):
    """The build of a job that must have failed."""
    assert job.state is JobState.FAILED, job
    assert job.build.wheel is None
    return job.build


def test_a_missing_header_is_named_with_its_debian_package(farm, tmp_path):
    source = c_extension("_tiny", prelude="#include <aspell.h>")

    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", c_source=source)))

    assert (build.reason, build.captured) == (Reason.MISSING_HEADER, "aspell.h")
    assert build.debian_package == "libaspell-dev"
    assert "aspell.h: No such file or directory" in build.evidence


def test_a_header_that_no_package_is_known_of_is_named_all_the_same(farm, tmp_path):
    source = c_extension("_tiny", prelude="#include <no/such_thing.h>")

    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", c_source=source)))

    assert (build.reason, build.captured) == (Reason.MISSING_HEADER, "no/such_thing.h")
    assert build.debian_package is None


def test_a_missing_library_is_named(farm, tmp_path):
    setup = CALL.format("'cc -shared -o /tmp/x.so -laspell_of_nobody'", True)

    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", setup=setup)))

    assert (build.reason, build.captured) == (Reason.MISSING_LIBRARY, "aspell_of_nobody")


@pytest.mark.parametrize(
    "setup", [CALL.format("'swig-of-nobody --version'", True), CALL.format("['swig-of-nobody']", False)]
)
def test_a_missing_tool_is_named(farm, tmp_path, setup):
    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", setup=setup)))

    assert (build.reason, build.captured) == (Reason.MISSING_TOOL, "swig-of-nobody")


def test_a_missing_module_is_named(farm, tmp_path):
    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", setup="import numpy_of_nobody")))

    assert (build.reason, build.captured) == (Reason.MISSING_MODULE, "numpy_of_nobody")


def test_an_error_of_the_compiler_is_shown(farm, tmp_path):
    source = c_extension("_tiny", prelude="int broken(void) { return nobody_declared_this; }")

    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", c_source=source))

    build = failed(job)
    assert build.reason is Reason.COMPILER_ERROR
    assert "nobody_declared_this" in build.evidence
    assert farm.log(job).splitlines()[build.evidence_line - 1].strip() == build.evidence


def test_a_build_requirement_without_a_wheel_is_named(farm, pypi, tmp_path):
    pypi.add(make_sdist(tmp_path, "helper", "1.0"), project="helper")

    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", requires=["helper>=2"])))

    assert (build.reason, build.captured) == (Reason.REQUIREMENT_MISSING, "helper>=2")
    assert "/files/helper/helper-1.0.tar.gz" not in pypi.requests, "an sdist is never run to resolve"


def test_a_build_that_wants_the_network_is_told_so(farm, tmp_path):
    setup = "import urllib.request; urllib.request.urlopen('https://example.invalid/model.bin')"

    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", setup=setup)))

    assert build.reason is Reason.NEEDS_NETWORK


def test_a_build_that_takes_too_long_is_ended(open_tmp_path, pypi):
    setup = "import time\nfor _ in range(600): print('still here', flush=True); time.sleep(0.1)"
    with Farm(open_tmp_path / "farm", pypi, timeout_s=1.0) as farm:
        job = farm.build(make_sdist(open_tmp_path, "tiny", "1.0", setup=setup))

        assert failed(job).reason is Reason.TIMEOUT
        assert job.build.duration_s < 40  # of the 60 that it wants
        assert "still here" in farm.log(job)


def test_an_sdist_with_another_hash_than_pypi_says_is_never_unpacked(farm, tmp_path):
    setup = "print('package code ran')"

    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", setup=setup), sha256="0" * 64)

    assert failed(job).reason is Reason.HASH_MISMATCH
    assert "package code ran" not in farm.log(job)
    assert [one.step.value for one in job.build.steps] == ["fetch"]


def test_an_sdist_that_cannot_be_fetched_is_tried_again_and_then_given_up(farm, pypi, tmp_path):
    sdist = make_sdist(tmp_path, "tiny", "1.0")
    pypi.fail("/files/tiny/", 503)

    job = farm.build(sdist)

    assert failed(job).reason is Reason.FETCH_FAILED
    assert [event.kind for event in farm.client.events(job.job_id)].count("retry") == job.attempts - 1 > 0

    pypi.fail("/files/tiny/", None)


def test_an_archive_that_is_none_is_told_so(farm, tmp_path):
    sdist = tmp_path / "tiny-1.0.tar.gz"
    sdist.write_bytes(b"not an archive")

    assert failed(farm.build(sdist)).reason is Reason.BAD_ARCHIVE


def test_a_pyproject_that_cannot_be_read_is_bad_metadata(farm, tmp_path):
    sdist = make_sdist(tmp_path, "tiny", "1.0", pyproject="[build-system\n")

    assert failed(farm.build(sdist)).reason is Reason.BAD_METADATA


def test_a_failure_of_no_known_kind_shows_the_end_of_the_log(farm, tmp_path):
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", setup="raise SystemExit('no idea')"))

    assert failed(job).reason is Reason.UNKNOWN
    assert "no idea" in farm.log(job)


def test_a_backend_that_the_processor_stops_is_told_by_its_exit_code(farm, tmp_path):
    setup = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"

    build = failed(farm.build(make_sdist(tmp_path, "tiny", "1.0", setup=setup)))

    assert build.reason is Reason.ILLEGAL_INSTRUCTION
