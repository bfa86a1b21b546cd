# SPDX-License-Identifier: BSD-3-Clause
"""Making pip believe one more certificate: that of the master, beside those that it believes anyway.

pip takes one file of certificates for all indexes, so there must be one with everything in it. This module
imports nothing of ours but `core.errors`.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from piwheels_node.core.errors import StorageError

_ASK_PIP = (
    "import os\n"
    "from pip._internal.commands import create_command\n"
    "from pip._vendor import certifi\n"
    "cert = create_command('install').parser.get_default_values().cert\n"
    "print(os.environ.get('REQUESTS_CA_BUNDLE') or cert or certifi.where())"
)
_CANNOT_ADDRESS = Version("24.2"), Version("26.3")
"""From the one on, pip (issue 12906) fails for an index that is named by its address, unless it is asked to
check certificates in the old way; the other one is known to do without."""


def pip_options(certificates: Path) -> list[str]:
    """What pip is called with, so that it believes a file of certificates (PEM)."""
    first, last = _CANNOT_ADDRESS
    old = ["--use-deprecated", "legacy-certs"] if first <= Version(version("pip")) < last else []
    return [*old, "--cert", str(certificates)]


def pip_variables(certificates: Path) -> dict[str, str]:
    """The same for its environment, where this variable goes before `--cert`."""
    return {"REQUESTS_CA_BUNDLE": str(certificates)}


def believed_by_pip() -> bytes:
    """The certificates that pip believes (PEM): those of its setting, else those that it comes with.

    pip's own code is asked, because only that knows its many sources; on Debian it names the system's. Raises
    StorageError.
    """
    command = [sys.executable, "-I", "-c", _ASK_PIP]
    where = "pip"
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        where = answer.stdout.strip()
        return Path(where).read_bytes()
    except (OSError, subprocess.SubprocessError) as error:
        raise StorageError(
            f"the certificates that pip believes cannot be read: {error}",
            where=where,
            hint="apt install python3-pip",
        ) from error
