# SPDX-License-Identifier: BSD-3-Clause
"""The logs of builds: plain files, one for each lease, that grow while the build runs.

    logs/<job id / 1000>/<job id>-<when the lease began>.log

They are written by offset, so that a builder that lost its connection goes on where it was; a chunk that
comes twice is written once, also where it comes through two masters at the same moment: each chunk is
written under a lock of the file. Who may write is the API's concern.
"""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from piwheels_node.core.errors import StorageError
from piwheels_node.core.messages import LogSlice

MARGIN_BYTES = 64 << 10
"""A builder ends a build whose log is too big, and adds a few lines that say so."""

_JOBS_PER_DIRECTORY = 1000
_CHUNK_BYTES = 1 << 20


class LogFiles:
    """The logs under one directory, which several processes may share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def append(self, job_id: int, leased_at: datetime, offset: int, data: bytes, *, limit: int) -> int:
        """Write what is new of `data`, which begins at `offset`; gives where the next part should begin.

        Nothing is written after a gap: the answer is then less than `offset`. What goes beyond `limit` is
        dropped, and the answer is as if it had been written. StorageError where the disk does not take it.
        """
        path = self.of(job_id, leased_at)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(file.fileno()).st_size
                if offset <= size < offset + len(data):
                    new = data[size - offset : max(0, limit - offset)]
                    size += _write_all(file.fileno(), new)
        except OSError as error:
            raise StorageError(
                f"the log cannot be written: {error.strerror}", where=str(path), hint="look at the disk"
            ) from error
        return size if size < limit else max(size, offset + len(data))

    def newest(self, job_id: int) -> Path | None:
        """The log of the job's newest lease."""
        found = self._directory(job_id).glob(f"{job_id}-*.log")
        return max(found, default=None)

    def of(self, job_id: int, leased_at: datetime) -> Path:
        """The log of the lease that began then, whether it is there or not."""
        return self._directory(job_id) / f"{job_id}-{leased_at.astimezone(UTC):%Y%m%dT%H%M%S%f}Z.log"

    @staticmethod
    def size_of(path: Path) -> int | None:
        """How long a log is by now; None where there is none."""
        try:
            return path.stat().st_size
        except OSError:
            return None

    @staticmethod
    def read(
        path: Path | None, offset: int, size: int, *, last: int | None = None, line: int | None = None
    ) -> LogSlice:
        """Up to `size` bytes of a log from `offset`; none at its end, or where there is no log.

        In place of `offset`: `last` is how many bytes at the end, `line` the line to begin at, from 1; one
        that is not there yet begins at the end.
        """
        try:
            file = path.open("rb") if path else None
        except FileNotFoundError:
            file = None
        if path is None or file is None:
            return LogSlice(0, 0, b"")
        with file:
            end = os.fstat(file.fileno()).st_size
            if last is not None:
                offset = max(0, end - last)
            elif line is not None:
                offset = min(_begin_of(file, line), end)
            data = os.pread(file.fileno(), size, offset)
        return LogSlice(offset, max(end, offset + len(data)) if data else end, data, path.stem)

    def _directory(self, job_id: int) -> Path:
        return self._root / str(job_id // _JOBS_PER_DIRECTORY)


def _begin_of(file: BinaryIO, line: int) -> int:
    """The byte at which a line begins, or the end of the file."""
    left, at = line - 1, 0
    while left > 0 and (chunk := file.read(_CHUNK_BYTES)):
        feeds = chunk.count(b"\n")
        if feeds < left:
            left -= feeds
            at += len(chunk)
            continue
        found = -1
        for _ in range(left):
            found = chunk.index(b"\n", found + 1)
        return at + found + 1
    return at


def _write_all(descriptor: int, data: bytes) -> int:
    """What was written of a part on a full disk is part of the log: the builder goes on behind it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(data)
