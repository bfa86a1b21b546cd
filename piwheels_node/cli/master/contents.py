# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node master contents`: the tables that say which Debian package has what a build missed.

They lie in the data directory; a master that runs uses a new one with its next failure.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from piwheels_node.cli.master.run import become_owner
from piwheels_node.cli.options import data_option, json_option
from piwheels_node.cli.output import print_rows
from piwheels_node.core.errors import NodeError, UsageError
from piwheels_node.core.places import CONTENTS
from piwheels_node.core.targets import Target
from piwheels_node.core.text import harmless
from piwheels_node.master.contents.lookup import ARCHITECTURE_OF, KIND_OF, RELEASE_OF, Contents
from piwheels_node.master.contents.reading import TRIPLETS
from piwheels_node.master.contents.update import Made, made_tables, update

_KINDS = sorted(set(KIND_OF.values()))
_MIB = 1 << 20


@click.group("contents", epilog="Example: sudo piwheels-node master contents update --release trixie")
def group() -> None:
    """Which Debian package has which header, library, pkg-config file or tool."""


def _release_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--release",
        metavar="RELEASE",
        type=click.Choice(list(RELEASE_OF)),
        help=f"Debian's release: {', '.join(RELEASE_OF)}; default: this machine's.",
    )(command)


def _arch_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--arch",
        metavar="ARCH",
        type=click.Choice(sorted(TRIPLETS)),
        help=f"Debian's name of the processor: {', '.join(sorted(TRIPLETS))}; default: this machine's.",
    )(command)


@group.command(
    "update", epilog="Example: sudo piwheels-node master contents update --release trixie --arch armhf"
)
@_release_option
@_arch_option
@click.option(
    "--file",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Contents index to read, with .gz or without, in place of the mirror's. May be given again.",
)
@data_option
@json_option
def update_command(
    release: str | None, arch: str | None, files: tuple[Path, ...], data: Path, *, as_json: bool
) -> None:
    """Make the table of a release from the distribution's own index, from the mirror that apt uses.

    50 MB are fetched, and become 4. The old table is used until the new one is whole. Called as root it
    becomes whoever owns the data directory first.
    """
    data = data.absolute()
    become_owner(data)
    release, arch = release or _own_release(), arch or _own_architecture()
    with _Shown(visible=not as_json) as shown:
        made = update(data / CONTENTS, release, arch, files=files, now=datetime.now(UTC), tell=shown.tell)
    _say(made, as_json=as_json)


@group.command("list", epilog="Example: piwheels-node master contents list")
@data_option
@json_option
def list_command(data: Path, *, as_json: bool) -> None:
    """List the tables that there are; the bundled one, of the commonest names, is always there."""
    tables = made_tables(data / CONTENTS)
    if as_json:
        click.echo(json.dumps([{"table": name, **facts} for name, facts in tables], indent=2))
        return
    if not tables:
        click.echo(
            "There is only the bundled table. To make one: piwheels-node master contents update", err=True
        )
        return
    print_rows(
        ("table", "names", "made", "of"),
        [(name, one["names"], one["made_at"][:16].replace("T", " "), one["sources"]) for name, one in tables],
    )


@group.command("find", epilog="Example: piwheels-node master contents find libpq-fe.h")
@click.argument("name", metavar="NAME")
@click.option(
    "--kind",
    metavar="KIND",
    type=click.Choice(_KINDS),
    help=f"What NAME is: {', '.join(_KINDS)}; default: any.",
)
@_release_option
@_arch_option
@data_option
@json_option
def find_command(
    *, name: str, kind: str | None, release: str | None, arch: str | None, data: Path, as_json: bool
) -> int:
    """Say which packages have NAME, as a build would miss it; exit code 3 where none has.

    The package that a failure would name comes first; others may be meant by the same name.
    """
    contents, target = (
        Contents(data / CONTENTS),
        _target(release or _own_release(), arch or _own_architecture()),
    )
    rows: list[tuple[str, str, str, str]] = []
    for reason, one in KIND_OF.items():
        if kind not in {None, one}:
            continue
        sure = contents.package(reason, name, target)
        for path, packages in contents.candidates(one, name, target).items():
            rows += [(one, path, package, "named" if package == sure else "") for package in packages]
    rows.sort(key=lambda row: not row[3])
    if as_json:
        keys = ("kind", "name", "package")
        found = [{**dict(zip(keys, row, strict=False)), "is_named": bool(row[3])} for row in rows]
        click.echo(json.dumps(found, indent=2))
    elif rows:
        print_rows(("kind", "name", "package", "in a failure"), rows)
    else:
        click.echo(f"No package is known that has {harmless(name)}.", err=True)
    return 0 if rows else NodeError.exit_code


def _say(made: Made, *, as_json: bool) -> None:
    if as_json:
        fields = {"release": made.release, "architecture": made.architecture, "path": str(made.path)}
        click.echo(json.dumps({**fields, "names": made.names, "size_bytes": made.size_bytes}, indent=2))
        return
    click.echo(f"{made.path}: {made.names:,} names, {made.size_bytes / _MIB:.1f} MiB")


def _own_release() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        lines = []
    found = dict(line.split("=", 1) for line in lines if "=" in line).get("VERSION_CODENAME", "").strip('"')
    if found not in RELEASE_OF:
        raise UsageError("this machine's release is none that we know", hint="name one with --release")
    return found


def _own_architecture() -> str:
    try:
        said = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError("dpkg does not say what this machine is", hint="name it with --arch") from error
    return said.stdout.strip()


def _target(release: str, architecture: str) -> Target | None:
    """Some target of a release and processor: which Python it has does not matter."""
    machines: Iterable[str] = (arch for arch, name in ARCHITECTURE_OF.items() if name == architecture)
    machine = next(iter(machines), None)
    return Target("cp313", f"linux_{machine}", RELEASE_OF[release]) if machine else None


class _Shown:
    """What goes on: a bar on a terminal, a line for each new thing elsewhere; on standard error."""

    def __init__(self, *, visible: bool) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._is_live = visible and self._console.is_terminal
        self._says_lines = visible and not self._is_live
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            console=self._console,
            transient=True,
            disable=not self._is_live,
        )
        self._task: TaskID | None = None
        self._said = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def tell(self, words: str, percent: float | None) -> None:
        """What goes on now; without a percentage nobody knows how long it takes."""
        words = harmless(words)
        if self._task is None:
            self._task = self._progress.add_task("", total=100)
        self._progress.update(
            self._task, description=words, completed=percent or 0, total=None if percent is None else 100
        )
        subject = words.partition(":")[0]
        if self._says_lines and subject != self._said:
            self._said = subject
            self._console.print(subject, markup=False)
