# SPDX-License-Identifier: BSD-3-Clause
"""`piwheels-node status`: what this machine is, and how it stands."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import click

from piwheels_node.cli.connection import Endpoint, endpoint_of
from piwheels_node.cli.options import json_option, seen_data_option
from piwheels_node.cli.pip import expected_index
from piwheels_node.consumer import pip_files, uv_config
from piwheels_node.consumer.report import Known, Report, Seen, changes, health, lines, see, services
from piwheels_node.consumer.roles import roles_of
from piwheels_node.core.errors import NodeError, StorageError
from piwheels_node.core.text import harmless


@click.command("status", epilog="Example: piwheels-node status --watch")
@seen_data_option
@json_option
@click.option("--watch", is_flag=True, help="Go on, and print the lines that change, until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="With --watch: how long between two looks.",
)
def command(data: Path, *, as_json: bool, watch: bool, interval_s: float) -> None:
    """Say in plain lines what this machine is, what pip uses, and how its master and its builds stand."""
    data = data.absolute()
    before: list[tuple[str, str]] = []
    while True:
        report = look(data)
        after = lines(report)
        changed = changes(before, after) if before else after
        if as_json and changed:
            click.echo(json.dumps(report.as_json(), indent=None if watch else 2))
        elif not as_json:
            at = f"{datetime.now(UTC).astimezone():%H:%M:%S} " if watch else ""
            for topic, words in changed:
                click.echo(harmless(f"{at}{topic:8} {words}"))
        if not watch:
            return
        before = after
        time.sleep(interval_s)


def look(data: Path, *, ask_masters: bool = True) -> Report:
    """How everything stands, now; masters are not asked where they need not be."""
    known, notes = known_masters(data)
    at = pip_files.Surroundings.ours()
    try:
        index = expected_index(data)
    except StorageError as error:
        index = ""
        notes.append(error.what)
    return Report(
        roles=sorted(roles_of(data), key=("consumer", "builder", "master").index),
        services=services(),
        index=index,
        pip=pip_files.look(at),
        uv=uv_config.look(at),
        masters=[see(one) if ask_masters else Seen(one.url) for one in known],
        health=health(data),
        notes=notes,
    )


def known_masters(data: Path) -> tuple[list[Known], list[str]]:
    """The masters that this machine knows: the one that was joined, and the one that runs here; and notes."""
    from piwheels_node.builder.farm import membership  # noqa: PLC0415 - the client is slow to import

    known, notes = [], []
    try:
        mine = membership.load(data)
        if mine:
            known.append(Known(mine.url, mine.certificate, mine.name))
    except StorageError as error:
        notes.append(f"{error.what}: {error.hint}" if error.hint else error.what)
    try:
        here = endpoint_of(data)
    except NodeError:
        return known, notes
    if not any(_is_same(one, here) for one in known):
        known.append(Known(here.url, here.certificate))
    return known, notes


def _is_same(known: Known, here: Endpoint) -> bool:
    """True where the master that was joined is the one that runs here, under whatever name."""
    if known.certificate and here.certificate:
        return known.certificate.strip() == here.certificate.strip()
    return urlsplit(known.url).netloc == urlsplit(here.url).netloc
