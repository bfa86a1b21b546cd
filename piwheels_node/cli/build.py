# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node build`: ask a running master for wheels, and wait for them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from piwheels_node.cli.options import data_option, force_option, json_option, parse_requests
from piwheels_node.cli.progress import progress_for
from piwheels_node.cli.results import ask_and_follow, exit_code, print_json, print_table
from piwheels_node.client import MasterClient
from piwheels_node.core.errors import NodeError


@click.command("build", epilog="Example: piwheels-node build --data farm spidev")
@click.argument("packages", nargs=-1, required=True, metavar="NAME[==VERSION]...")
@data_option
@click.option(
    "--master", metavar="URL", help="The master to ask; default: the one that serves the directory."
)
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the operator's key; default: the one in the directory.",
)
@force_option
@json_option
def command(
    packages: tuple[str, ...],
    data: Path,
    master: str | None,
    key_file: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> int:
    """Ask a running master for wheels of packages, and wait until each is built or has failed.

    What PyPI has a fitting wheel of is answered so, unless --force is given. The exit code is 0 when
    everything named is built or covered, and 3 otherwise.
    """
    requests = parse_requests(packages, force=force)
    url = master or os.environ.get("PIWHEELS_NODE_MASTER") or _url_of(data)
    named = os.environ.get("PIWHEELS_NODE_KEY_FILE")
    key = _key_in(key_file or (Path(named) if named else data / "keys" / "operator.key"))
    progress = progress_for(live=not as_json)
    with MasterClient(url, key) as client:
        with progress:
            results = ask_and_follow(client, requests, progress)
        if as_json:
            print_json(results)
        else:
            print_table(results)
    return exit_code(results)


def _url_of(data: Path) -> str:
    """Where the master of a data directory listens; raises NodeError where none does."""
    path = data / "endpoint.json"
    try:
        return str(json.loads(path.read_text())["url"])
    except (OSError, ValueError, KeyError) as error:
        raise NodeError(
            "no master is running on this directory",
            where=str(data),
            hint=f"piwheels-node standalone --keep --data {data}, or name a master with --master URL",
        ) from error


def _key_in(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise NodeError(
            f"the operator's key cannot be read: {error.strerror}", where=str(path), hint="--key-file FILE"
        ) from error
