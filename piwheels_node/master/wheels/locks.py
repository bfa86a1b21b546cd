# SPDX-License-Identifier: BSD-3-Clause
"""Locks between processes, and between threads: `flock` on files.

They hold over a network file system that has them (NFS does), and the kernel lets go of them where a
process dies. Every call opens the file anew, so two threads of one process wait for each other too, and a
thread that locks what it has locked already waits for ever. This module imports only the standard library.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, which is made where it is missing and stays."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def open_locked(path: Path, *, create: bool = False) -> Iterator[int]:
    """A descriptor to write to the file that `path` names, while nobody else has it locked.

    As long as everybody who renames or removes the file locks it first, `path` names this file until the
    end. Raises FileNotFoundError where there is none, and OSError for a symbolic link.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """False where the file was renamed or removed while we waited for its lock."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))
