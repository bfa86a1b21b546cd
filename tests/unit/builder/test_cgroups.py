# SPDX-License-Identifier: BSD-3-Clause
"""Control groups: whose they are, what is written to them, and what is read; on files like the kernel's.

That the kernel does what is written is shown by test_corpus.py, where it lets us.
"""

from __future__ import annotations

import os

import pytest

from piwheels_node.builder.confine import cgroups
from piwheels_node.builder.confine.cgroups import Group, Groups, is_delegated


def made(path, **files):
    """A directory with the files that the kernel makes in a group."""
    path.mkdir(exist_ok=True)
    for name, content in {
        "cgroup.type": "domain\n",
        "cgroup.procs": "",
        "cgroup.controllers": "cpu io memory pids\n",
        "cgroup.subtree_control": "",
        **{name.replace("__", "."): content for name, content in files.items()},
    }.items():
        (path / name).write_text(content)
    return path


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """Lets the machine be one that systemd manages, or not."""

    def choose(*, managed):
        place = tmp_path / "systemd"
        if managed:
            place.mkdir()
        monkeypatch.setattr(cgroups, "_SYSTEMD", place)

    return choose


def test_what_systemd_has_not_delegated_is_left_alone(tmp_path, systemd, monkeypatch):
    systemd(managed=True)
    group = made(tmp_path / "session.scope")
    attributes = {}
    monkeypatch.setattr(os, "getxattr", lambda path, name: attributes[name])
    monkeypatch.setattr(cgroups, "_DELEGATED", ("user.delegate",))

    attributes["user.delegate"] = b"0"
    assert not is_delegated(group)
    attributes["user.delegate"] = b"1"
    assert is_delegated(group)


def test_an_attribute_that_is_not_there_delegates_nothing(tmp_path, systemd):
    systemd(managed=True)

    assert not is_delegated(made(tmp_path / "session.scope"))


def test_where_nobody_manages_groups_one_that_can_be_written_is_ours(tmp_path, systemd):
    systemd(managed=False)

    assert is_delegated(made(tmp_path / "group"))


def test_the_root_of_all_groups_is_nobody_s(tmp_path, systemd):
    systemd(managed=False)
    group = made(tmp_path / "group")
    (group / "cgroup.type").unlink()

    assert not is_delegated(group)


def test_limits_are_written_where_the_kernel_has_them_and_nowhere_else(tmp_path):
    class Made(Group):
        def _write(self, name, value):
            if name in {"memory.max", "pids.max"}:
                (self.path / name).touch()
            return super()._write(name, value)

    group = Made(tmp_path / "build", memory_bytes=7, processes=8)

    assert group.limits_memory
    assert {path.name: path.read_text() for path in group.path.iterdir()} == {
        "memory.max": "7",
        "pids.max": "8",
    }


def test_a_group_without_a_memory_controller_says_so(tmp_path):
    assert not Group(tmp_path / "build", memory_bytes=7, processes=8).limits_memory


def test_what_a_group_tells_is_read(tmp_path):
    group = Group(tmp_path / "build", memory_bytes=7, processes=8)
    made(
        group.path,
        memory__stat="anon 100\nfile 5000\nkernel_stack 10\npagetables 20\nshmem 1000\nslab 7\n",
        memory__peak="4711\n",
        memory__events="low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n",
        cpu__stat="usage_usec 2500000\nuser_usec 2000000\n",
        cgroup__events="populated 1\nfrozen 1\n",
    )

    assert group.memory_bytes() == 1130
    assert group.peak_memory_bytes() == 4711
    assert group.was_out_of_memory()
    assert group.cpu_s() == 2.5
    assert group.is_frozen()


def test_a_group_that_tells_nothing_has_used_nothing(tmp_path):
    group = Group(tmp_path / "build", memory_bytes=7, processes=8)

    assert (group.memory_bytes(), group.peak_memory_bytes(), group.cpu_s()) == (0, 0, 0)
    assert not group.was_out_of_memory()


def test_a_group_that_is_gone_is_removed_already(tmp_path):
    group = Group(tmp_path / "build", memory_bytes=7, processes=8)
    group.remove()
    group.remove()

    assert not group.path.exists()


def test_groups_of_a_builder_that_was_killed_are_removed_and_those_of_others_stay(tmp_path):
    base = made(tmp_path / "base")
    for name in (f"build-{os.getpid()}-77", "build-999999999-1", "service", "build-other"):
        (base / name).mkdir()

    Groups(base)

    left = {path.name for path in base.iterdir() if path.is_dir()}
    assert left == {f"build-{os.getpid()}-77", "service", "build-other"}


def test_the_least_that_a_group_above_allows_is_what_all_builds_may_have(tmp_path):
    base = made(made(tmp_path / "slice", memory__max="5000\n") / "unit", memory__max="max\n")

    assert Groups(base).memory_max_bytes() == 5000


@pytest.mark.parametrize("setting", ["none", "/nowhere/at/all"])
def test_no_groups_are_none(setting):
    assert Groups.find(setting) is None


def test_a_group_moves_its_processes_out_of_the_way_before_it_has_children(tmp_path):
    group = made(tmp_path / "unit")

    cgroups._move_to_leaf(group)
    assert (group / "service").is_dir()
    (group / "cgroup.procs").write_text("4711\n")

    with pytest.raises(OSError, match="never gets empty"):  # a file does not lose what was moved
        cgroups._move_to_leaf(group)
    assert (group / "service" / "cgroup.procs").read_text() == "4711"
