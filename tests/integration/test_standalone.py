# SPDX-License-Identifier: BSD-3-Clause
"""The whole way on one machine: an sdist on PyPI becomes a wheel in the index, and pip installs it.

Real master, builder, sandbox, pip and uv; the packages and PyPI are home-made. What packages may not do is
in `test_hostile`, why builds fail in `test_reasons`.
"""

from __future__ import annotations

import json
import shutil
import time
from itertools import pairwise

import pytest
from fix_farm import Farm
from sdists import c_extension, make_backend_wheel, make_sdist, make_wheel

from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.workshop import Workshop
from piwheels_node.core.errors import NotOnPyPIError
from piwheels_node.core.failure import FailureReason as Reason
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import BuildRequest

TARGET = probe().target
NATIVE = f"{TARGET.abi}-{TARGET.abi}-{TARGET.platform}"
"""The last part of the name of a wheel with an extension."""


# --- from an sdist to an import ------------------------------------------------------------------------


def test_pip_installs_what_was_built_from_an_sdist(farm, tmp_path, venv):
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0"))
    venv.pip(farm, "--only-binary", ":all:", "tiny")

    assert (job.state, job.build.wheel) == (JobState.BUILT, "tiny-1.0-py3-none-any.whl")
    assert venv.says("import tiny; print(tiny.VERSION)") == "1.0"


def test_uv_installs_what_was_built_from_an_sdist(farm, tmp_path, venv):
    farm.build(make_sdist(tmp_path, "tiny", "1.0", c_source=c_extension("_tiny")))
    venv.uv(farm, "tiny")

    assert venv.says("import _tiny; print(_tiny.answer())") == "42"


def test_an_extension_is_compiled_for_the_target_and_loads(farm, tmp_path, venv):
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", c_source=c_extension("_tiny")))
    venv.pip(farm, "--only-binary", ":all:", "tiny")

    assert job.build.wheel == f"tiny-1.0-{NATIVE}.whl"
    assert venv.says("import _tiny; print(_tiny.answer())") == "42"


def test_a_build_requirement_comes_from_a_wheel(farm, pypi, tmp_path, venv):
    pypi.add(make_backend_wheel(tmp_path), project="tinybuild")
    sdist = make_sdist(tmp_path, "tiny", "1.0", backend="tinybuild", requires=["tinybuild>=1"])

    job = farm.build(sdist)
    venv.pip(farm, "--only-binary", ":all:", "tiny")

    assert job.state is JobState.BUILT
    assert venv.says("import tiny; print(tiny.VERSION)") == "1.0"
    environment = json.loads(farm.rows("SELECT environment FROM build")[0]["environment"])
    assert environment["requirements"] == ["tinybuild==1.0"]


def test_a_build_requirement_may_be_a_wheel_that_was_built_here(farm, tmp_path):
    helper = make_sdist(tmp_path, "helper", "1.0", c_source=c_extension("_helper"))
    assert farm.build(helper).build.wheel == f"helper-1.0-{NATIVE}.whl"
    setup = "import _helper; print('it says', _helper.answer())"

    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", requires=["helper"], setup=setup))

    assert job.state is JobState.BUILT
    assert "it says 42" in farm.log(job)


def test_a_backend_gets_the_further_requirements_that_it_asks_for(farm, pypi, tmp_path):
    pypi.add(make_wheel(tmp_path, "helper", "2.0", {"helper.py": "ANSWER = 42\n"}), project="helper")
    sdist = make_sdist(
        tmp_path, "tiny", "1.0", ask="requires.append('helper')", setup="import helper; print(helper.ANSWER)"
    )

    job = farm.build(sdist)

    assert job.state is JobState.BUILT
    assert "42\n" in farm.log(job)
    assert [one.step.value for one in job.build.steps].count("ask") == 2


def test_several_jobs_are_built_at_once(farm, pypi, tmp_path):
    sdists = [make_sdist(tmp_path, f"tiny{number}", "1.0") for number in range(4)]
    for sdist in sdists:
        pypi.add(sdist, project=sdist.name.split("-")[0])

    answers = [farm.ask(f"tiny{number}") for number in range(4)]
    jobs = [farm.wait(answer) for answer in answers]

    assert [job.build.wheel for job in jobs] == [f"tiny{n}-1.0-py3-none-any.whl" for n in range(4)]
    status = farm.client.status()
    assert (status.jobs["built"], status.jobs["ready"], status.wheels) == (4, 0, 4)


