# SPDX-License-Identifier: BSD-3-Clause
"""The logs of builds: plain files, one for each lease, that grow while the build runs.

    logs/<job id / 1000>/<job id>-<when the lease began>.log

They are written by offset, so that a builder that lost its connection goes on where it was; a chunk that
comes twice is written once. Who may write is the API's concern.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

MARGIN_BYTES = 64 << 10
"""A builder ends a build whose log is too big, and adds a few lines that say so."""

_JOBS_PER_DIRECTORY = 1000


class LogFiles:
    """The logs under one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    def append(self, job_id: int, leased_at: datetime, offset: int, data: bytes, *, limit: int) -> int:
        """Write what is new of `data`, which begins at `offset`; gives where the next part should begin.

        Nothing is written after a gap: the answer is then less than `offset`. What goes beyond `limit` is
        dropped, and the answer is as if it had been written.
        """
        path = self._path(job_id, leased_at)
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                size = file.tell()
                if offset <= size < offset + len(data):
                    new = data[size - offset : max(0, limit - offset)]
                    size += file.write(new)
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
