# SPDX-License-Identifier: BSD-3-Clause
"""The terminal that the dashboard is on: how large it is, and that it is gone."""

from __future__ import annotations

import os
import select
import shutil
import sys
import threading

from textual.geometry import Size

from piwheels_node.core.errors import EXIT_INTERRUPTED


def size() -> Size:
    """How large it is now, as Textual asks."""
    return Size(*shutil.get_terminal_size())


def end_with_the_terminal() -> None:
    """End this process at once when its terminal is gone, whoever ignores SIGHUP.

    Textual reads an input that has ended again and again, and keeps a core busy for ever. A poll that waits
    for nothing is still told of a hang-up, and costs nothing until then.
    """
    watched = select.poll()
    watched.register(sys.stdin.fileno(), 0)

    def watch() -> None:
        while True:
            if any(what & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, what in watched.poll()):
                os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=watch, daemon=True, name="dashboard-terminal").start()
