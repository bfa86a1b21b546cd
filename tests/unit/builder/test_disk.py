# SPDX-License-Identifier: BSD-3-Clause
"""Counting trees, and removing them, whatever package code has made of them."""

from __future__ import annotations

import os
import time

import pytest

from piwheels_node.builder.confine.disk import Disk, tree_bytes
from piwheels_node.builder.files import remove_tree

MIB = 1 << 20
MUCH = 1 << 50


def deep(directory, depth):
    """Directories in each other, deeper than a path can say."""
    here = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=here)
        below = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


@pytest.fixture
def tree(tmp_path):
    """An empty directory that is gone afterwards, before pytest would have to remove it."""
    made = tmp_path / "tree"
    made.mkdir()
    yield made
    remove_tree(made)


def test_a_tree_takes_what_its_files_take(tree):
    (tree / "a").mkdir()
    (tree / "a" / "file").write_bytes(os.urandom(MIB))

    assert MIB <= tree_bytes(tree, MUCH) < 2 * MIB


def test_what_is_empty_takes_room_as_well(tree):
    for number in range(100):
        (tree / f"{number}").mkdir()
        (tree / f"{number}" / "empty").touch()

    assert tree_bytes(tree, MUCH) >= 200 * 512


def test_a_link_takes_nothing_of_what_it_leads_to(tree):
    (tree / "link").symlink_to("/usr")

    assert tree_bytes(tree, MUCH) < 10_000


def test_a_sparse_file_takes_what_is_written(tree):
    with (tree / "sparse").open("wb") as file:
        file.truncate(1 << 40)

    assert tree_bytes(tree, MUCH) < MIB


def test_a_tree_deeper_than_a_path_is_more_than_any_may_be(tree):
    deep(tree, 1000)

    assert tree_bytes(tree, MUCH) > MUCH


def test_more_than_enough_is_not_counted(tree):
    for number in range(200):
        (tree / f"{number}").touch()

    assert tree_bytes(tree, 10_000) < 12_000


def test_a_disk_is_counted_at_once_when_it_has_lost_much(tree):
    disk = Disk(tree, most_bytes=16 * MIB, every_s=3600)
    assert not disk.look([])
    (tree / "file").write_bytes(os.urandom(12 * MIB))
    os.sync()

    assert not disk.look([])
    assert disk.used_bytes >= 12 * MIB
    (tree / "more").write_bytes(os.urandom(8 * MIB))
    time.sleep(10 * disk._cost_s)
    assert disk.look([])


def test_a_file_without_a_name_is_counted_with_its_process(tree):
    disk = Disk(tree, most_bytes=4 * MIB, every_s=0)
    with (tree / "file").open("wb") as file:
        file.write(os.urandom(8 * MIB))
        file.flush()
        (tree / "file").unlink()

        assert disk.look([os.getpid()])


@pytest.mark.parametrize("depth", [1, 100, 1500])
def test_a_tree_of_any_depth_is_removed(tree, depth):
    deep(tree, depth)

    remove_tree(tree)

    assert not tree.exists()


def test_a_tree_that_forbids_everything_is_removed(tree):
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "c" / "file").touch()
    for path in (tree / "a" / "b" / "c", tree / "a" / "b", tree / "a"):
        path.chmod(0)

    remove_tree(tree)

    assert not tree.exists()


def test_what_a_link_leads_to_stays(tree, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tree / "link").symlink_to(tmp_path / "precious")

    remove_tree(tree)

    assert (tmp_path / "precious" / "file").exists()
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(NotADirectoryError):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "precious" / "file").exists()


def test_a_tree_that_is_not_there_is_removed_already(tmp_path):
    mode = tmp_path.stat().st_mode

    remove_tree(tmp_path / "nothing")

    assert tmp_path.stat().st_mode == mode
