# SPDX-License-Identifier: BSD-3-Clause
"""Running our own helpers (pip, apt, the compiler of bytecode) so that they end at once when we are to stop.

Package code is never run this way: that is `confine/`. This module imports nothing of ours but `halt` and the
errors.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from piwheels_node.builder.halt import Halt
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_LOOK_S = 0.1


def call(
    command: Sequence[str],
    output: Any,
    halt: Halt,
    *,
    environ: Mapping[str, str],
    timeout_s: float,
    late: FailureReason,
    directory: Path | None = None,
) -> int:
    """Run a command; gives its exit code. Raises BuildError where we are to stop, or with `late`."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environ,
        cwd=directory,
        start_new_session=True,
    ) as process:
        until = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_S)
            if halt.is_set() or time.monotonic() > until:
                os.killpg(process.pid, signal.SIGKILL)  # what it started as well
                halt.check()
                raise BuildError(late, f"{' '.join(command[:2])} hangs")
