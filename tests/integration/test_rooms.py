# SPDX-License-Identifier: BSD-3-Clause
"""Builds begin in memory while they are small, and begin again on the disk where that was too little."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_farm import Farm
from sdists import make_sdist

from piwheels_node.builder.rooms import Rooms
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState
from piwheels_node.core.settings import BuilderSettings

WHERE = "import os; print('on', os.stat('/build').st_dev)"


def device(path):
    return Path(path).stat().st_dev


@pytest.fixture
def rooms(tmp_path):
    """Rooms below a directory of a builder's."""
    made = Rooms(tmp_path / "builds", BuilderSettings())
    yield made
    made.close()


def test_a_small_build_touches_no_disk(farm, tmp_path):
    job = farm.build(make_sdist(tmp_path, "small", "1.0", setup=WHERE))

    assert job.state is JobState.BUILT
    assert f"on {device('/dev/shm')}" in farm.log(job)


def test_memory_can_be_turned_off(open_tmp_path, pypi, tmp_path):
    with Farm(open_tmp_path / "farm", pypi, memory_bytes=0) as farm:
        job = farm.build(make_sdist(tmp_path, "small", "1.0", setup=WHERE))

        assert f"on {device(farm.data)}" in farm.log(job)


def test_a_build_that_outgrows_memory_is_done_again_on_the_disk(open_tmp_path, pypi, tmp_path):
    setup = f"{WHERE}; open('big', 'wb').write(bytes(4 << 20)); import time; time.sleep(1.6)"
    with Farm(open_tmp_path / "farm", pypi, memory_bytes=1 << 20) as farm:
        job = farm.build(make_sdist(tmp_path, "grower", "1.0", setup=setup))

        assert job.state is JobState.BUILT
        log = farm.log(job)
        assert log.index(f"on {device('/dev/shm')}") < log.index(f"on {device(farm.data)}")


def test_what_unpacks_to_more_than_the_room_goes_to_the_disk(open_tmp_path, pypi, tmp_path):
    sdist = make_sdist(tmp_path, "wide", "1.0", setup=WHERE, extra={"zeros": bytes(2 << 20)})
    with Farm(open_tmp_path / "farm", pypi, memory_bytes=1 << 20) as farm:
        job = farm.build(sdist)

        assert job.state is JobState.BUILT
        assert f"on {device('/dev/shm')}" not in farm.log(job)


def test_the_log_of_the_first_room_does_not_explain_the_second(open_tmp_path, pypi, tmp_path):
    setup = (
        f"{WHERE}\n"
        f"if os.stat('/build').st_dev == {device('/dev/shm')}:\n"
        "    raise OSError(28, 'No space left on device')\n"
        "raise ModuleNotFoundError(\"No module named 'absent'\")\n"
    )
    with Farm(open_tmp_path / "farm", pypi) as farm:
        job = farm.build(make_sdist(tmp_path, "unlucky", "1.0", setup=setup))

        assert (job.build.reason, job.build.captured) == (FailureReason.MISSING_MODULE, "absent")
        line = farm.log(job).splitlines()[job.build.evidence_line - 1]
        assert line == "ModuleNotFoundError: No module named 'absent'"


def test_a_large_or_unknown_sdist_begins_on_the_disk(rooms):
    assert rooms.choices(1 << 20) == [True, False]
    assert rooms.choices(100 << 20) == [False]
    assert rooms.choices(None) == [False]


def test_what_a_killed_builder_left_in_memory_is_removed_by_the_next(tmp_path):
    killed = Rooms(tmp_path / "builds", BuilderSettings())
    (killed.memory / "left").write_text("behind")

    after = Rooms(tmp_path / "builds", BuilderSettings())

    assert not killed.memory.exists()
    after.close()
    assert not after.memory.exists()


def test_a_note_that_names_something_else_removes_nothing(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / "memory").write_text(str(precious))

    Rooms(tmp_path / "builds", BuilderSettings()).close()

    assert precious.exists()
