# SPDX-License-Identifier: BSD-3-Clause
"""Removing trees that package code has written to."""

from __future__ import annotations

import stat

from piwheels_node.builder.files import remove_tree


def test_a_tree_that_forbids_it_is_removed(tmp_path):
    inner = tmp_path / "tree" / "closed"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(0)
    inner.parent.chmod(0o500)

    remove_tree(tmp_path / "tree")

    assert list(tmp_path.iterdir()) == []


def test_what_the_tree_lies_in_is_left_as_it_is_also_where_there_is_no_tree(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "tree").mkdir()

    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_links_are_not_followed(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")

    remove_tree(tmp_path / "tree")

    assert (tmp_path / "kept" / "file").exists()
