# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node libs`: shared libraries that wheels need, and the Debian packages that have them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from piwheels_node.cli.options import data_option, json_option
from piwheels_node.consumer import debian, libraries
from piwheels_node.consumer.environment import find_python, installed, probe
from piwheels_node.consumer.libraries import Missing
from piwheels_node.consumer.pages import Index
from piwheels_node.consumer.switch import index_url
from piwheels_node.core.errors import EXIT_FAILED, EXIT_OK, NodeError
from piwheels_node.core.text import harmless


@click.group("libs", epilog="Example: sudo piwheels-node libs install opencv-python")
def group() -> None:
    """Shared libraries that wheels need of this machine, and the Debian packages that have them."""


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        data_option,
        click.option(
            "--index", metavar="URL", help="The index to ask; default: the one that pip is pointed to."
        ),
        click.option(
            "--python",
            metavar="PATH",
            help="The Python whose packages are meant; default: the active environment's, else the system's.",
        ),
    ):
        command = option(command)
    return command


@group.command("check", epilog="Example: piwheels-node libs check --python .venv/bin/python")
@_common
@json_option
def check(python: str | None, index: str | None, data: Path, *, as_json: bool) -> int:
    """Say which installed wheels lack shared libraries. Exit code 3 where one does.

    Their files are read, never run. What Debian's own packages installed is left out: apt looks after that.
    """
    environment = probe(find_python(python, os.environ))
    there = installed(environment)
    with Index(_index(index, data)) as asked:
        found = libraries.missing(environment, there, asked)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for line in _lines(found):
            click.echo(harmless(line))
        if not found:
            click.echo(f"{len(there)} packages of {environment.python}: nothing is missing", err=True)
        elif packages := _packages(found):
            click.echo(f"To install them: sudo apt-get install {' '.join(packages)}", err=True)
    return EXIT_FAILED if found else EXIT_OK


@group.command("install", epilog="Example: sudo piwheels-node libs install opencv-python --yes")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_common
@click.option("--yes", "assume_yes", is_flag=True, help="Do not ask before installing.")
def install(
    names: Sequence[str], python: str | None, index: str | None, data: Path, *, assume_yes: bool
) -> None:
    """Install the Debian packages that the wheels of these projects need, by apt, which asks first.

    Installed wheels are read; of others the index tells what they need.
    """
    environment = probe(find_python(python, os.environ))
    with Index(_index(index, data)) as asked:
        found, unknown = libraries.missing_of(names, environment, installed(environment), asked)
    for name in unknown:
        click.echo(
            harmless(f"{name}: not installed, and the index has no wheel of it for this Python"), err=True
        )
    for line in _lines(found):
        click.echo(harmless(line), err=True)
    packages = _packages(found)
    if packages:
        debian.install(packages, assume_yes=assume_yes)
    elif not found and not unknown:
        click.echo("nothing is missing.", err=True)
    left = [one.soname for one in found if one.package is None]
    if left or (unknown and not packages):
        raise NodeError(
            f"no Debian package is known for {', '.join(left)}" if left else "nothing was installed",
            hint="apt-file search, or the project's own documentation",
        )


def _lines(found: Sequence[Missing]) -> list[str]:
    return [
        f"{one.project} {one.version}: {one.soname} is missing, "
        + (f"in {one.package}" if one.package else "no Debian package of it is known")
        for one in found
    ]


def _packages(found: Sequence[Missing]) -> list[str]:
    return sorted({one.package for one in found if one.package})


def _index(named: str | None, data: Path) -> str:
    from piwheels_node.cli.pip import expected_index  # noqa: PLC0415 - only where none is named

    return index_url(named) if named else expected_index(data)
