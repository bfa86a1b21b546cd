# SPDX-License-Identifier: BSD-3-Clause
"""What other programs of the machine see of its builder: a small file, written when something has changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from piwheels_node.builder.farm import window
from piwheels_node.builder.farm.window import Window
from piwheels_node.cli.node import ThisMachine
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import Health, LocalBuild, LocalBuilder
from piwheels_node.core.places import WINDOW


@pytest.fixture
def now(tmp_path):
    at = datetime.now(UTC)
    build = LocalBuild(job_id=7, project="p", version="1", target="t", step=Step.BUILD, begun_at=at)
    return LocalBuilder(
        at=at,
        started_at=at,
        data=str(tmp_path),
        name="pi",
        master="https://hub",
        version="1.0",
        builds=[build],
    )


def shown(path):
    return LocalBuilder.model_validate_json(path.read_bytes())


def test_the_file_is_whole_for_everybody_to_read_and_goes_with_the_builder(tmp_path, now):
    mine = Window(tmp_path)
    mine.show(now)

    path = tmp_path / WINDOW
    assert shown(path) == now
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]
    mine.close()
    mine.close()
    assert not path.exists()


def test_it_is_written_for_a_step_but_not_for_the_time_or_what_sensors_say(tmp_path, now):
    mine = Window(tmp_path)
    mine.show(now)
    later = now.model_copy(update={"at": now.at + timedelta(seconds=1), "health": Health(load_1m=9.0)})
    mine.show(later)
    assert shown(mine.path) == now

    stepped = later.builds[0].model_copy(update={"step": Step.INSPECT})
    stepped = later.model_copy(update={"builds": [stepped]})
    mine.show(stepped)
    assert shown(mine.path) == stepped


@pytest.mark.parametrize("in_memory", [False, True])
def test_it_is_written_for_a_log_alone_only_where_it_lies_in_memory(tmp_path, now, monkeypatch, in_memory):
    monkeypatch.setattr(window, "_LOG_EVERY_S", 0.0)
    if in_memory:
        monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/run:{tmp_path}/other")
    mine = Window(tmp_path)
    mine.show(now)
    said = now.builds[0].model_copy(update={"log_bytes": 5, "log_tail": "hello"})
    said = now.model_copy(update={"builds": [said]})
    mine.show(said)

    assert (mine.path.parent == tmp_path / "run") is in_memory
    assert shown(mine.path) == (said if in_memory else now)


def test_it_is_written_again_after_a_while_so_that_it_is_known_to_live(tmp_path, now, monkeypatch):
    monkeypatch.setattr(window, "_EVERY_S", 0.0)
    mine = Window(tmp_path)
    mine.show(now)
    later = now.model_copy(update={"at": now.at + timedelta(seconds=1)})
    mine.show(later)

    assert shown(mine.path) == later


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nobody(tmp_path, now, caplog, monkeypatch):
    monkeypatch.setattr(window, "_EVERY_S", 0.0)
    (tmp_path / "builder").write_text("in the way")
    mine = Window(tmp_path)
    mine.show(now)
    mine.show(now)

    assert caplog.text.count("cannot see this builder") == 1


def test_the_machine_shows_the_builder_of_its_directory_and_no_other(tmp_path, now):
    in_run = tmp_path / "run" / "builder.json"
    machine = ThisMachine(tmp_path, in_run)
    assert machine.look().builder is None

    Window(tmp_path).show(now)
    assert machine.look().builder == now
    in_run.parent.mkdir()
    in_run.write_text("{")
    assert machine.look().builder == now
    other = now.model_copy(update={"data": "/elsewhere"})
    (tmp_path / WINDOW).write_text(other.model_dump_json())
    assert machine.look().builder is None
    old = now.model_copy(update={"at": now.at - timedelta(hours=1)})
    (tmp_path / WINDOW).write_text(old.model_dump_json())
    assert machine.look().builder is None


def test_the_machine_says_what_it_is_without_asking_any_master(tmp_path):
    seen = ThisMachine(tmp_path, tmp_path / "none").look()

    assert seen.masters == []
    assert seen.index.startswith("https://")
    assert seen.health.memory_available_bytes
