# SPDX-License-Identifier: BSD-3-Clause
"""What the command cannot do, it refuses with what, where and what to try, and exit code 3.

A machine without user namespaces, and a full disk, are made inside a namespace of the test's own.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3

import pytest
from fix_command import clean_environ
from sdists import make_sdist


@pytest.fixture
def little(command, made):
    """A package on PyPI that builds."""
    command.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    return "little"


def refused(ended, what, where, hint):
    """It says all three, each on its line, and nothing else; the exit code is 3."""
    lines = ended.err.splitlines()
    assert ended.code == 3, ended.err
    assert ended.out == ""
    assert len(lines) == 2 + bool(where), ended.err
    assert lines[0].startswith("piwheels-node: ")
    assert what in lines[0]
    if where:
        assert lines[1].startswith("  where: ")
        assert where in lines[1]
    assert lines[-1].startswith("  try: ")
    assert hint in lines[-1]
    return True


def test_a_port_in_use_is_refused(command, little):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = command.standalone(little, "--port", str(port))

    assert refused(ended, "another program listens there", f"127.0.0.1:{port}", "another port")


def test_a_directory_in_use_is_refused_and_the_first_one_goes_on(command, little):
    with command.start("standalone", "--keep") as first:
        first.until("until Ctrl-C")
        ended = command.standalone(little)
        pid = first.process.pid

        assert refused(ended, f"process {pid} serves this directory", str(command.data), "ask that one")
        assert command.run("build", little).code == 0
        assert first.end(signal.SIGINT).code == 0


def test_a_directory_that_is_a_file_is_a_wrong_call(command, little):
    command.data.write_text("")

    ended = command.standalone(little)

    assert ended.code == 2
    assert f"Directory '{command.data}' is a file" in ended.err


def test_no_bubblewrap_is_refused(command, little):
    nowhere = command.directory / "bin"
    nowhere.mkdir()

    ended = command.standalone(little, environ=clean_environ(PATH=str(nowhere)))

    assert refused(ended, "bubblewrap is not installed", None, "apt install bubblewrap")


def test_bubblewrap_is_found_wherever_path_leads(command, little):
    """The program that was found is the one that is run."""
    elsewhere = command.directory / "bin"
    elsewhere.mkdir()
    (elsewhere / "bwrap").write_text('#!/bin/sh\necho >&2 "bwrap: not this time"; exit 1\n')
    (elsewhere / "bwrap").chmod(0o755)

    ended = command.standalone(little, environ=clean_environ(PATH=f"{elsewhere}:{os.environ['PATH']}"))

    assert refused(ended, "bwrap: not this time", "bubblewrap", "namespaces")


def test_no_user_namespaces_is_refused(ordinary, made):
    ordinary.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    before = ("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh")

    ended = ordinary.standalone("little", before=before)

    assert refused(ended, "does not let us confine a build", "bubblewrap", "max_user_namespaces")


def test_a_root_that_can_be_nobody_else_is_refused(command, little):
    before = ("unshare", "--user", "--map-root-user")  # as in a container without further accounts

    ended = command.standalone(little, before=before)

    assert refused(ended, "cannot be run as 'nobody'", "bwrap", "an ordinary user")


def test_a_directory_that_may_not_be_written_is_refused(ordinary, open_tmp_path):
    closed = open_tmp_path / "closed"
    closed.mkdir(mode=0o555)

    ended = ordinary.standalone("little", data=closed)
    assert refused(ended, "cannot be used: Permission denied", str(closed), "--data DIR")

    ended = ordinary.standalone("little", data=closed / "farm")
    assert refused(ended, "cannot be used: Permission denied", str(closed), "--data DIR")


# --- a full disk ---------------------------------------------------------------------------------------

ON_A_SMALL_DISK = (
    'mount -t tmpfs -o size="$1",mode=755 small "$0" && shift && "$@"; code=$?; '
    'find "$0/wheels" "$0/incoming" "$0/builder/builds" -mindepth 1 >&2; '
    'cp "$0"/database.sqlite* "$0"/../; exit $code'
)
"""What is left on the disk is listed on standard error, and the database is kept."""


@pytest.fixture
def on_a_small_disk(command):
    """Run the command with a small disk for its data directory, in a mount namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small disk")
    command.data.mkdir()

    def run(size, *words, kept_free=0):
        before = ("unshare", "--mount", "sh", "-c", ON_A_SMALL_DISK, str(command.data), size)
        return command.standalone(*words, "--set", f"master.min_free_bytes={kept_free}", before=before)

    return run


def state_of_job(command):
    """State and reason by the database that was kept, which opens and is whole."""
    connection = sqlite3.connect(command.directory / "database.sqlite")
    try:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("select count(*) from wheel").fetchall() == [(0,)]
        return connection.execute(
            "select job.state, build.reason from job left join build on build.job_id = job.id"
        ).fetchall()
    finally:
        connection.close()


def test_a_package_that_fills_the_disk_ends_as_out_of_disk(command, made, on_a_small_disk):
    setup = "open('/build/big', 'wb').write(bytes(64 << 20))"
    command.pypi.add(make_sdist(made, "greedy", "1.0", setup=setup), project="greedy")

    ended = on_a_small_disk("8m", "greedy", "--json", "--set", "builder.memory_bytes=0")

    assert ended.code == 3
    assert ended.one()["reason"] == "out-of-disk"
    assert "Traceback" not in ended.err
    assert str(command.data) not in ended.err
    assert set(state_of_job(command)) == {("failed", "out-of-disk")}  # it was tried again, in vain


def test_a_source_that_does_not_fit_ends_as_out_of_disk(command, made, on_a_small_disk):
    files = {"large.py": "", "large.bin": os.urandom(12 << 20)}
    command.pypi.add(make_sdist(made, "large", "1.0", files=files), project="large")

    ended = on_a_small_disk("8m", "large", "--json")

    assert ended.code == 3
    assert ended.one()["reason"] == "out-of-disk"
    assert "Traceback" not in ended.err
    assert str(command.data) not in ended.err


def test_a_wheel_that_does_not_fit_into_the_index_ends_as_out_of_disk(command, made, on_a_small_disk):
    setup = "import os; os.makedirs('src'); open('src/large.bin', 'wb').write(os.urandom(4 << 20))"
    command.pypi.add(make_sdist(made, "large", "1.0", setup=setup, files={}), project="large")

    ended = on_a_small_disk("16m", "large", "--json", kept_free=10 << 20)

    assert ended.code == 3, ended
    assert ended.one()["reason"] == "out-of-disk"
    assert "Traceback" not in ended.err
    assert str(command.data) not in ended.err


def test_no_room_for_the_database_is_refused(command, little, on_a_small_disk):
    ended = on_a_small_disk("64k", little)

    assert ended.code == 3
    assert "Traceback" not in ended.err
    assert "the disk is full" in ended.err.splitlines()[0]
