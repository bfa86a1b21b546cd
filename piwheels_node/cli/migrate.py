# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master migrate-to`: from the SQLite file to a PostgreSQL, every row or none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from piwheels_node.cli.master.run import become_owner
from piwheels_node.cli.options import data_option, json_option
from piwheels_node.core.settings import SETTINGS_DIR
from piwheels_node.master.database.transfer import Moved, transfer

_WORDS = {"copy": "copying", "compare": "comparing"}


@click.command(
    "migrate-to",
    epilog="Example: piwheels-node master migrate-to postgresql://piwheels@db.example/piwheels",
)
@click.argument("dsn", metavar="DSN")
@data_option
@json_option
def command(dsn: str, data: Path, *, as_json: bool) -> int:
    """Copy the database of a stopped master from SQLite to an empty PostgreSQL.

    Every row is compared after it was copied. Where anything fails, or the command is interrupted, the target
    stays empty. The SQLite file is left as it was; wheels and logs stay where they are. Called as root it
    becomes whoever owns the data directory first, as the master does: PostgreSQL may go by the account.
    """
    data = data.absolute()
    become_owner(data)
    with _Bars(visible=not as_json) as bars:
        moved = transfer(data, dsn, bars.show)
    if as_json:
        click.echo(json.dumps({"where": moved.where, "rows": moved.rows}))
    else:
        _say(moved, dsn)
    sys.stdout.flush()
    return 0


def _say(moved: Moved, dsn: str) -> None:
    total = sum(moved.rows.values())
    tables = sum(1 for rows in moved.rows.values() if rows)
    click.echo(f"{total} rows of {tables} tables are in {moved.where} now, each compared with the original.")
    click.echo(f"For the master to use it, put this into {SETTINGS_DIR}/master.toml, then start it:\n")
    click.echo(f"    [master]\n    database = {json.dumps(dsn, ensure_ascii=False)}\n")
    if "@" in dsn and ":" in dsn.partition("://")[2].partition("@")[0]:
        click.echo("There is a password in it: the file must be readable by the master's account only.")
    click.echo("The SQLite file is as it was. A master that is started on it knows nothing of what follows.")


class _Bars:
    """A bar for copying and one for comparing, on a terminal; nothing elsewhere."""

    def __init__(self, *, visible: bool) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not (visible and console.is_terminal)
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, what: str, table: str, done: int, total: int) -> None:
        """So far."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task("", total=total)
        self._progress.update(self._tasks[what], completed=done, description=f"{_WORDS[what]} {table}")
