# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node dashboard`: the farm on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.core.errors import EXIT_FAILED, UsageError
from piwheels_node.dashboard.app import Dashboard
from piwheels_node.dashboard.look import is_console
from piwheels_node.dashboard.polling import interval_for

POLITE = 10
"""Added to the process's nice value: builds on this machine come first."""


@click.command("dashboard", epilog="Example: sudo piwheels-node dashboard")
@master_options
@click.option(
    "--ascii", "plain", is_flag=True, help="Sixteen colours and plain signs, as on the Linux console."
)
@click.option(
    "--interval",
    "interval_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.5, max=3600),
    help="How long between two looks; default: 2, or 5 on a machine with one core.",
)
def command(*, connection: Connection, plain: bool, interval_s: float | None) -> int:
    """Show the farm: what is built where, why builds fail; and act on it, with the operator's key."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the dashboard needs a terminal for its input and its output",
            hint="piwheels-node status prints plain lines, and goes on with --watch",
        )
    with connection.reader() as client:
        with contextlib.suppress(OSError):
            os.nice(POLITE)
        app = Dashboard(
            client,
            console=is_console(os.environ.get("TERM", ""), ascii_wanted=plain),
            interval_s=interval_s or interval_for(os.cpu_count()),
        )
        code = app.run()
    return EXIT_FAILED if code is None else code
