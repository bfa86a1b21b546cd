# SPDX-License-Identifier: BSD-3-Clause
"""A database that fills its disk: a clear refusal, no corruption, and on it goes when there is room again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
SIZES = {"sqlite": "4m", "postgresql": "160m"}


def on_a_small_disk(kind, place):
    """What `small_disk.py` has seen, in a mount namespace of its own."""
    disk = place / "disk"
    disk.mkdir()
    namespace = ["unshare", "--mount"]
    if os.geteuid() != 0:
        namespace += ["--user", "--map-current-user", "--keep-caps"]
    script = f'mount -t tmpfs -o size={SIZES[kind]},mode=0755 tmpfs "$0" && exec "$@"'
    program = [sys.executable, str(SUPPORT / "small_disk.py"), kind, str(disk), str(place)]
    path = os.pathsep.join([str(SUPPORT), str(Path.cwd())])
    done = subprocess.run(
        [*namespace, "sh", "-c", script, str(disk), *program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", SIZES)
def test_a_full_disk_is_a_clear_refusal_and_loses_nothing(kind):
    with tempfile.TemporaryDirectory(prefix="full-") as directory:
        Path(directory).chmod(0o755)
        seen = on_a_small_disk(kind, Path(directory))

    error, what = seen["refused"]
    if kind == "sqlite":
        assert (error, what) == ("StorageError", "the disk is full, so the database cannot grow")
        assert seen["meanwhile"] == [200, 200, 200]
    else:  # PostgreSQL may say so, or end where its own log does not fit any more
        assert error in {"StorageError", "MasterUnreachableError"}
        assert seen["meanwhile"][1:] == [200, 200]
    assert seen["report"] == "built"
    assert seen["afterwards"][0] == "worked"
    assert seen["counters are right"]
    assert seen["check"] == "ok"
