# SPDX-License-Identifier: BSD-3-Clause
"""Groups of commands whose modules are imported when one of their commands is called.

`--help` of a group needs no database and no web server: it lists what the group was told of its commands.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from piwheels_node.core.errors import NodeError


class LazyGroup(click.Group):
    """A group made of `lazy`: name -> (where the command is, as `module:attribute`; what it does)."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **more: Any) -> None:
        super().__init__(*args, **more)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All commands, by name."""
        return sorted(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command, imported now."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise _missing(error, f"piwheels-node {cmd_name}") from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in sorted(self.lazy.items())])


def _missing(error: ModuleNotFoundError, command: str) -> NodeError | ModuleNotFoundError:
    """What a command lacks, as an error that tells how to get it; a mistake of ours stays what it is."""
    library = (error.name or "").partition(".")[0]
    if library in {"", "piwheels_node"}:
        return error
    return NodeError(
        f"this needs the Python library {library}, which is not installed",
        where=command,
        hint=f"sudo apt install python3-{library}, or, for all that a role may need, "
        "sudo apt install --reinstall --install-recommends piwheels-node",
    )
