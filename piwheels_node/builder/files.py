# SPDX-License-Identifier: BSD-3-Clause
"""Trees that package code has written to: removing them and reading from them, led astray by nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def remove_tree(directory: Path) -> None:
    """Remove a tree, also where its directories forbid it; following no link. A missing one is fine."""

    def allow_and_try_again(function: Callable[..., Any], path: str, _: Any) -> None:
        with contextlib.suppress(FileNotFoundError):
            inside = os.fspath(path) != os.fspath(directory)  # what the tree lies in is left as it is
            for one in (os.path.dirname(path), path) if inside else (path,):
                if not os.path.islink(one):
                    os.chmod(one, 0o700)
            if function in {os.open, os.scandir, os.lstat}:
                shutil.rmtree(path)
            else:
                function(path)

    shutil.rmtree(directory, onerror=allow_and_try_again)


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
