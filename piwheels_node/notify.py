# SPDX-License-Identifier: BSD-3-Clause
"""What a service says to systemd: that it is ready, that it is well, that it stops; and its log, with fields.

    log_to_journal()        standard error is the journal's: what is logged goes there whole, with its fields
    job_fields(...)         `extra=` of a log line about a job: PACKAGE, VERSION, JOB
    starts_by_itself(role)  whether somebody must be told how to run the service
    service = Service()     ready, status, well, stopping: to systemd, where it started us, else to nobody

The watchdog ends a service that has not said for WatchdogSec= that it is well. So `well` is called from the
main loop, and only where the parts that do the work answer.

systemd's own library is optional: without it, as in a virtual environment, nothing is said and logs stay as
they were. The Debian package depends on it. This module imports nothing of ours.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

try:
    from systemd import daemon, journal
except ImportError:
    daemon = journal = None

IDENTIFIER = "piwheels-node"
_SYSTEMD = Path("/run/systemd/system")
_UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))


def starts_by_itself(role: str) -> bool:
    """True where systemd runs the service of a role as soon as there is something to serve or to build for.

    So it is where the Debian package is installed, for the directory that root uses by default.
    """
    name = f"piwheels-{role}.path"
    units = [place / name for place in _UNITS if (place / name).exists()]
    return _SYSTEMD.is_dir() and bool(units) and units[0].resolve() != Path(os.devnull)


def job_fields(project: str, version: str, job_id: int) -> dict[str, str]:
    """Fields of the journal, by which everything about a package is found: `journalctl PACKAGE=numpy`."""
    return {"PACKAGE": project, "VERSION": version, "JOB": str(job_id)}


def is_journal() -> bool:
    """True where standard error is a stream of the journal's, and we can send it more than lines."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if journal is None or not inode:
        return False
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (str(found.st_dev), str(found.st_ino)) == (device, inode)


def log_to_journal() -> bool:
    """Send what is logged to the journal, where that is where standard error goes; False where it is not.

    Levels become priorities, and upper-case words in `extra=` become fields.
    """
    if not is_journal():
        return False
    root = logging.getLogger()
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(min(root.level, logging.INFO) or logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return True


class _Handler(logging.Handler):
    """A line of the log as an entry of the journal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send it; a journal that is away loses the line, and nothing else."""
        fields: dict[str, Any] = {
            key: value for key, value in record.__dict__.items() if key.isupper() and key.isidentifier()
        }
        try:
            journal.send(
                self.format(record),
                PRIORITY=_priority(record.levelno),
                SYSLOG_IDENTIFIER=IDENTIFIER,
                LOGGER=record.name,
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **fields,
            )
        except OSError:
            self.handleError(record)


def _priority(level: int) -> int:
    """The priority (RFC 5424) of a level of logging."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((priority for least, priority in steps if level >= least), 7)


class Service:
    """How systemd sees us; where it was not started by systemd, nothing is said.

    `status` is one line for `systemctl status`, said once for as long as it stays the same.
    """

    def __init__(self) -> None:
        self._status = ""

    def ready(self, status: str) -> None:
        """The service has started."""
        self._status = status
        self._say("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """What it does now."""
        if status != self._status:
            self._status = status
            self._say(f"STATUS={status}")

    def well(self) -> None:
        """It does what it should; the watchdog waits anew."""
        self._say("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """It was asked to end, and does."""
        self._status = status
        self._say("STOPPING=1", f"STATUS={status}")

    def _say(self, *words: str) -> None:
        if daemon is not None:
            daemon.notify("\n".join(word.replace("\n", " ") for word in words))
