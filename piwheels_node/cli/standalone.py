# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node standalone`: the whole farm on this machine, for as long as the command runs."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from pathlib import Path

import click

from piwheels_node.cli.options import (
    data_option,
    force_option,
    json_option,
    load_settings,
    parse_requests,
    set_option,
)
from piwheels_node.cli.progress import progress_for
from piwheels_node.cli.results import ask_and_follow, exit_code, print_json, print_table
from piwheels_node.core.errors import UsageError
from piwheels_node.core.settings import Settings
from piwheels_node.standalone import Standalone


@click.command(
    "standalone",
    epilog="Example: piwheels-node standalone --data farm spidev RPi.GPIO==0.7.1",
)
@click.argument("packages", nargs=-1, metavar="[NAME[==VERSION]]...")
@data_option
@click.option("--python", metavar="PATH", help="Interpreter to build for; default: the system's python3.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the index on loopback; 0: any free one.")
@click.option("--keep", is_flag=True, help="Go on serving when the builds are done, until Ctrl-C.")
@force_option
@set_option
@json_option
def command(
    packages: tuple[str, ...],
    data: Path,
    python: str | None,
    port: int | None,
    *,
    keep: bool,
    force: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> int:
    """Build packages from source in a sandbox, and serve them in an index on this machine.

    What PyPI has a fitting wheel of is not built, unless --force is given. What was built before is not
    built again. The exit code is 0 when everything named is built or covered, and 3 otherwise.
    """
    if not packages and not keep:
        raise UsageError(
            "nothing is named to build", hint="name packages, or give --keep to serve what there is"
        )
    requests = parse_requests(packages, force=force)
    settings = _settings(overrides, python, port)
    progress = progress_for(live=not as_json)
    with Standalone(data.absolute(), settings, progress) as farm, farm.client() as client:
        with progress:
            results = ask_and_follow(client, requests, progress, steps=False)
        if as_json:
            print_json(results)
        elif results:
            print_table(results)
        sys.stdout.flush()
        if keep:
            click.echo(f"The index is {farm.index_url} until Ctrl-C.", err=True)
            _wait_to_be_ended()
    return exit_code(results)


def _settings(overrides: tuple[str, ...], python: str | None, port: int | None) -> Settings:
    settings = load_settings(overrides)
    if python:
        settings = dataclasses.replace(settings, builder=dataclasses.replace(settings.builder, python=python))
    if port is not None:
        settings = dataclasses.replace(settings, master=dataclasses.replace(settings.master, port=port))
    return settings


def _wait_to_be_ended() -> None:
    """Serve until Ctrl-C or a signal says that it is enough: the normal end of --keep."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
