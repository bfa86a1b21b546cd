# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master`: make one, run it, let machines join, and say what its builders shall do.

init, run         on the machine of the master
token             join tokens                           } these ask the running master, with
builders, cancel  who builds, and what they are told    } the operator's key
fixes             Debian packages that projects need    }
sync, explain, request, rebuild, skip, unskip, popularity    following PyPI, and what is built of it
migrate-to        from SQLite to PostgreSQL
"""

from __future__ import annotations

import click

from piwheels_node.cli.lazy import LazyGroup

_COMMANDS = {
    "builders": (
        "piwheels_node.cli.master.builders:group",
        "List, approve, pause, revoke builders, and more.",
    ),
    "cancel": ("piwheels_node.cli.master.jobs:cancel", "Take jobs out of the queue, or from their builders."),
    "contents": (
        "piwheels_node.cli.master.contents:group",
        "Which Debian package has what a build missed: make tables, look into them.",
    ),
    "explain": ("piwheels_node.cli.master.planning:explain", "What is to be built of a project, or why not."),
    "failures": (
        "piwheels_node.cli.master.failures:command",
        "Why builds failed: a report over all of them.",
    ),
    "fixes": (
        "piwheels_node.cli.master.fixes:group",
        "Which Debian packages projects need: list, accept, refuse, add.",
    ),
    "init": ("piwheels_node.cli.master.init:command", "Make this machine a master: run it once."),
    "migrate-to": ("piwheels_node.cli.migrate:command", "Move from SQLite to an empty PostgreSQL."),
    "popularity": ("piwheels_node.cli.master.popularity:group", "Which projects are wanted most."),
    "rebuild": ("piwheels_node.cli.master.planning:rebuild", "Build once more what was built, or failed."),
    "request": ("piwheels_node.cli.master.planning:request", "Ask for builds, and do not wait for them."),
    "run": ("piwheels_node.cli.master.run:command", "Serve, until Ctrl-C or SIGTERM."),
    "skip": (
        "piwheels_node.cli.master.planning:skip",
        "Build nothing of a project; or list what is skipped.",
    ),
    "sync": (
        "piwheels_node.cli.master.sync:command",
        "Follow PyPI from the beginning, and watch how far it is.",
    ),
    "token": ("piwheels_node.cli.master.tokens:group", "Join tokens: make, list, revoke."),
    "unskip": ("piwheels_node.cli.master.planning:unskip", "Forget what was said by `skip`."),
}


@click.group(
    "master",
    cls=LazyGroup,
    lazy=_COMMANDS,
    epilog="Example: sudo piwheels-node master init, then sudo piwheels-node master run",
)
def group() -> None:
    """A master decides what to build, keeps the queue, publishes the index, and has builders."""
