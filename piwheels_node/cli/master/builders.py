# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master builders`: who builds, and what they are told. It asks the running master."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.options import json_option
from piwheels_node.cli.output import print_message, print_messages, print_rows
from piwheels_node.cli.times import ago, moment
from piwheels_node.client import MasterClient
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.errors import UsageError
from piwheels_node.core.messages import BuilderOrder, BuilderView, Purge

_names = click.argument("names", nargs=-1, metavar="NAME...")
_why = click.option("--why", metavar="TEXT", help="Shown to whoever asks why nothing is built.")


@click.group(
    "builders",
    invoke_without_command=True,
    epilog="Example: piwheels-node master builders pause pi-7 --why 'its fan is broken'",
)
@master_options
@json_option
@click.pass_context
def group(context: click.Context, *, connection: Connection, as_json: bool) -> None:
    """Builders: who they are, and what they are told. Orders reach them within seconds.

    Without a command it lists them.
    """
    if context.invoked_subcommand is None:
        _list(connection, as_json=as_json)


@group.command("list", epilog="Example: piwheels-node master builders list --json")
@master_options
@json_option
def list_builders(*, connection: Connection, as_json: bool) -> None:
    """List the builders, and what they do now."""
    _list(connection, as_json=as_json)


def _list(connection: Connection, *, as_json: bool) -> None:
    with connection.client() as client:
        found = client.builders()
    if as_json:
        print_messages(found)
        return
    now = datetime.now(UTC)
    rows = [
        (
            one.name,
            _state(one),
            ago(one.last_seen_at, now),
            ", ".join(f"{job.project} {job.version}" for job in one.jobs),
            f"{one.built}/{one.failed}",
            ", ".join(one.targets),
            (one.machine.model if one.machine else None) or "",
        )
        for one in found
    ]
    print_rows(("name", "state", "seen", "builds", "built/failed", "targets", "machine"), rows)


@group.command("approve", epilog="Example: piwheels-node master builders approve pi-7")
@_names
@click.option("--all", "everyone", is_flag=True, help="All that wait for it.")
@master_options
def approve(*, names: tuple[str, ...], everyone: bool, connection: Connection) -> None:
    """Let machines that have joined build. One that was revoked must join again after it."""
    with connection.client() as client:
        if _all_meant(names, everyone=everyone):
            names = tuple(one.name for one in client.builders() if one.state is BuilderState.PENDING)
        for name in names:
            client.approve(name)
            click.echo(f"{name} may build")


@group.command("revoke", epilog="Example: piwheels-node master builders revoke pi-7")
@click.argument("names", nargs=-1, metavar="NAME...", required=True)
@master_options
def revoke(*, names: tuple[str, ...], connection: Connection) -> None:
    """Take builders' keys back; what they build now goes to others. Their wheels stay: see `purge`."""
    with connection.client() as client:
        for name in names:
            client.revoke(name)
            click.echo(f"{name} is revoked")


@group.command(
    "pause", epilog="Example: piwheels-node master builders pause --all --why 'the switch is replaced'"
)
@_names
@click.option("--all", "everyone", is_flag=True, help="The whole farm.")
@_why
@master_options
def pause(*, names: tuple[str, ...], everyone: bool, why: str | None, connection: Connection) -> None:
    """Let builders stand still: what they build is frozen as it is, and they take no jobs."""
    _order(Mode.PAUSE, names, why, connection, everyone=everyone)


@group.command("drain", epilog="Example: piwheels-node master builders drain pi-7 --why 'new card'")
@_names
@click.option("--all", "everyone", is_flag=True, help="The whole farm.")
@_why
@master_options
def drain(*, names: tuple[str, ...], everyone: bool, why: str | None, connection: Connection) -> None:
    """Let builders finish what they build, and take no more."""
    _order(Mode.DRAIN, names, why, connection, everyone=everyone)


