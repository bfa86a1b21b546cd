# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node build`: ask a running master for wheels, and wait for them."""

from __future__ import annotations

import click

from piwheels_node.cli.connection import Connection, master_options
from piwheels_node.cli.options import force_option, json_option, parse_requests, target_option
from piwheels_node.cli.progress import progress_for
from piwheels_node.cli.results import ask_and_follow, exit_code, print_json, print_table


@click.command("build", epilog="Example: piwheels-node build --data farm spidev")
@click.argument("packages", nargs=-1, required=True, metavar="NAME[==VERSION]...")
@target_option
@master_options
@force_option
@json_option
def command(
    packages: tuple[str, ...], target: str | None, connection: Connection, *, force: bool, as_json: bool
) -> int:
    """Ask a running master for wheels of packages, and wait until each is built or has failed.

    Without --target it is that of the newest Python that a builder offers. What PyPI has a fitting wheel of
    is answered so, unless --force is given. The exit code is 0 when everything named is built or covered,
    and 3 otherwise.
    """
    requests = parse_requests(packages, force=force, target=target)
    progress = progress_for(live=not as_json)
    with connection.client() as client:
        with progress:
            results = ask_and_follow(client, requests, progress)
        if as_json:
            print_json(results)
        else:
            print_table(results)
    return exit_code(results)
