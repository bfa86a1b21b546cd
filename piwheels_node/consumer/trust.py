# SPDX-License-Identifier: BSD-3-Clause
"""Making this machine believe a master's own certificate, by Debian's way of doing that.

A classroom's master makes its certificate itself. pip (from 24.2 on, and Debian's always) believes what the
system believes, so the certificate goes where Debian's ca-certificates looks for local ones. It is no
authority: it says of itself that it signs nothing (CA:FALSE), so it counts only for the names in it.
This module imports only the standard library and `core`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from piwheels_node.core.errors import NodeError

DIRECTORY = Path("/usr/local/share/ca-certificates")
_PROGRAM = "update-ca-certificates"
_TIMEOUT_S = 300  # a Pi 1 makes thousands of links


def place(host: str) -> Path:
    """The file of a host's certificate."""
    return DIRECTORY / f"piwheels-node-{re.sub(r'[^a-z0-9.-]', '-', host.lower())}.crt"


def check(root: Path) -> None:
    """Raise NodeError where this machine has no ca-certificates."""
    if root == Path("/") and not shutil.which(_PROGRAM, path="/usr/sbin:/sbin:/usr/bin"):
        raise NodeError(
            "this machine cannot be told which certificates to believe",
            where=_PROGRAM,
            hint="sudo apt install ca-certificates",
        )


def renew(root: Path, *, without: bool = False) -> None:
    """Let the system's list be made anew; raises NodeError. Another root than / has its own time for that.

    `without`: a certificate is gone; only `--fresh` takes away the links to it.
    """
    if root != Path("/"):
        return
    check(root)
    program = shutil.which(_PROGRAM, path="/usr/sbin:/sbin:/usr/bin") or _PROGRAM
    try:
        subprocess.run(
            [program, *(["--fresh"] if without else [])],
            check=True,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise NodeError(
            f"the list of certificates could not be made: {str(said).strip()}", where=program
        ) from error
