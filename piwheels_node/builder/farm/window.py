# SPDX-License-Identifier: BSD-3-Clause
"""A window into the running builder, for other programs of its machine: one small file.

    $RUNTIME_DIRECTORY/builder.json     where systemd gives one (/run/piwheels-builder): it is in memory
    DIR/builder/builder.json            else

It is written as a whole, when something has changed and every half a minute; for what has grown of a log
alone no more often than `_LOG_EVERY_S`, and not where the file may lie on a card. It is there for everybody
to read, so nothing in it is secret. A file that cannot be written is no reason to stop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from piwheels_node.core.messages import Health, Lease, LocalBuilder, LocalEnd, ReportAnswer
from piwheels_node.core.places import WINDOW, WINDOW_IN_RUN

_EVERY_S = 30.0
_LOG_EVERY_S = 2.0
_log = logging.getLogger(__name__)


class Window:
    """The file of the builder in `data`; `show` as often as one likes."""

    def __init__(self, data: Path) -> None:
        given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        self._in_memory = bool(given)
        self.path = Path(given, WINDOW_IN_RUN.name) if given else data / WINDOW
        self._shown: LocalBuilder | None = None
        self._at_s = 0.0
        self._is_broken = False

    def show(self, now: LocalBuilder) -> None:
        """Write how the builder stands, where that is due."""
        age_s = time.monotonic() - self._at_s
        if self._shown is not None and age_s < _EVERY_S:
            log_is_due = self._in_memory and age_s >= _LOG_EVERY_S
            if _essence(now, with_logs=log_is_due) == _essence(self._shown, with_logs=log_is_due):
                return
        try:
            self._write(now.model_dump_json().encode())
        except OSError as error:
            if not self._is_broken:
                _log.warning("other programs cannot see this builder: %s: %s", self.path, error.strerror)
            self._is_broken = True
        else:
            self._is_broken = False
        self._shown, self._at_s = now, time.monotonic()

    def close(self) -> None:
        """Nothing is built here any more."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _write(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".new")
        half.write_bytes(content)
        half.chmod(0o644)
        half.replace(self.path)


def _essence(one: LocalBuilder, *, with_logs: bool) -> LocalBuilder:
    """What is worth writing for: not the time, nor what sensors say, which always differ a little."""
    quiet = {} if with_logs else {"log_bytes": 0, "log_tail": ""}
    builds = [build.model_copy(update=quiet) for build in one.builds]
    return one.model_copy(update={"at": one.started_at, "health": Health(), "builds": builds})


def end_of(lease: Lease, answer: ReportAnswer | None) -> LocalEnd:
    """What became of a job just now; no answer: it was handed back, refused or lost."""
    return LocalEnd(
        job_id=lease.job_id,
        project=lease.project,
        version=lease.version,
        target=lease.target,
        ended_at=datetime.now(UTC),
        outcome=answer.outcome if answer else None,
        reason=answer.reason if answer else None,
    )
