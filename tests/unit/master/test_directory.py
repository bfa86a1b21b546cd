# SPDX-License-Identifier: BSD-3-Clause
"""Who serves a data directory, and whose it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from piwheels_node.core.errors import NodeError, StorageError
from piwheels_node.core.settings import MasterSettings, Settings
from piwheels_node.master.running import directory

HOLDER = """
import signal, sys
from pathlib import Path
from piwheels_node.master.running import directory
held = directory.hold(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
print("held", flush=True)
signal.pause()
"""


@pytest.fixture
def hold_elsewhere(tmp_path):
    """Have another process hold the directory, until the test ends or kills it."""
    children = []

    def hold(how):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), how], stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        assert child.stdout.readline() == "held\n"
        return child

    yield hold
    for child in children:
        child.kill()
        child.communicate()


def test_a_directory_that_one_master_has_alone_is_refused_to_all_others(tmp_path, hold_elsewhere):
    child = hold_elsewhere("alone")
    for shared in (True, False):
        with pytest.raises(NodeError, match=f"process {child.pid} serves this directory"):
            directory.hold(tmp_path, shared=shared)


def test_masters_share_a_directory_and_nobody_gets_it_alone(tmp_path, hold_elsewhere):
    hold_elsewhere("shared")
    with directory.hold(tmp_path, shared=True):
        pass
    with pytest.raises(NodeError, match="masters that share a database serve this directory"):
        directory.hold(tmp_path, shared=False)


def test_a_master_that_was_killed_holds_nothing(tmp_path, hold_elsewhere):
    child = hold_elsewhere("alone")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()

    with directory.hold(tmp_path, shared=False):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_only_the_first_master_that_runs_is_told_so(tmp_path):
    first, is_first = directory.attend(tmp_path)
    second, is_second_first = directory.attend(tmp_path)
    assert (is_first, is_second_first) == (True, False)
    first.close()
    third, is_third_first = directory.attend(tmp_path)
    assert not is_third_first  # the second one still runs
    second.close()
    third.close()
    again, is_first = directory.attend(tmp_path)
    assert is_first
    again.close()


def test_a_directory_without_an_owner_becomes_that_of_its_first_database(tmp_path):
    directory.belong(tmp_path, "abc", has_wheels=False)
    directory.belong(tmp_path, "abc", has_wheels=True)

    assert (tmp_path / "instance").read_text() == "abc\n"
    assert [path.name for path in tmp_path.iterdir()] == ["instance"]


def test_the_directory_of_another_database_is_refused(tmp_path):
    directory.belong(tmp_path, "abc", has_wheels=False)
    for has_wheels in (True, False):
        with pytest.raises(StorageError, match="belongs to another database") as caught:
            directory.belong(tmp_path, "def", has_wheels=has_wheels)
        assert "write def" in caught.value.hint


def test_an_empty_directory_is_refused_where_the_database_has_wheels(tmp_path):
    """Somebody forgot to mount it: the index would name files that are not there."""
    with pytest.raises(StorageError, match="not in this data directory"):
        directory.belong(tmp_path, "abc", has_wheels=True)


@pytest.mark.parametrize(
    ("url", "shared"), [("", False), ("sqlite:////srv/x.db", False), ("postgresql://farm@db/farm", True)]
)
def test_only_masters_of_a_server_share_their_directory(tmp_path, url, shared):
    settings = Settings(master=MasterSettings(database=url))

    assert directory.is_shared(settings) is shared
    assert directory.database_url(tmp_path, settings) == (url or f"sqlite:///{tmp_path}/database.sqlite")
