# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node dashboard`: the farm on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.node import ThisMachine
from piwheels_node.cli.status import known_masters
from piwheels_node.client import MasterClient
from piwheels_node.consumer.roles import roles_of
from piwheels_node.core.errors import EXIT_FAILED, NodeError, UsageError
from piwheels_node.dashboard.app import Dashboard
from piwheels_node.dashboard.look import is_console
from piwheels_node.dashboard.polling import interval_for
from piwheels_node.dashboard.words import Place

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
    machine = ThisMachine(connection.data)
    client, first = _subject(connection)
    with client or contextlib.nullcontext():
        with contextlib.suppress(OSError):
            os.nice(POLITE)
        app = Dashboard(
            client,
            machine=machine,
            first=first,
            console=is_console(os.environ.get("TERM", ""), ascii_wanted=plain),
            interval_s=interval_s or interval_for(os.cpu_count()),
        )
        code = app.run()
    return EXIT_FAILED if code is None else code


def _subject(connection: Connection) -> tuple[MasterClient | None, Place | None]:
    """A client of the master that is meant, and the page to begin with; raises NodeError.

    It is the master that was named, or that serves this machine; then the farm is what is wanted. Else the
    machine itself, and the master that it builds for, if any.
    """
    try:
        return connection.reader(), None
    except NodeError:
        if connection.is_named:
            raise
        masters, _ = known_masters(connection.data)
        if not masters and not roles_of(connection.data):
            raise
        for one in masters:
            return MasterClient(one.url, certificate=one.certificate), Place("node")
        return None, None
