# SPDX-License-Identifier: BSD-3-Clause
"""What services say to systemd, and what their log entries carry; tests/system/debian has systemd itself."""

from __future__ import annotations

import logging
import os
import sys

import pytest

from piwheels_node import notify


class Recorder:
    """Stands for systemd's library, which a virtual environment has not."""

    def __init__(self):
        self.said = []
        self.entries = []

    def notify(self, words):
        self.said.append(words)

    def send(self, message, **fields):
        self.entries.append((message, fields))


@pytest.fixture
def library(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(notify, "daemon", recorder)
    monkeypatch.setattr(notify, "journal", recorder)
    return recorder


@pytest.fixture
def root_logger():
    """The root of all loggers, which is as before afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = before, level


def test_without_the_library_nothing_is_said_and_nothing_fails(monkeypatch):
    monkeypatch.setattr(notify, "daemon", None)

    notify.Service().ready("serving")


def test_a_status_is_said_once_for_as_long_as_it_is_the_same(library):
    service = notify.Service()

    service.ready("waiting")
    service.status("waiting")
    service.status("building numpy 2.1\nand more")
    service.well()
    service.stopping("giving back")

    assert library.said == [
        "READY=1\nSTATUS=waiting",
        "STATUS=building numpy 2.1 and more",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=giving back",
    ]


@pytest.mark.usefixtures("root_logger")
def test_a_line_about_a_job_is_an_entry_with_its_package(library, monkeypatch, tmp_path):
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert notify.log_to_journal()
        logging.getLogger("x").warning("%s failed", "numpy", extra=notify.job_fields("numpy", "2.1", 7))

    ((message, fields),) = library.entries
    assert message == "numpy failed"
    assert {key: fields[key] for key in ("PACKAGE", "VERSION", "JOB", "PRIORITY")} == {
        "PACKAGE": "numpy",
        "VERSION": "2.1",
        "JOB": "7",
        "PRIORITY": 4,
    }


def test_a_terminal_is_no_journal(library, monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")

    assert not notify.log_to_journal()


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)],
)
def test_a_level_is_a_priority_of_the_journal(level, priority):
    assert notify._priority(getattr(logging, level)) == priority


@pytest.fixture
def units(monkeypatch, tmp_path):
    """Where systemd runs, and where its units are: the administrator's, then the package's."""
    for name in ("run", "etc", "usr"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(notify, "_SYSTEMD", tmp_path / "run")
    monkeypatch.setattr(notify, "_UNITS", (tmp_path / "etc", tmp_path / "usr"))
    return tmp_path


def test_a_service_starts_by_itself_where_its_unit_is(units):
    assert not notify.starts_by_itself("builder")

    (units / "usr" / "piwheels-builder.path").touch()
    assert notify.starts_by_itself("builder")
    assert not notify.starts_by_itself("master")


def test_a_masked_service_does_not_start_by_itself(units):
    (units / "usr" / "piwheels-builder.path").touch()
    (units / "etc" / "piwheels-builder.path").symlink_to(os.devnull)

    assert not notify.starts_by_itself("builder")
