# SPDX-License-Identifier: BSD-3-Clause
"""Every package of the hostile corpus ends with its own reason, and leaves the host as it was.

With control groups (where some were delegated to us, or nobody manages those that there are) and without.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from corpus import CORPUS, LIMITS, Hostile
from fix_builder import wait_until
from fix_builds import Builds, control_groups
from fix_pypi import HomeMadePyPI
from sdists import c_extension, make_sdist

from piwheels_node.builder.confine.processes import Family, read
from piwheels_node.core.failure import FailureReason

_OUTSIDE = ("/tmp/big", "/tmp/bin", "/tmp/0", "/dev/shm/big", "/var/lib/evil", "/build")
"""Where some of them write: there must be nothing of it outside."""

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="module", autouse=True)
def _foster_parent():
    """Whatever escapes from a sandbox, and loses its parent, becomes our child, and so is seen below."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture(scope="module", params=["cgroup", "none"])
def confined(request):
    """A workshop with small limits, with control groups or without."""
    with contextlib.ExitStack() as closing:
        setting, group = (
            closing.enter_context(control_groups()) if request.param == "cgroup" else ("none", None)
        )
        pypi = HomeMadePyPI()
        closing.callback(pypi.close)
        root = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="piwheels-node-test-")))
        root.chmod(0o755)
        builds = Builds(root / "builder", pypi, cgroup=setting, **LIMITS)
        closing.callback(builds.close)
        builds.group = group
        assert (builds.workshop.sandbox.groups is None) == (group is None)
        yield builds


class Host:
    """What a build could have changed: files, mounts, processes, control groups."""

    def __init__(self, builds, outside: Path) -> None:
        root = builds.workshop.root
        self.files = [
            *(f"{path} {sorted(os.listdir(path))}" for path in ("/", "/etc", "/usr/bin", "/home", "/mnt")),
            *(f"{path} {_about(path)}" for path in sorted(outside.rglob("*"))),
            *(f"{path} {_about(path)}" for path in sorted((root / "etc").iterdir())),
            *sorted(map(str, (root / "builds").iterdir())),
            *filter(os.path.lexists, _OUTSIDE),
            *sorted(map(str, builds.workshop.rooms.memory.iterdir() if builds.workshop.rooms.memory else ())),
        ]
        self.mounts = [
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if _ours(line, root)
        ]
        self.processes = processes()
        self.groups = (
            sorted(path.name for path in builds.group.iterdir() if path.is_dir()) if builds.group else []
        )


def processes() -> frozenset[int]:
    """All that descend from us and have not ended."""
    family = Family(os.getpid())
    found = [number for number in family.numbers() if not _has_ended(number)]
    family.close()
    return frozenset(found)


@pytest.fixture
def bystander():
    """A process of the same user, which is nobody else's business."""
    with subprocess.Popen(["sleep", "infinity"]) as process:
        yield process
        process.kill()


def _has_ended(number: int) -> bool:
    return read(f"/proc/{number}/stat").rpartition(b")")[2].split()[:1] in ([], [b"Z"], [b"X"])


def _ours(mount: str, root: Path) -> bool:
    """Mounts where a build could leave some; other tests beside us have theirs elsewhere."""
    place = Path(mount.split()[4])
    return place.is_relative_to(root.parent) or (len(place.parts) <= 3 and place.parts[1:2] != ("tmp",))


def _about(path: Path):
    about = path.lstat()
    return about.st_ino, about.st_mode, about.st_uid, about.st_size, about.st_mtime_ns


def build(builds, hostile: Hostile, directory: Path):
    source = c_extension(f"_{hostile.name.replace('-', '_')}") if hostile.c_extension else None
    sdist = make_sdist(directory, hostile.name, "1.0", setup=hostile.setup, ask=hostile.ask, c_source=source)
    return builds.build(sdist, **hostile.limits)


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda one: one.name)
def test_every_hostile_package_ends_with_its_reason_and_the_host_is_as_it_was(
    confined, tmp_path, hostile, monkeypatch, bystander
):
    monkeypatch.setenv("SECRET_OF_THE_BUILDER", "SECRET_OF_THE_BUILDER")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("as it was")
    before = Host(confined, outside)

    done = build(confined, hostile, tmp_path)

    sys.stdout.write(f"{done.record}\n{done.log[-3000:]}\n")  # pytest shows it where a test fails
    assert done.reason is hostile.reason
    assert bool(done.wheel) == (hostile.reason is None)
    if hostile.captured:
        assert done.record.captured == hostile.captured
    assert all(text in done.log for text in hostile.logged)
    assert not any(text in done.log for text in hostile.not_logged)
    assert not any(ord(one) < 32 for one in done.record.evidence or "")
    wait_until(lambda: processes() <= before.processes, within_s=10)  # other tests' may have ended
    assert bystander.poll() is None
    after = Host(confined, outside)
    assert after.files == before.files
    assert after.mounts == before.mounts
    assert after.groups == before.groups


def test_an_honest_package_is_built_after_all_of_them(confined, tmp_path):
    honest = Hostile("honest", "nothing", None, c_extension=True)

    done = build(confined, honest, tmp_path)

    assert done.wheel
    assert "fake" not in done.log


def test_no_limit_is_overrun_by_much(confined, tmp_path):
    hog = next(one for one in CORPUS if one.name == "hog")
    began = time.monotonic()

    done = build(confined, hog, tmp_path)

    assert done.reason is FailureReason.OUT_OF_MEMORY
    assert done.record.usage.peak_memory_bytes < 2 * LIMITS["memory_max_bytes"]
    assert time.monotonic() - began < 60


def test_what_escapes_from_its_parents_is_seen():
    before = processes()
    command = "(sleep 600 >/dev/null & echo $!)"
    stray = int(subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout)

    try:
        assert stray in processes() - before
    finally:
        os.kill(stray, signal.SIGKILL)
        os.waitpid(stray, 0)


def test_the_corpus_has_every_name_once_and_a_line_on_each():
    names = [one.name for one in CORPUS]

    assert len(set(names)) == len(names)
    assert not [one.name for one in CORPUS if not one.tries or "\n" in one.tries]
