# SPDX-License-Identifier: BSD-3-Clause
"""Trees that package code has written to: removing them and reading from them, led astray by nothing."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import stat
from pathlib import Path
from typing import IO


def remove_tree(directory: Path) -> None:
    """Remove a tree, also where its directories forbid it; following no link. A missing one is fine.

    Every directory is moved to the top before it is emptied: package code can nest them deeper than any
    path, stack or number of open files would reach.
    """
    if directory.is_symlink():
        raise NotADirectoryError(f"{directory} is a link, which is not followed")
    numbers = itertools.count()
    prefix = os.path.join(directory, f".{secrets.token_hex(8)}-")
    pending = [str(directory)] if directory.exists() else []
    while pending:
        place = pending.pop()
        with contextlib.suppress(FileNotFoundError):  # somebody else removes it, too
            os.chmod(place, 0o700)
            with os.scandir(place) as entries:
                found = list(entries)
            for entry in found:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                else:
                    pending.append(f"{prefix}{next(numbers)}")
                    _move(entry.path, pending[-1])
            if place != str(directory):
                os.rmdir(place)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)


def _move(path: str, above: str) -> None:
    try:
        os.rename(path, above)
    except PermissionError:
        os.chmod(path, 0o700)  # what is moved elsewhere must be one's own to write
        os.rename(path, above)


def open_plain(path: Path) -> IO[bytes]:
    """Open a file that package code made, for reading: no link, no device, no second name.

    Raises OSError where it is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
            raise OSError(f"{path.name} is not a plain file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
