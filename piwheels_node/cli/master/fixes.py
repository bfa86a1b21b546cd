# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master fixes`: which Debian packages projects need, and who says so. It asks the master."""

from __future__ import annotations

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.options import json_option
from piwheels_node.cli.output import print_message, print_messages, print_rows
from piwheels_node.core.errors import UsageError
from piwheels_node.core.fixes import FixState, is_debian_name
from piwheels_node.core.messages import PACKAGES_AT_MOST, FixAnswer, FixRequest, FixView

_STATES = [state.value for state in FixState]


@click.group("fixes", epilog="Example: piwheels-node master fixes list --state proposed")
def group() -> None:
    """Which Debian packages projects need: builders add them in a layer, never to the machine."""


@group.command("list", epilog="Example: piwheels-node master fixes list --state proposed --json")
@click.option(
    "--state",
    type=click.Choice(_STATES),
    metavar="STATE",
    help=f"Only rules in this state: {', '.join(_STATES)}.",
)
@click.option("--project", metavar="NAME", help="Only rules of this project.")
@click.option(
    "--limit", type=click.IntRange(1, 500), default=100, show_default=True, help="How many at most."
)
@master_options
@json_option
def list_fixes(
    *, state: str | None, project: str | None, limit: int, connection: Connection, as_json: bool
) -> None:
    """List the rules, newest first: what a project needs, whether it works, and what it was found for."""
    with connection.client() as client:
        found = client.fixes(FixState(state) if state else None, project, limit)
    if as_json:
        print_messages(found)
        return
    rows = [
        (
            str(one.rule_id),
            one.state.value,
            one.project,
            " ".join(one.packages),
            one.release or "any",
            _found_by(one),
            f"{one.changed_at.astimezone():%Y-%m-%d %H:%M}",
        )
        for one in found
    ]
    print_rows(("rule", "state", "project", "packages", "release", "for", "since"), rows)


@group.command("accept", epilog="Example: piwheels-node master fixes accept 12")
@click.argument("rule_id", metavar="RULE", type=click.IntRange(1))
@click.option("--why", metavar="TEXT", help="Noted with the rule.")
@master_options
@json_option
def accept(*, rule_id: int, why: str | None, connection: Connection, as_json: bool) -> None:
    """Use a rule: builds of the project get its packages, and what failed for want of them begins anew."""
    with connection.client() as client:
        _say(client.accept_fix(rule_id, why), as_json=as_json)


@group.command("off", epilog="Example: piwheels-node master fixes off 12 --why 'it is not free'")
@click.argument("rule_id", metavar="RULE", type=click.IntRange(1))
@click.option("--why", metavar="TEXT", help="Noted with the rule.")
@master_options
@json_option
def off(*, rule_id: int, why: str | None, connection: Connection, as_json: bool) -> None:
    """Neither use a rule nor propose it again; what it mends is then not mended. `accept` brings it back."""
    with connection.client() as client:
        _say(client.refuse_fix(rule_id, why), as_json=as_json)


@group.command("add", epilog="Example: piwheels-node master fixes add pycups libcups2-dev")
@click.argument("project", metavar="PROJECT")
@click.argument("packages", metavar="PACKAGE...", nargs=-1, required=True)
@click.option(
    "--release", metavar="RELEASE", help="Only for this Debian, as in targets: debian13. Default: any."
)
@click.option("--why", metavar="TEXT", help="Noted with the rule.")
@master_options
@json_option
def add(
    *,
    project: str,
    packages: tuple[str, ...],
    release: str | None,
    why: str | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Say which Debian packages builds of a project need; builds of it that failed begin anew with them."""
    wrong = [name for name in packages if not is_debian_name(name)]
    if wrong:
        raise UsageError(
            f"'{wrong[0]}' is not the name of a Debian package", hint="small letters, digits, '+', '-', '.'"
        )
    if len(packages) > PACKAGES_AT_MOST:
        raise UsageError(f"a project may need {PACKAGES_AT_MOST} packages at most, not {len(packages)}")
    wanted = FixRequest(project=project, packages=list(packages), release=release, why=why)
    with connection.client() as client:
        _say(client.add_fix(wanted), as_json=as_json)


def _say(answer: FixAnswer, *, as_json: bool) -> None:
    if as_json:
        print_message(answer)
        return
    rule = answer.rule
    click.echo(f"rule {rule.rule_id} is {rule.state.value}: {rule.project} needs {' '.join(rule.packages)}")
    if answer.jobs:
        numbers = ", ".join(map(str, answer.jobs))
        click.echo(f"ready again: {'job' if len(answer.jobs) == 1 else 'jobs'} {numbers}")


def _found_by(rule: FixView) -> str:
    """What it is to mend, or who said so."""
    if rule.reason is None:
        return f"a person: {rule.why}" if rule.why else "a person"
    return f"{rule.reason.value} {rule.captured or ''}".rstrip()