@group.command("resume", epilog="Example: piwheels-node master builders resume --all")
@_names
@click.option("--all", "everyone", is_flag=True, help="The whole farm; what was told to one builder stays.")
@master_options
def resume(*, names: tuple[str, ...], everyone: bool, connection: Connection) -> None:
    """Let builders go on after `pause` or `drain`."""
    _order(Mode.RUN, names, None, connection, everyone=everyone)


@group.command("skip", epilog="Example: piwheels-node master builders skip pi-7")
@_names
@click.option("--all", "everyone", is_flag=True, help="What all of them build now.")
@master_options
def skip(*, names: tuple[str, ...], everyone: bool, connection: Connection) -> None:
    """Cancel what builders build now; they take the next job."""

    def tell(client: MasterClient, name: str | None) -> None:
        for job in client.skip(name):
            click.echo(f"{job.project} {job.version} is cancelled (job {job.job_id})")

    _each(tell, names, connection, everyone=everyone)


@group.command(
    "purge",
    epilog="Example: piwheels-node master builders purge pi-7 --since 2026-11-20 --why 'it was broken into'",
)
@click.argument("name", metavar="NAME")
@click.option(
    "--since", required=True, metavar="TIME", help="2026-11-22, 2026-11-22T14:30, or 3h for so long ago."
)
@click.option("--why", required=True, metavar="TEXT", help="Why nobody shall have these wheels any more.")
@click.option("--yes", is_flag=True, help="Do not ask whether this is meant.")
@master_options
@json_option
def purge(*, name: str, since: str, why: str, yes: bool, connection: Connection, as_json: bool) -> None:
    """Withdraw the wheels that a builder has published since a time, and have others build them anew.

    Their bytes are blocked for ever. It does not take the builder's key back: `revoke` it first.
    """
    wanted = Purge(since=moment(since, datetime.now(UTC)), why=why[:500])
    if not yes:
        click.confirm(
            f"Withdraw all wheels that {name} has published since"
            f" {wanted.since.astimezone():%Y-%m-%d %H:%M}, for good?",
            abort=True,
            err=True,
        )
    with connection.client() as client:
        done = client.purge(name, wanted)
    if as_json:
        print_message(done)
        return
    for filename in done.wheels:
        click.echo(filename)
    click.echo(f"{len(done.wheels)} wheels are withdrawn; {done.jobs} jobs are ready for others", err=True)


def _order(
    mode: Mode, names: tuple[str, ...], why: str | None, connection: Connection, *, everyone: bool
) -> None:
    order = BuilderOrder(mode=mode, why=why and why[:500])
    words = {
        Mode.RUN: "goes on",
        Mode.PAUSE: "is told to stand still",
        Mode.DRAIN: "is told to take no more jobs",
    }

    def tell(client: MasterClient, name: str | None) -> None:
        client.order(name, order)
        click.echo(f"{name or 'the whole farm'} {words[mode]}")

    _each(tell, names, connection, everyone=everyone)


def _each(
    tell: Callable[[MasterClient, str | None], None],
    names: tuple[str, ...],
    connection: Connection,
    *,
    everyone: bool,
) -> None:
    """Tell each that is named; all of them in one word."""
    meant: tuple[str | None, ...] = (None,) if _all_meant(names, everyone=everyone) else names
    with connection.client() as client:
        for name in meant:
            tell(client, name)


def _all_meant(names: tuple[str, ...], *, everyone: bool) -> bool:
    if bool(names) == everyone:
        raise UsageError(
            "name builders, or say --all", hint="`piwheels-node master builders list` has their names"
        )
    return everyone


def _state(builder: BuilderView) -> str:
    """What is the matter with a builder, the most important first."""
    if builder.state is not BuilderState.ACTIVE:
        return str(builder.state.value)
    if builder.mode is not Mode.RUN:
        return f"{builder.mode.value}: {builder.why}" if builder.why else str(builder.mode.value)
    if builder.paused_itself:
        return f"stands still: {builder.paused_itself}"
    return "builds" if builder.jobs else "waits"
