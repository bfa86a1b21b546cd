# SPDX-License-Identifier: BSD-3-Clause
"""Seals: whether a tree that was finished once is still what it was, asked at every use and answered fast.

Two digests of a tree are written beside it when it is finished: of its *shape* (paths, kinds, modes, sizes,
times of change) and of its *content* (every byte). At each use the shape is compared; that is one `lstat`
per file. The content is compared at the first use after each start of the machine, and only then: while it
runs, the kernel gives back what was written, and nobody else may write there; but a power cut takes what had
not reached the disk, and leaves files of the right name with nothing or zeros in them. A builder that is
killed loses nothing that way.

Nobody signs a seal: it guards against accidents. Package code is kept from sealed trees by the sandbox,
which binds them read-only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from piwheels_node.builder.files import sha256_of

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def seal(tree: Path, note: Path) -> None:
    """Write the seal of a finished tree to `note`, which is not in it."""
    _write(note, _shape(tree), _content(tree))


def is_intact(tree: Path, note: Path) -> bool:
    """True where the tree is what it was when it was sealed."""
    try:
        said = json.loads(note.read_text())
        shape, content, boot = said["shape"], said["content"], said["boot"]
        if _shape(tree) != shape:
            return False
        if boot == boot_id():
            return True
        if _content(tree) != content:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False  # the tree or the note is not there, or not readable
    with contextlib.suppress(OSError):  # it is compared again next time
        _write(note, shape, content)
    return True


def boot_id() -> str:
    """A name for the time since the machine was started; none where the kernel gives none."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _write(note: Path, shape: str, content: str) -> None:
    part = note.with_name(f"{note.name}-{os.getpid()}-{threading.get_ident()}")
    part.write_text(json.dumps({"boot": boot_id(), "shape": shape, "content": content}))
    part.replace(note)


def _shape(tree: Path) -> str:
    digest = hashlib.sha256()
    for path, about in _walk(tree):
        said = f"{about.st_mode:o}"
        if stat.S_ISLNK(about.st_mode):
            said += f" {os.readlink(path)}"
        elif stat.S_ISREG(about.st_mode):
            said += f" {about.st_size} {about.st_mtime_ns}"
        digest.update(_line(tree, path, said))
    return digest.hexdigest()


def _content(tree: Path) -> str:
    digest = hashlib.sha256()
    for path, about in _walk(tree):
        if stat.S_ISREG(about.st_mode):
            digest.update(_line(tree, path, sha256_of(Path(path))))
    return digest.hexdigest()


def _line(tree: Path, path: str, said: str) -> bytes:
    """What is said of a file, under the name that it has in the tree, wherever the tree lies."""
    return f"{path[len(str(tree)) :]}\0{said}\n".encode("utf-8", "surrogateescape")


def _walk(tree: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below a tree, in one order."""
    with os.scandir(tree) as listed:
        entries = sorted(listed, key=lambda one: one.name)
    for one in entries:
        yield one.path, one.stat(follow_symlinks=False)
        if one.is_dir(follow_symlinks=False):
            yield from _walk(Path(one.path))
