# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node builder root`: Debians of another release or architecture, to build in (`builder.roots`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.roots.making import MadeRoot, MadeRoots
from piwheels_node.builder.roots.tree import HOST, Tree
from piwheels_node.cli.options import data_option, json_option, load_settings
from piwheels_node.cli.output import print_rows
from piwheels_node.core.errors import NodeError
from piwheels_node.core.places import BUILDER
from piwheels_node.core.text import harmless

_ROOTS = "roots"


@click.group("root", epilog="Example: sudo piwheels-node builder root create trixie --release trixie")
def group() -> None:
    """Build roots: other Debians that this builder builds for, besides the one that it runs on."""


@group.command(
    "create",
    epilog="Example: sudo piwheels-node builder root create trixie-armhf --release trixie --arch armhf",
)
@click.argument("name")
@click.option("--release", required=True, metavar="CODENAME", help="Which Debian: bookworm, trixie.")
@click.option("--arch", default="", help="Debian's name of its architecture; default: this machine's.")
@click.option(
    "--mirror", default="", metavar="URL", help="Where its packages come from; default: as for apt here."
)
@click.option("--package", "packages", multiple=True, metavar="NAME", help="A package to have in it, too.")
@data_option
@json_option
def create(
    name: str, *, release: str, arch: str, mirror: str, packages: tuple[str, ...], data: Path, as_json: bool
) -> None:
    """Make a build root with Python, a compiler and what builds need; it takes minutes.

    Nothing is installed on this machine. The builder's service offers it when it starts next.
    """
    with _progress(f"making {name}") as say:
        made = _roots(data).create(
            name, release, arch=arch, mirror=mirror, packages=packages, now=datetime.now(UTC), say=say
        )
    _tell(made, data, "is made", as_json=as_json)


@group.command("list", epilog="Example: piwheels-node builder root list --json")
@data_option
@json_option
def list_roots(*, data: Path, as_json: bool) -> None:
    """List the Debians that can be built for here, and their targets; the host's own is one."""
    roots = _roots(data)
    python = load_settings(()).builder.python
    lines = [{"name": HOST.name, "target": _target(HOST, python), "identity": HOST.identity()}]
    lines += [{**asdict(one), "target": _target(roots.tree(one))} for one in roots.all()]
    if as_json:
        click.echo(json.dumps(lines, indent=2))
        return
    shown = (
        [
            str(one["name"]),
            str(one["target"] or "no Python"),
            str(one.get("made_at", ""))[:10],
            str(one["identity"])[:16],
        ]
        for one in lines
    )
    print_rows(["name", "target", "made", "identity"], shown)


@group.command("update", epilog="Example: sudo piwheels-node builder root update trixie")
@click.argument("name")
@data_option
@json_option
def update(name: str, *, data: Path, as_json: bool) -> None:
    """Make a build root anew, from the packages that its Debian has today.

    A builder that runs goes on with the old one until it is started again.
    """
    with _progress(f"updating {name}") as say:
        made, changed = _roots(data).update(name, now=datetime.now(UTC), say=say)
    _tell(made, data, "is new" if changed else "is as it was", as_json=as_json)


@group.command("remove", epilog="Example: sudo piwheels-node builder root remove trixie")
@click.argument("name")
@data_option
def remove(name: str, *, data: Path) -> None:
    """Remove a build root that no running builder uses."""
    _roots(data).remove(name)
    click.echo(f"{name} is removed", err=True)


def _roots(data: Path) -> MadeRoots:
    return MadeRoots(data.absolute() / BUILDER / _ROOTS)


def _target(tree: Tree, python: str = "") -> str | None:
    """What is built for in it; None where its Python does not run."""
    try:
        return str(probe(python, tree).target)
    except NodeError:
        return None


def _tell(made: MadeRoot, data: Path, words: str, *, as_json: bool) -> None:
    target = _target(_roots(data).tree(made))
    if as_json:
        click.echo(json.dumps({**asdict(made), "target": target}, indent=2))
    else:
        click.echo(f"{made.name} {words}: {target or 'its Python does not run here'}", err=True)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is done: the newest line on a terminal, all lines elsewhere."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield lambda line: console.print(Text(harmless(line)))
        return
    with console.status(Text(what)) as status:
        yield lambda line: status.update(Text(f"{what}: {harmless(line)}", no_wrap=True, overflow="ellipsis"))
