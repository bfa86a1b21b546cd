# SPDX-License-Identifier: BSD-3-Clause
"""One error tree; each error tells what went wrong, where, and what to try.

    NodeError                   exit code 3: something that we refuse or cannot do
    ├── SettingsError           exit code 2: a settings file, variable or option is wrong
    ├── UsageError              exit code 2: a command was called with words that do not fit
    ├── NotOnPyPIError          the project or the version does not exist
    ├── PyPIError               PyPI could not be asked, or answered nonsense
    ├── MasterError             the master could not be asked, or refused
    │   ├── MasterUnreachableError
    │   ├── KeyRefusedError     the key opens nothing: never known, or revoked
    │   ├── LeaseLostError      the job is somebody else's by now: stop
    │   └── SupersededError     the key is used by somebody else: stop for good
    ├── UnavailableError        the master cannot work just now: ask again later
    │   └── ContendedError      the database is there, but others keep hold of the rows
    ├── SandboxUnavailableError this machine cannot confine a build, so it does not build
    ├── StorageError            the disk is full or the store is damaged
    ├── WheelError              a wheel is not what it says it is
    └── BuildError              a build ended for one of the reasons in `core.failure`

This module imports only the standard library and `core.failure`.
"""

from __future__ import annotations

from piwheels_node.core.failure import FailureReason

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_FAILED = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as the shells have it


class NodeError(Exception):
    """Base of all errors that an operator is meant to read.

    `what` is a sentence, `where` the file, key, URL or package that it is about, `hint` what to try.
    """

    exit_code = EXIT_FAILED

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"  where: {self.where}")
        if self.hint:
            parts.append(f"  try: {self.hint}")
        return "\n".join(parts)


class SettingsError(NodeError):
    """A setting is unknown, has the wrong type, or is out of bounds."""

    exit_code = EXIT_USAGE


class UsageError(NodeError):
    """A command was called with words that do not fit together."""

    exit_code = EXIT_USAGE


class NotOnPyPIError(NodeError):
    """The project, or the version of it, does not exist on PyPI."""


class PyPIError(NodeError):
    """PyPI could not be reached, or what it answered could not be read."""


class MasterError(NodeError):
    """The master refused a request, or answered what could not be read.

    `refused` is True where this one request is at fault, so that another one may well succeed.
    """

    def __init__(
        self, what: str, *, where: str | None = None, hint: str | None = None, refused: bool = False
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.refused = refused


class MasterUnreachableError(MasterError):
    """No connection to the master; trying again later may help."""


class KeyRefusedError(MasterError):
    """The master does not know the key, or has taken it back: only a person can give another."""


class LeaseLostError(MasterError):
    """The lease ended or was given to another builder; the work in hand is void."""


class SupersededError(MasterError):
    """Another process or another machine uses this builder's key: only a person can say who is right."""


class UnavailableError(NodeError):
    """The master's database is away, or it is told too much at once; trying again later will help.

    What was asked has not happened, unless the message says that nobody knows.
    """


class ContendedError(UnavailableError):
    """The database answers, but others keep hold of the rows that this needs: no outage."""


class SandboxUnavailableError(NodeError):
    """A build cannot be confined on this machine, so it is refused."""


class StorageError(NodeError):
    """The disk is full, or a stored file is not what the database says."""


class WheelError(NodeError):
    """A wheel is malformed, or is not the wheel that was asked for."""

    def __init__(self, reason: FailureReason, what: str, *, where: str | None = None) -> None:
        super().__init__(what, where=where)
        self.reason = reason


class BuildError(NodeError):
    """A build ended without a wheel.

    `captured` is the name that the reason is about (`ffi.h`), `evidence` the text that shows it.
    """

    def __init__(
        self,
        reason: FailureReason,
        what: str | None = None,
        *,
        captured: str | None = None,
        evidence: str | None = None,
    ) -> None:
        super().__init__(what or reason.sentence)
        self.reason = reason
        self.captured = captured
        self.evidence = evidence
