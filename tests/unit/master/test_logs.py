# SPDX-License-Identifier: BSD-3-Clause
"""Logs: written by offset, by several processes, bounded."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from piwheels_node.core.errors import StorageError
from piwheels_node.master.wheels.logs import LogFiles

SINCE = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LIMIT = 10**6


@pytest.fixture
def logs(tmp_path):
    return LogFiles(tmp_path / "logs")


def test_a_log_grows_by_offset_and_a_part_that_comes_twice_is_written_once(logs):
    assert logs.append(1, SINCE, 0, b"abc", limit=LIMIT) == 3
    assert logs.append(1, SINCE, 0, b"abc", limit=LIMIT) == 3
    assert logs.append(1, SINCE, 1, b"bcdef", limit=LIMIT) == 6
    assert logs.append(1, SINCE, 2, b"cd", limit=LIMIT) == 6
    assert logs.read(logs.newest(1), 0, 100).data == b"abcdef"


def test_nothing_is_written_behind_a_gap(logs):
    assert logs.append(1, SINCE, 5, b"x", limit=LIMIT) == 0
    assert logs.read(logs.newest(1), 0, 100).data == b""


def test_what_goes_beyond_the_limit_is_dropped_and_the_builder_goes_on(logs):
    assert logs.append(1, SINCE, 0, b"a" * 8, limit=10) == 8
    assert logs.append(1, SINCE, 8, b"b" * 8, limit=10) == 16
    assert logs.append(1, SINCE, 16, b"c" * 8, limit=10) == 24
    assert logs.read(logs.newest(1), 0, 100).data == b"a" * 8 + b"bb"


WRITER = """
import sys
from datetime import datetime
from pathlib import Path
from piwheels_node.master.wheels.logs import LogFiles
logs, since = LogFiles(Path(sys.argv[1])), datetime.fromisoformat(sys.argv[2])
data = Path(sys.argv[3]).read_bytes()
offset = 0
while offset < len(data):
    offset = logs.append(7, since, offset, data[offset : offset + 100], limit=10**9)
"""


def test_the_same_log_through_three_processes_at_once_is_written_once(logs, tmp_path):
    data = b"".join(b"%09d\n" % line for line in range(5000))
    (tmp_path / "data").write_bytes(data)
    command = [sys.executable, "-c", WRITER, tmp_path / "logs", SINCE.isoformat(), tmp_path / "data"]
    writers = [subprocess.Popen(command) for _ in range(3)]

    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    assert logs.read(logs.newest(7), 0, 10**6).data == data


FULL = """
import resource, signal, sys
from datetime import datetime
from pathlib import Path
from piwheels_node.core.errors import StorageError
from piwheels_node.master.wheels.logs import LogFiles
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    LogFiles(Path(sys.argv[1])).append(7, datetime.fromisoformat(sys.argv[2]), 0, b"a" * 1500, limit=10**6)
except StorageError as error:
    print(error)
"""


def test_a_disk_that_takes_only_half_of_a_part_is_a_storage_error_and_the_other_half_follows(logs, tmp_path):
    said = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "logs", SINCE.isoformat()],
        check=True,
        capture_output=True,
        text=True,
    )

    assert "the log cannot be written" in said.stdout
    assert logs.append(7, SINCE, 0, b"a" * 1000 + b"b" * 500, limit=LIMIT) == 1500
    assert logs.read(logs.newest(7), 0, 10**4).data == b"a" * 1000 + b"b" * 500


def test_a_directory_that_is_a_file_is_a_storage_error(logs, tmp_path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(StorageError):
        logs.append(1, SINCE, 0, b"x", limit=LIMIT)
