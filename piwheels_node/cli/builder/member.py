# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node builder join`, `leave` and `status`: which master this machine builds for."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path

import click

from piwheels_node.builder.farm import membership
from piwheels_node.cli.options import data_option, default_data_directory, json_option, load_settings
from piwheels_node.client import MasterClient
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.errors import MasterError, UsageError
from piwheels_node.core.messages import BuilderView
from piwheels_node.notify import starts_by_itself

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@click.command(
    "join", epilog="Example: sudo piwheels-node builder join https://farm.local:8443 TOKEN --name pi-7"
)
@click.argument("url", metavar="URL")
@click.argument("token", metavar="TOKEN")
@click.option("--name", help="What the master calls this machine; default: builder.name, else its host name.")
@data_option
def join(url: str, token: str, name: str | None, data: Path) -> None:
    """Become a builder of the master at URL. TOKEN is what `master token new` prints; -: from standard input.

    The token says which certificate the master has: another server hears nothing. Joining again changes
    nothing.
    """
    if token == "-":  # noqa: S105 - no password: where it comes from
        token = sys.stdin.readline()
    name = _name(name or load_settings(()).builder.name or socket.gethostname(), given=name is not None)
    done = membership.join(data.absolute(), url, token, name)
    mine = done.membership
    if not done.changed:
        click.echo(f"{mine.name} is a builder of {mine.url} already: nothing was changed.", err=True)
    else:
        click.echo(f"{mine.name} is a builder of {mine.url} now.", err=True)
    if done.state is BuilderState.PENDING:
        click.echo(
            f"A person must approve it on the master: piwheels-node master builders approve {mine.name}",
            err=True,
        )
    if mine.certificate and not membership.is_named_by(mine.certificate, mine.url):
        click.echo(
            "The master's certificate does not name this host, so pip here cannot use its index;"
            " another certificate, made by `master init --name HOST`, would do.",
            err=True,
        )
    else:
        click.echo("To let pip here use its index: sudo piwheels-node pip enable", err=True)
    if os.geteuid() == 0 and data == default_data_directory() and starts_by_itself("builder"):
        click.echo("It builds as piwheels-builder.service: systemctl status piwheels-builder", err=True)
    else:
        click.echo(f"To build: {_run(data)}", err=True)


@click.command("leave", epilog="Example: sudo piwheels-node builder leave")
@data_option
def leave(data: Path) -> None:
    """Be no builder of the master any more, and forget its key; also where it is away.

    What this builder has built stays in the master's index. Joining again needs a new token.
    """
    left = membership.leave(data.absolute())
    if left is None:
        click.echo("no master was joined: nothing was changed.", err=True)
        return
    was = left.membership
    click.echo(f"{was.name} is no builder of {was.url} any more.", err=True)
    if left.untold:
        click.echo(f"The master could not be told ({left.untold.what}), and still lists it:", err=True)
        click.echo(f"    piwheels-node master builders revoke {was.name}", err=True)


@click.command("status", epilog="Example: piwheels-node builder status --json")
@data_option
@json_option
def status(data: Path, *, as_json: bool) -> None:
    """Say which master was joined, whether the service runs, and what the master says of this builder."""
    data = data.absolute()
    mine = membership.load(data)
    view, away = _ask(mine) if mine else (None, None)
    if as_json:
        known = view.model_dump(mode="json") if view else None
        said = {
            "joined": mine is not None,
            "master": mine and mine.url,
            "name": mine and mine.name,
            "running": membership.is_served(data),
            "error": away and away.what,
            "builder": known,
        }
        click.echo(json.dumps(said, indent=2))
        return
    if mine is None:
        click.echo("no master was joined: piwheels-node builder join URL TOKEN")
        return
    click.echo(f"{mine.name} builds for {mine.url}")
    click.echo(
        "its service runs" if membership.is_served(data) else f"its service does not run: {_run(data)}"
    )
    click.echo(str(away) if view is None else _standing(view))


def _ask(mine: membership.Membership) -> tuple[BuilderView | None, MasterError | None]:
    with MasterClient(mine.url, certificate=mine.certificate, timeout_s=5.0) as client:
        try:
            return client.builder(mine.name), None
        except MasterError as error:
            return None, error


def _standing(view: BuilderView) -> str:
    """What the master says of it, in one line."""
    words = [f"the master has it as {view.state.value}"]
    if view.mode is not Mode.RUN:
        words.append(f"told to {view.mode.value}" + (f" ({view.why})" if view.why else ""))
    if view.paused_itself:
        words.append(f"standing still: {view.paused_itself}")
    building = ", ".join(f"{job.project} {job.version}" for job in view.jobs)
    words += [f"building {building}" if building else "building nothing now", f"{view.built} built so far"]
    return "; ".join(words)


def _run(data: Path) -> str:
    default = default_data_directory()
    place = "" if data == default else f" --data {data}"
    sudo = "sudo " if os.geteuid() == 0 else ""
    return f"{sudo}piwheels-node builder run{place}"


def _name(wanted: str, *, given: bool) -> str:
    """The name as masters take it; raises UsageError where that is not what was asked for."""
    if _NAME.fullmatch(wanted):
        return wanted
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("._-")[:63]
    if given or not cleaned:
        raise UsageError(
            f"'{wanted}' is no name for a builder", hint="letters, digits, dot, dash and underscore"
        )
    return cleaned
