# SPDX-License-Identifier: BSD-3-Clause
"""Seals: a tree that was changed, emptied by a power cut, or not finished is noticed at its next use."""

from __future__ import annotations

import os
import shutil

import pytest

from piwheels_node.builder.caches import seal as seals
from piwheels_node.builder.caches.seal import is_intact, seal


@pytest.fixture
def tree(tmp_path):
    """A sealed tree; its seal is `seal.json` beside it."""
    tree = tmp_path / "tree"
    (tree / "package").mkdir(parents=True)
    (tree / "package" / "module.py").write_text("x = 1\n")
    (tree / "python").symlink_to("/usr/bin/python3")
    seal(tree, tmp_path / "seal.json")
    return tree


def restart(monkeypatch, tmp_path):
    """The machine is started again, as far as the kernel tells."""
    (tmp_path / "boot_id").write_text(f"{os.urandom(8).hex()}\n")
    monkeypatch.setattr(seals, "_BOOT", tmp_path / "boot_id")


def keep_times(path, change):
    about = path.stat()
    change(path)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_tree_that_nobody_touched_is_intact_also_where_it_was_moved(tree, tmp_path):
    assert is_intact(tree, tmp_path / "seal.json")
    assert is_intact(tree.rename(tmp_path / "elsewhere"), tmp_path / "seal.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "package" / "module.py").write_text("x = 22\n"),
        lambda tree: (tree / "package" / "module.py").write_text("x = 2\n"),
        lambda tree: (tree / "package" / "module.py").chmod(0o600),
        lambda tree: (tree / "package" / "module.py").unlink(),
        lambda tree: (tree / "package" / "evil.pth").write_text("import evil"),
        lambda tree: (tree / "package" / "empty").mkdir(),
        lambda tree: (tree / "python").unlink() or (tree / "python").symlink_to("/tmp/python3"),
        shutil.rmtree,
    ],
    ids=["size", "time", "mode", "missing", "more", "directory", "link", "gone"],
)
def test_a_tree_that_was_changed_is_not(tree, tmp_path, change):
    change(tree)

    assert not is_intact(tree, tmp_path / "seal.json")


def test_content_that_changed_and_looks_the_same_is_noticed_after_the_next_start(tree, tmp_path, monkeypatch):
    keep_times(tree / "package" / "module.py", lambda path: path.write_bytes(bytes(6)))
    assert is_intact(tree, tmp_path / "seal.json"), "this is what a use costs: no more than to look"

    restart(monkeypatch, tmp_path)

    assert not is_intact(tree, tmp_path / "seal.json")


def test_content_is_read_once_after_each_start(tree, tmp_path, monkeypatch):
    read = []
    real = seals.sha256_of
    monkeypatch.setattr(seals, "sha256_of", lambda path: read.append(path) or real(path))
    restart(monkeypatch, tmp_path)

    assert [is_intact(tree, tmp_path / "seal.json") for _ in range(3)] == [True] * 3
    assert len(read) == 1


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"shape": 1', "\0\0\0"])
def test_a_seal_that_cannot_be_read_vouches_for_nothing(tree, tmp_path, note):
    (tmp_path / "seal.json").write_text(note)

    assert not is_intact(tree, tmp_path / "seal.json")
