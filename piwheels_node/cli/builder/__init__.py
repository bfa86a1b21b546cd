# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node builder`: this machine builds for a master.

join, leave, status   which master that is (`builder.membership`)
run                   the service, in the foreground
root                  other Debians to build in (`builder.roots`)
"""

from __future__ import annotations

import click

from piwheels_node.cli.lazy import LazyGroup

_COMMANDS = {
    "join": ("piwheels_node.cli.builder.member:join", "Become a builder of a master, by a join token."),
    "leave": ("piwheels_node.cli.builder.member:leave", "Forget the master."),
    "root": ("piwheels_node.cli.builder.root:group", "Other Debians to build in: make, list, remove."),
    "run": ("piwheels_node.cli.builder.run:command", "Build, until Ctrl-C or SIGTERM."),
    "status": ("piwheels_node.cli.builder.member:status", "Which master was joined, and how that stands."),
}


@click.group(
    "builder",
    cls=LazyGroup,
    lazy=_COMMANDS,
    epilog="Example: sudo piwheels-node builder join https://farm.local:8443 TOKEN",
)
def group() -> None:
    """A builder takes jobs from one master, builds them in a sandbox, and hands the wheels back."""
