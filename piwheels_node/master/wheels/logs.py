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

from piwheels_node.core.errors import StorageError

MARGIN_BYTES = 64 << 10
"""A builder ends a build whose log is too big, and adds a few lines that say so."""

_JOBS_PER_DIRECTORY = 1000


class LogFiles:
    """The logs under one directory, which several processes may share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def append(self, job_id: int, leased_at: datetime, offset: int, data: bytes, *, limit: int) -> int:
        """Write what is new of `data`, which begins at `offset`; gives where the next part should begin.

        Nothing is written after a gap: the answer is then less than `offset`. What goes beyond `limit` is
        dropped, and the answer is as if it had been written. StorageError where the disk does not take it.
        """
        path = self._path(job_id, leased_at)
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

    def read(self, job_id: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes of the newest log from `offset`; none at its end, or where there is no log."""
        path = self.newest(job_id)
        if path is None:
            return b""
        with path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    def _path(self, job_id: int, leased_at: datetime) -> Path:
        return self._directory(job_id) / f"{job_id}-{leased_at.astimezone(UTC):%Y%m%dT%H%M%S%f}Z.log"

    def _directory(self, job_id: int) -> Path:
        return self._root / str(job_id // _JOBS_PER_DIRECTORY)


def _write_all(descriptor: int, data: bytes) -> int:
    """What was written of a part on a full disk is part of the log: the builder goes on behind it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return len(data)
