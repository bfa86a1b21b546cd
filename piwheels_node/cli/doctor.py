# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node doctor`: what is wrong with this machine, and what would mend it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from piwheels_node.cli.options import json_option, seen_data_option
from piwheels_node.consumer import doctor
from piwheels_node.consumer.checks import Finding, Patient, Severity
from piwheels_node.consumer.pip_files import Surroundings
from piwheels_node.consumer.roles import roles_of
from piwheels_node.consumer.switch import index_url
from piwheels_node.core.text import harmless

_MARKS = {Severity.OK: "ok", Severity.NOTE: "note", Severity.WARNING: "WARNING", Severity.PROBLEM: "PROBLEM"}


@click.command("doctor", epilog="Example: piwheels-node doctor --json")
@click.option("--index", metavar="URL", help="The index to try; default: the one that pip is pointed to.")
@seen_data_option
@json_option
def command(index: str | None, data: Path, *, as_json: bool) -> int:
    """Look for what keeps pip or builds from working here, and say what to try.

    Nothing is changed. Exit codes: 0 all is well, 1 there are warnings, 3 there is a problem.
    """
    from piwheels_node.cli.pip import expected_index  # noqa: PLC0415 - only where none is named

    data = data.absolute()
    at = Surroundings.ours()
    url = index_url(index) if index else expected_index(data)
    on = Patient(url, datetime.now(UTC), data, roles_of(data, at.root), at)
    found = []
    for one in doctor.examine(on):
        found.append(one)
        if not as_json:
            for line in lines(one):
                click.echo(harmless(line))
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], indent=2))
    return doctor.exit_code(found)


def lines(one: Finding) -> list[str]:
    """A finding for people."""
    said = [f"{_MARKS[one.severity]:8} {one.check}: {one.what}"]
    if one.severity > Severity.OK:
        said += [f"{'':8}   where: {one.where}"] if one.where else []
        said += [f"{'':8}   try: {one.hint}"] if one.hint else []
    elif one.where:
        said[0] += f" ({one.where})"
    return said


def _as_json(one: Finding) -> dict[str, str | None]:
    return {
        "check": one.check,
        "severity": one.severity.name.lower(),
        "what": one.what,
        "where": one.where,
        "hint": one.hint,
    }