# --- what PyPI has already -----------------------------------------------------------------------------


@pytest.mark.parametrize("tags", ["py3-none-any", f"{TARGET.abi}-abi3-manylinux_2_17_{TARGET.arch}", NATIVE])
def test_what_pypi_has_a_fitting_wheel_of_is_not_built(farm, pypi, tmp_path, tags):
    wheel = make_wheel(tmp_path, "tiny", "1.0", tags=tags)
    pypi.add(wheel, project="tiny")
    pypi.add(make_sdist(tmp_path, "tiny", "1.0"), project="tiny")

    answer = farm.ask("tiny")

    assert (answer.outcome, answer.wheel, answer.job) == (Outcome.COVERED, wheel.name, None)
    assert answer.size_bytes == wheel.stat().st_size
    assert farm.client.status().wheels == 0


@pytest.mark.parametrize(
    "tags",
    [
        f"{TARGET.abi}-{TARGET.abi}-musllinux_1_2_{TARGET.arch}",
        f"cp39-cp39-{TARGET.platform}",
        f"{TARGET.abi}-{TARGET.abi}-win_amd64",
        f"{TARGET.abi}-{TARGET.abi}-manylinux_2_99_{TARGET.arch}",
    ],
)
def test_a_wheel_that_the_target_cannot_use_does_not_cover_it(farm, pypi, tmp_path, tags):
    pypi.add(make_wheel(tmp_path, "tiny", "1.0", tags=tags), project="tiny")

    job = farm.build(make_sdist(tmp_path, "tiny", "1.0"))

    assert job.state is JobState.BUILT


def test_a_forced_build_never_takes_a_name_that_pypi_uses(farm, pypi, tmp_path, venv):
    of_pypi = make_wheel(tmp_path, "tiny", "1.0", {"tiny.py": "VERSION = 'from PyPI'\n"})
    pypi.add(of_pypi, project="tiny")

    job = farm.build(make_sdist(tmp_path, "tiny", "1.0"), force=True)

    assert job.build.wheel == "tiny-1.0-1-py3-none-any.whl"
    assert [wheel.filename for wheel in farm.client.project("tiny").wheels] == [job.build.wheel]
    venv.pip(farm, "tiny")  # PEP 427: the build tag breaks the tie
    assert venv.says("import tiny; print(tiny.VERSION)") == "1.0"


# --- what is refused without a build -------------------------------------------------------------------


def test_a_release_without_an_sdist_is_refused(farm, pypi, tmp_path):
    pypi.add(make_wheel(tmp_path, "tiny", "1.0", tags="cp39-cp39-win_amd64"), project="tiny")

    answer = farm.ask("tiny")

    assert (answer.outcome, answer.reason, answer.job) == (Outcome.FAILED, Reason.NO_SDIST, None)


def test_a_release_that_excludes_the_target_s_python_is_refused(farm, pypi, tmp_path):
    pypi.add(make_sdist(tmp_path, "tiny", "1.0"), project="tiny", requires_python="<3.8")

    answer = farm.ask("tiny")

    assert (answer.outcome, answer.reason, answer.job) == (Outcome.FAILED, Reason.REQUIRES_PYTHON, None)
    assert "<3.8" in answer.what


def test_the_newest_release_that_the_target_can_run_is_built(farm, pypi, tmp_path):
    pypi.add(make_sdist(tmp_path, "tiny", "3.0"), project="tiny", requires_python=">=3.99")
    pypi.add(make_sdist(tmp_path, "tiny", "2.0"), project="tiny", yanked="broken")

    job = farm.build(make_sdist(tmp_path, "tiny", "1.0"))

    assert job.version == "1.0"


def test_an_unknown_project_is_refused_by_its_name(farm):
    with pytest.raises(NotOnPyPIError, match="nowhere") as caught:
        farm.ask("nowhere")

    assert caught.value.hint == "is the name right?"


def test_an_unknown_version_is_refused_with_those_there_are(farm, pypi, tmp_path):
    for version in ("1.0", "1.1", "2.0"):
        pypi.add(make_sdist(tmp_path, "tiny", version), project="tiny")

    with pytest.raises(NotOnPyPIError, match=r"no version 1\.1\.1") as caught:
        farm.ask("tiny", version="1.1.1")

    assert "1.1" in caught.value.hint


# --- what is remembered --------------------------------------------------------------------------------


