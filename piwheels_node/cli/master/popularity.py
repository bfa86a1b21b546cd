# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master popularity`: which projects are built first, because most people want them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.core.errors import UsageError
from piwheels_node.core.messages import PROJECTS_AT_ONCE, Popularity

_LONGEST_NAME = 200


@click.group("popularity", epilog="Example: piwheels-node master popularity load top-packages.json")
def group() -> None:
    """Which projects are wanted most."""


@group.command("load", epilog="Example: piwheels-node master popularity load top-packages.json")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@master_options
def load(*, file: Path, connection: Connection) -> None:
    """Load a list of projects, the most wanted first; it replaces the last one.

    FILE is a text with a name in each line, or JSON: a list of names, or {"rows": [{"project": NAME}, ...]}.
    """
    names = read_names(file.read_text(errors="replace"))
    if not names:
        raise UsageError("there is no name in it", where=str(file))
    known = 0
    with connection.client() as client:
        for at in range(0, len(names), PROJECTS_AT_ONCE):
            some = names[at : at + PROJECTS_AT_ONCE]
            known += client.load_popularity(Popularity(projects=some, first=at + 1)).known
    click.echo(f"{len(names)} names were read; {known} of these projects are known here.")


def read_names(text: str) -> list[str]:
    """The names in a list, each once; raises UsageError for JSON of another shape."""
    if text.lstrip()[:1] in {"[", "{"}:
        try:
            found = [_name(one) for one in _rows(json.loads(text))]
        except (ValueError, RecursionError) as error:
            raise UsageError(f"this JSON is no list of projects: {error}") from error
    else:
        found = [line.partition("#")[0].strip() for line in text.splitlines()]
    return list(dict.fromkeys(name for name in found if name and len(name) <= _LONGEST_NAME))


def _rows(document: Any) -> list[Any]:
    rows = document.get("rows") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise ValueError("there are no rows")
    return rows


def _name(row: Any) -> str:
    name = row.get("project") or row.get("name") if isinstance(row, dict) else row
    return name if isinstance(name, str) else ""
