# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master token`: what a machine shows to become a builder."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.master.words import join_command
from piwheels_node.cli.options import json_option, load_settings
from piwheels_node.cli.output import print_message, print_messages, print_rows
from piwheels_node.cli.times import duration_s
from piwheels_node.core.messages import TokenRequest, TokenView

_LONGEST_S = 366 * 86400.0
_MOST_USES = 10_000


@click.group("token", epilog="Example: piwheels-node master token new --uses 30 --expires 2h")
def group() -> None:
    """Join tokens: each lets so many machines become builders, until it expires."""


@group.command(
    "new", epilog="Example: piwheels-node master token new --uses 30 --expires 2h --note 'class 7b'"
)
@click.option(
    "--uses", type=click.IntRange(1, _MOST_USES), default=1, show_default=True, help="How many machines."
)
@click.option(
    "--expires", metavar="TIME", default="1h", show_default=True, help="After how long: 30m, 1h, 7d."
)
@click.option("--needs-approval", is_flag=True, help="A person must approve each machine before it builds.")
@click.option("--note", metavar="TEXT", help="What it is for, shown in the list.")
@master_options
@json_option
def new(
    *,
    uses: int,
    expires: str,
    needs_approval: bool,
    note: str | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Make a join token. It is shown now, and never again."""
    lasts_s = min(max(duration_s(expires), 1.0), _LONGEST_S)
    wanted = TokenRequest(uses=uses, lasts_s=lasts_s, needs_approval=needs_approval, note=note and note[:200])
    with connection.client() as client:
        made = client.create_token(wanted)
    if as_json:
        print_message(made)
        return
    machines = "one machine" if uses == 1 else f"{uses} machines"
    click.echo(f"For {machines}, until {made.expires_at.astimezone():%Y-%m-%d %H:%M}:", err=True)
    click.echo(join_command(connection.endpoint().listens, load_settings(()), made.token or ""))


@group.command("list", epilog="Example: piwheels-node master token list --json")
@master_options
@json_option
def list_tokens(*, connection: Connection, as_json: bool) -> None:
    """List the join tokens, newest first; what is secret in them is not known any more."""
    with connection.client() as client:
        found = client.tokens()
    if as_json:
        print_messages(found)
        return
    rows = [
        (
            str(one.token_id),
            _state(one, datetime.now(UTC)),
            str(one.uses_left),
            f"{one.expires_at.astimezone():%Y-%m-%d %H:%M}",
            "yes" if one.needs_approval else "",
            one.note or "",
        )
        for one in found
    ]
    print_rows(("id", "state", "uses left", "expires", "approval", "note"), rows)


@group.command("revoke", epilog="Example: piwheels-node master token revoke 3")
@click.argument("token_id", metavar="ID", type=click.IntRange(1))
@master_options
def revoke(*, token_id: int, connection: Connection) -> None:
    """Make a join token worthless. Machines that have joined with it stay."""
    with connection.client() as client:
        client.revoke_token(token_id)
    click.echo(f"token {token_id} is revoked")


def _state(token: TokenView, now: datetime) -> str:
    if token.revoked:
        return "revoked"
    if token.expires_at <= now:
        return "expired"
    return "good" if token.uses_left else "used up"