def test_what_was_built_is_not_built_again(farm, tmp_path):
    farm.build(make_sdist(tmp_path, "tiny", "1.0"))

    answer = farm.ask("Tiny")

    assert (answer.outcome, answer.wheel) == (Outcome.BUILT, "tiny-1.0-py3-none-any.whl")
    assert len(farm.rows("SELECT id FROM build")) == 1


def test_a_failure_is_told_again_without_a_build(farm, tmp_path):
    sdist = make_sdist(tmp_path, "tiny", "1.0", c_source=c_extension("_tiny", prelude="#include <no/such.h>"))
    farm.build(sdist)

    answer = farm.ask("tiny")

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, Reason.MISSING_HEADER)
    assert answer.job.build.captured == "no/such.h"
    assert len(farm.rows("SELECT id FROM build")) == 1


@pytest.mark.parametrize(
    ("setup", "builds"), [("raise SystemExit('no')", 2), ("config['name'] = 'other'", 1)]
)
def test_a_failure_is_tried_again_where_another_environment_may_help(
    open_tmp_path, pypi, monkeypatch, setup, builds
):
    data = open_tmp_path / "farm"
    with Farm(data, pypi) as farm:
        farm.build(make_sdist(open_tmp_path, "tiny", "1.0", setup=setup))
    monkeypatch.setattr(Workshop, "environment_id", lambda *_: "another")

    with Farm(data, pypi) as farm:
        farm.wait(farm.ask("tiny"))

        found = farm.rows("SELECT environment_id FROM build ORDER BY id")
    assert len(found) == builds
    assert (found[-1]["environment_id"] == "another") == (builds == 2)


def test_a_package_that_was_installed_meanwhile_is_noticed_without_a_restart(farm, tmp_path, monkeypatch):
    farm.build(make_sdist(tmp_path, "tiny", "1.0", setup="raise SystemExit('no')"))
    monkeypatch.setattr(Workshop, "environment_id", lambda *_: "another")
    farm.build(make_sdist(tmp_path, "other", "1.0"))  # whoever comes for the next job says so

    job = farm.wait(farm.ask("tiny"))

    assert len(farm.rows("SELECT id FROM build WHERE job_id = ?", job.job_id)) == 2


def test_a_limit_that_was_raised_is_another_environment(open_tmp_path, pypi):
    sdist = make_sdist(open_tmp_path, "tiny", "1.0", setup="import time; time.sleep(1.5)")
    with Farm(open_tmp_path / "farm", pypi, timeout_s=1.0) as farm:
        assert farm.build(sdist).build.reason is Reason.TIMEOUT
        assert farm.ask("tiny").reason is Reason.TIMEOUT

    with Farm(open_tmp_path / "farm", pypi, timeout_s=60.0) as farm:
        assert farm.wait(farm.ask("tiny")).state is JobState.BUILT


def test_a_requirement_that_is_there_by_now_lets_the_package_be_built(farm, pypi, tmp_path):
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", requires=["helper"]))
    assert job.build.reason is Reason.REQUIREMENT_MISSING
    pypi.add(make_wheel(tmp_path, "helper", "1.0"), project="helper")

    assert farm.wait(farm.ask("tiny")).state is JobState.BUILT


def test_a_network_that_is_back_lets_the_package_be_built(farm, pypi, tmp_path):
    pypi.fail("/files/tiny/", 404)
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0"))
    assert job.build.reason is Reason.FETCH_FAILED
    pypi.fail("/files/tiny/", None)

    assert farm.wait(farm.ask("tiny")).state is JobState.BUILT


def test_a_wheel_outlives_a_restart(open_tmp_path, pypi, venv):
    with Farm(open_tmp_path / "farm", pypi) as farm:
        farm.build(make_sdist(open_tmp_path, "tiny", "1.0"))

    with Farm(open_tmp_path / "farm", pypi) as farm:
        venv.pip(farm, "--only-binary", ":all:", "tiny")

    assert venv.says("import tiny; print(tiny.VERSION)") == "1.0"


def test_a_yank_on_pypi_is_shown_in_our_index(farm, pypi, tmp_path, venv):
    sdist = make_sdist(tmp_path, "tiny", "1.0")
    farm.build(sdist)
    pypi.add(sdist, project="tiny", yanked="wrong numbers")
    farm.ask("tiny", version="1.0")

    said = venv.pip(farm, "--dry-run", "--only-binary", ":all:", "tiny==1.0")

    assert "Would install tiny-1.0" in said
    with pytest.raises(NotOnPyPIError, match="PyPI has no file of tiny"):
        farm.ask("tiny")


