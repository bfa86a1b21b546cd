# SPDX-License-Identifier: BSD-3-Clause
"""Logs and reports as files, in the directory in which the dashboard was started; none is ever overwritten.

This module must not import Textual.
"""

from __future__ import annotations

import re
from pathlib import Path

from piwheels_node.core.errors import StorageError
from piwheels_node.dashboard.builds import BuildSight
from piwheels_node.dashboard.logs import ReadLog

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_NAME_MOST = 120


def name_of(sight: BuildSight, suffix: str) -> str:
    """The name of a file about a build: `lxml-6.0.0-job-17.log`; it has no directory, whatever is built."""
    number = f"build-{sight.facts.build.build_id}" if sight.facts else f"job-{sight.job.job_id}"
    words = _UNSAFE.sub("_", f"{sight.job.project}-{sight.job.version}")[:_NAME_MOST].lstrip(".-_")
    return f"{words}-{number}{suffix}"


def save_log(path: Path, read: ReadLog) -> int:
    """Write a whole log, as it is, part by part; gives its size. Raises StorageError."""
    offset = 0
    try:
        with path.open("xb") as file:
            while (part := read(offset)).data:
                file.write(part.data)
                offset = part.end
    except OSError as error:
        raise _refused(path, error) from error
    return offset


def save_text(path: Path, text: str) -> None:
    """Write a text. Raises StorageError."""
    try:
        with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise _refused(path, error) from error


def whole(path: Path) -> str:
    """The path with its directory, where that is still there."""
    try:
        return str(path.absolute())
    except OSError:
        return str(path)


def _refused(path: Path, error: OSError) -> StorageError:
    if isinstance(error, FileExistsError):
        return StorageError(
            f"{path.name} is there already", where=whole(path), hint="move it away, then save again"
        )
    return StorageError(
        f"{path.name} cannot be written: {error.strerror}",
        where=whole(path),
        hint="start the dashboard in a directory that you may write to",
    )
