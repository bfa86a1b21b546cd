# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master sync`: how far following PyPI has come. The master does the work."""

from __future__ import annotations

import time

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.options import json_option
from piwheels_node.cli.output import print_message
from piwheels_node.client import MasterClient
from piwheels_node.core.errors import UsageError
from piwheels_node.core.messages import SyncView

_POLL_S = 1.0


@click.command("sync", epilog="Example: piwheels-node master sync --all")
@click.option("--all", "everything", is_flag=True, help="Read PyPI's whole list now, and ask what differs.")
@click.option("--no-wait", is_flag=True, help="Say how far it is, and end.")
@master_options
@json_option
def command(*, everything: bool, no_wait: bool, connection: Connection, as_json: bool) -> None:
    """Wait until everything that was heard of PyPI is stored and planned.

    The running master does the work: Ctrl-C ends the waiting only, and a master that is stopped goes on where
    it was.
    """
    with connection.client() as client:
        view = client.sync_again() if everything else client.sync()
        if view.follow == "off":
            raise UsageError(
                "this master does not follow PyPI",
                where="pypi.follow",
                hint="set it to watch, list or changelog",
            )
        if not no_wait:
            view = _watch(client, view)
    if as_json:
        print_message(view)
    else:
        _say(view)


def _watch(client: MasterClient, view: SyncView) -> SyncView:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        reading = progress.add_task("asking PyPI", total=None)
        planning = progress.add_task("planning", total=None)
        while not is_done(view):
            total = max(view.projects + view.waiting, 1)
            progress.update(reading, completed=total - view.waiting, total=total)
            done = min((walk.projects for walk in view.walks if not walk.done), default=view.projects)
            progress.update(planning, completed=done, total=max(view.projects, 1))
            time.sleep(_POLL_S)
            view = client.sync()
    return view


def is_done(view: SyncView) -> bool:
    """Everything that was heard is stored; what is left of the backlog waits for room in the queue."""
    return view.listed_at is not None and not view.waiting


def _say(view: SyncView) -> None:
    click.echo(f"{view.projects} projects are known, up to PyPI's serial {view.serial or '(it tells none)'}.")
    if view.waiting:
        click.echo(f"{view.waiting} must still be asked about.")
    if view.delayed:
        click.echo(f"About {view.delayed} PyPI could not answer; they are asked for again by themselves.")
    for walk in view.walks:
        state = "all is planned" if walk.done else "more when its queue has room"
        click.echo(f"{walk.target}: {walk.projects} projects planned, {walk.jobs} jobs made; {state}.")
