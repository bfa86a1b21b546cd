# SPDX-License-Identifier: BSD-3-Clause
"""Why a build ended without a wheel: a closed list, with a sentence and a policy for each.

The database, the API, the screens and the documentation all take the names from here.
This module imports only the standard library.
"""

from __future__ import annotations

from enum import Enum
from typing import Self


class Policy(Enum):
    """What follows from a failure."""

    NEVER = "never"
    "The bytes of the release decide: trying again gives the same answer."

    RETRY_ELSEWHERE = "retry-elsewhere"
    "The machine or the network failed, not the package: another builder gets the job."

    WAIT_FOR_DEPENDENCY = "wait-for-dependency"
    "The job waits until what it needs has been built."

    RETRY_WHEN_ENVIRONMENT_CHANGES = "retry-when-environment-changes"
    "Another set of installed packages, compiler or limit may help; the same one will not."


class FailureReason(Enum):
    """One reason: its name on the wire, a sentence for people, and its policy."""

    NOT_ON_PYPI = "not-on-pypi", "PyPI has no such project or version.", Policy.NEVER
    NO_SDIST = "no-sdist", "PyPI has no source distribution of this release.", Policy.NEVER
    HASH_MISMATCH = (
        "hash-mismatch",
        "The file that arrived does not have the SHA-256 that the index gives.",
        Policy.RETRY_ELSEWHERE,
    )
    FETCH_FAILED = "fetch-failed", "The source could not be downloaded.", Policy.RETRY_ELSEWHERE
    BAD_ARCHIVE = "bad-archive", "The source archive is broken or unsafe to unpack.", Policy.NEVER
    BAD_METADATA = "bad-metadata", "The project's own metadata cannot be used.", Policy.NEVER
    REQUIRES_PYTHON = (
        "requires-python",
        "The release does not support the target's Python.",
        Policy.NEVER,
    )
    REQUIREMENT_MISSING = (
        "requirement-missing",
        "A build requirement has no wheel for this target.",
        Policy.WAIT_FOR_DEPENDENCY,
    )
    REQUIREMENT_FAILED = (
        "requirement-failed",
        "A build requirement was built here, and failed.",
        Policy.WAIT_FOR_DEPENDENCY,
    )
    LAYER_FAILED = (
        "layer-failed",
        "The Debian packages that the build needs cannot be added to its root.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    MISSING_HEADER = (
        "missing-header",
        "A C header is not installed.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    MISSING_LIBRARY = (
        "missing-library",
        "A library to link with is not installed.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    MISSING_PKG_CONFIG = (
        "missing-pkg-config",
        "A pkg-config file is not installed.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    MISSING_TOOL = (
        "missing-tool",
        "A program that the build calls is not installed.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    MISSING_MODULE = (
        "missing-module",
        "The build imports a Python module that it does not require.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    COMPILER_ERROR = (
        "compiler-error",
        "The compiler refused the source.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    RUST_TOO_OLD = (
        "rust-too-old",
        "The package needs a newer Rust than the one installed.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    NEEDS_NETWORK = (
        "needs-network",
        "The build wants the network, which no build has.",
        Policy.NEVER,
    )
    SANDBOX_DENIED = (
        "sandbox-denied",
        "The build wants a file outside its sandbox.",
        Policy.NEVER,
    )
    NEEDS_INPUT = "needs-input", "The build asks a question at a terminal.", Policy.NEVER
    WRONG_PLATFORM = "wrong-platform", "The package is for another platform.", Policy.NEVER
    ILLEGAL_INSTRUCTION = (
        "illegal-instruction",
        "A program was built for a newer processor than this one.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    OUT_OF_MEMORY = (
        "out-of-memory",
        "The build needs more memory than it may have.",
        Policy.RETRY_ELSEWHERE,
    )
    OUT_OF_DISK = (
        "out-of-disk",
        "The build needs more disk than it may have.",
        Policy.RETRY_ELSEWHERE,
    )
    TOO_MANY_PROCESSES = (
        "too-many-processes",
        "The build has more processes and threads than it may.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    TIMEOUT = (
        "timeout",
        "The build took longer than it may.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    SILENT = (
        "silent",
        "The build printed nothing for longer than it may.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    LOG_TOO_BIG = (
        "log-too-big",
        "The build printed more than it may.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    WHEEL_TOO_BIG = (
        "wheel-too-big",
        "The wheel is larger than it may be.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    WHEEL_INVALID = "wheel-invalid", "The wheel contradicts itself.", Policy.NEVER
    WHEEL_WRONG_NAME = (
        "wheel-wrong-name",
        "The wheel is of another project or version than the one asked for.",
        Policy.NEVER,
    )
    WHEEL_WRONG_ARCH = (
        "wheel-wrong-arch",
        "The wheel is for another Python or processor than the target's.",
        Policy.NEVER,
    )
    LOAD_FAILED = (
        "load-failed",
        "An extension module of the wheel cannot be loaded.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )
    BUILDER_FAILED = (
        "builder-failed",
        "The builder itself failed; the package is not to blame.",
        Policy.RETRY_ELSEWHERE,
    )
    BUILDER_LOST = (
        "builder-lost",
        "The builder stopped answering during the build.",
        Policy.RETRY_ELSEWHERE,
    )
    UNKNOWN = (
        "unknown",
        "The build failed, and the log fits no known reason.",
        Policy.RETRY_WHEN_ENVIRONMENT_CHANGES,
    )

    sentence: str
    policy: Policy

    def __new__(cls, name: str, sentence: str, policy: Policy) -> Self:
        """Make a member whose value is its name on the wire."""
        member = object.__new__(cls)
        member._value_ = name
        member.sentence = sentence
        member.policy = policy
        return member

    def __str__(self) -> str:
        return str(self.value)