# --- what is known of a build --------------------------------------------------------------------------


def test_the_events_of_a_job_tell_its_story_in_order(farm, tmp_path):
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", setup="import time; time.sleep(1.6)"))

    events = farm.client.events(job.job_id)

    kinds = [event.kind for event in events]
    assert kinds[:2] == ["queued", "leased"]
    assert kinds[-1] == "built"
    assert {"step": "build"} in [event.detail for event in events if event.kind == "step"]
    assert all(one.at <= other.at for one, other in pairwise(events))
    assert all(event.at.tzinfo is not None for event in events)


def test_the_row_of_a_build_says_what_it_took_and_in_what(farm, tmp_path):
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", setup="sum(range(3_000_000))"))

    (row,) = farm.rows("SELECT * FROM build")

    assert [one.step.value for one in job.build.steps] == ["fetch", "prepare", "ask", "build", "inspect"]
    assert 0 < sum(one.duration_s for one in job.build.steps) <= row["duration_s"]
    assert 0.01 < row["cpu_s"] <= row["duration_s"] * 2
    assert 5 << 20 < row["peak_memory_bytes"] < 1 << 30
    environment = json.loads(row["environment"])
    assert environment["environment_id"] == row["environment_id"]
    assert environment["sandbox"].startswith("bubblewrap, memory limit: ")
    assert environment["python"] == probe().version_text


def test_a_log_can_be_read_while_it_grows(farm, pypi, tmp_path):
    setup = "import time; print('first', flush=True); time.sleep(2.5); print('second')"
    pypi.add(make_sdist(tmp_path, "tiny", "1.0", setup=setup), project="tiny")
    answer = farm.ask("tiny")
    deadline = time.monotonic() + 60
    while not (early := farm.client.log(answer.job.job_id)) and time.monotonic() < deadline:
        time.sleep(0.05)
    state = farm.client.job(answer.job.job_id).state

    job = farm.wait(answer)

    assert state is JobState.LEASED
    assert b"first" in early
    assert b"second" not in early
    assert b"second" in farm.client.log(job.job_id, len(early))
    assert early + farm.client.log(job.job_id, len(early)) == farm.client.log(job.job_id)


@pytest.mark.parametrize("c_source", [None, c_extension("_tiny")])
def test_two_farms_make_the_same_bytes(open_tmp_path, pypi, c_source):
    sdist = make_sdist(open_tmp_path, "tiny", "1.0", c_source=c_source)
    made = []
    for name in ("one", "other"):
        with Farm(open_tmp_path / name, pypi) as farm:
            made.append(farm.published(farm.build(sdist).build.wheel))

    assert made[0] == made[1]


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not a Debian")
def test_the_debian_package_of_a_library_that_a_wheel_links_with_is_named(farm, tmp_path):
    # Every machine with Python has libz; linked by its file name, it needs no -dev package.
    setup = (
        "import glob, subprocess, sys\n"
        "real = subprocess.run\n"
        "library = glob.glob('/usr/lib/*/libz.so.1')[0]\n"
        "def run(command, **words):\n"
        "    return real([*command, '-Wl,--no-as-needed', library], **words)\n"
        "subprocess.run = run\n"
    )
    sdist = make_sdist(tmp_path, "tiny", "1.0", c_source=c_extension("_tiny"), setup=setup)

    job = farm.build(sdist)

    assert job.state is JobState.BUILT, farm.log(job)
    (wheel,) = farm.client.project("tiny").wheels
    assert wheel.libraries == {"libc.so.6": "libc6", "libz.so.1": "zlib1g"}


def test_the_request_of_one_project_takes_its_name_in_any_spelling(farm, pypi, tmp_path):
    pypi.add(make_sdist(tmp_path, "Tiny.Thing", "1.0"), project="tiny-thing")

    job = farm.wait(farm.client.request(BuildRequest(project="TINY_thing", version="1.0.0")))

    assert (job.project, job.version) == ("tiny-thing", "1.0")
    assert job.build.wheel == "tiny_thing-1.0-py3-none-any.whl"


def test_as_many_builds_run_at_a_time_as_the_settings_say(open_tmp_path, pypi):
    with Farm(open_tmp_path / "farm", pypi, slots=7) as farm:
        (builder,) = farm.client.builders()
    assert builder.slots == 7
