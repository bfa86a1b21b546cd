# SPDX-License-Identifier: BSD-3-Clause
"""The entry point `piwheels-node`: finds the command, and turns errors into words and exit codes.

Exit codes: 0 all went well, 2 the call or a setting is wrong, 3 something failed, 130 interrupted.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

import click

from piwheels_node import __version__
from piwheels_node.cli.lazy import LazyGroup
from piwheels_node.core.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, NodeError
from piwheels_node.core.text import harmless

_COMMANDS = {
    "build": ("piwheels_node.cli.build:command", "Ask a running master for wheels, and wait for them."),
    "builder": ("piwheels_node.cli.builder:group", "This machine as a builder of a master: join, run."),
    "dashboard": (
        "piwheels_node.cli.dashboard:command",
        "The farm on a terminal: what is built where, why builds fail; act on it.",
    ),
    "doctor": (
        "piwheels_node.cli.doctor:command",
        "What is wrong with this machine, and what would mend it.",
    ),
    "libs": ("piwheels_node.cli.libs:group", "Shared libraries that wheels need, and their Debian packages."),
    "master": ("piwheels_node.cli.master:group", "A master, its builders and its join tokens."),
    "pip": (
        "piwheels_node.cli.pip:group",
        "What pip and uv on this machine use, and pointing them to an index.",
    ),
    "standalone": (
        "piwheels_node.cli.standalone:command",
        "Master and builder on this machine: build, and serve.",
    ),
    "status": ("piwheels_node.cli.status:command", "What this machine is, and how it stands."),
}

_PATIENCE_S = 5.0


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: piwheels-node standalone --data farm spidev RPi.GPIO",
)
@click.version_option(__version__, prog_name="piwheels-node")
@click.option("-v", "--verbose", count=True, help="Say more on standard error; twice: everything.")
def group(verbose: int) -> None:
    """Ready-made Python wheels for Raspbian."""
    level = {0: logging.ERROR, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if verbose < 2:  # noqa: PLR2004 - the highest level
        logging.getLogger("httpx").setLevel(logging.WARNING)


def main() -> NoReturn:
    """Run the command line, and exit with its code."""
    interrupt = _Interrupt()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored: a shell's `&`
        signal.signal(signal.SIGINT, interrupt)
    try:
        code = group.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except NodeError as error:
        click.echo(f"piwheels-node: {harmless(str(error))}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as ended:  # click and rich end so, with 1, when nobody reads the results any more
        sys.exit(EXIT_INTERRUPTED if ended.code == 1 else ended.code)
    sys.exit(code if isinstance(code, int) else EXIT_OK)


class _Interrupt:
    """A request to end is one, whichever signal brings it; impatience must not keep us from cleaning up.

    The first one raises KeyboardInterrupt; others are ignored, until that seems to have led nowhere.
    """

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        elif now - self._first < _PATIENCE_S:
            return
        raise KeyboardInterrupt
