# SPDX-License-Identifier: BSD-3-Clause
"""How commands reach a running master: where it is, the operator's key, and which certificate it shows.

Without further words it is the master of the data directory on this machine, whose key and certificate lie
there. One on another machine is named with --master, its operator's key with --key-file.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click

from piwheels_node.cli.options import seen_data_option
from piwheels_node.client import MasterClient
from piwheels_node.core.errors import NodeError
from piwheels_node.core.places import ENDPOINT, OPERATOR_KEY

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - named, not bound
"What a master may listen on to be reached from everywhere, and how this machine itself reaches it."


@dataclass(frozen=True)
class Endpoint:
    """Where a master is: as this machine reaches it, and as it listens; `certificate` (PEM) is its own."""

    url: str
    listens: str
    certificate: str | None = None


@dataclass(frozen=True)
class Connection:
    """What a command was told of the master that it is about."""

    data: Path
    master: str | None = None
    key_file: Path | None = None
    certificate: Path | None = None

    def endpoint(self) -> Endpoint:
        """Where the master is; raises NodeError."""
        url = self.master or os.environ.get("PIWHEELS_NODE_MASTER")
        there = Endpoint(url, url) if url else endpoint_of(self.data)
        if self.certificate is None:
            return there
        return Endpoint(
            there.url, there.listens, _read(self.certificate, "the certificate", "--certificate FILE")
        )

    def client(self) -> MasterClient:
        """A client with the operator's key; raises NodeError."""
        there = self.endpoint()
        return MasterClient(there.url, self._key(), certificate=there.certificate)

    def reader(self) -> MasterClient:
        """A client that can read at least, with the operator's key where that can be read; raises NodeError.

        A key that was named must be there; one that only might be need not.
        """
        there = self.endpoint()
        try:
            key: str | None = self._key()
        except NodeError:
            if self._named_key():
                raise
            key = None
        return MasterClient(there.url, key, certificate=there.certificate)

    @property
    def is_named(self) -> bool:
        """True where somebody said which master is meant."""
        return bool(self.master or os.environ.get("PIWHEELS_NODE_MASTER"))

    def _named_key(self) -> Path | None:
        named = os.environ.get("PIWHEELS_NODE_KEY_FILE")
        return self.key_file or (Path(named) if named else None)

    def _key(self) -> str:
        path = self._named_key() or self.data / OPERATOR_KEY
        return _read(path, "the operator's key", "--key-file FILE").strip()


def master_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--data`, `--master`, `--key-file`, `--certificate`; the command gets them as one, `connection`."""

    @functools.wraps(command)
    def called(
        data: Path, master: str | None, key_file: Path | None, certificate: Path | None, **more: Any
    ) -> Any:
        return command(connection=Connection(data, master, key_file, certificate), **more)

    for option in (
        click.option(
            "--certificate",
            type=click.Path(dir_okay=False, path_type=Path),
            help="File with the only certificate to believe of --master; default: what the system believes.",
        ),
        click.option(
            "--key-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="File with the operator's key; default: the one in the directory.",
        ),
        click.option(
            "--master", metavar="URL", help="The master to ask; default: the one that serves the directory."
        ),
        seen_data_option,
    ):
        called = option(called)
    return called


def endpoint_of(data: Path) -> Endpoint:
    """Where the master of a data directory listens; raises NodeError where none does."""
    try:
        said = json.loads((data / ENDPOINT).read_text())
        url = str(said["url"])
        path = said.get("certificate")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeError(
            "no master is running on this directory",
            where=str(data),
            hint=f"piwheels-node master run --data {data}, or piwheels-node standalone --keep --data {data},"
            " or name a master with --master URL",
        ) from error
    certificate = _read(Path(path), "the master's certificate", "--certificate FILE") if path else None
    return Endpoint(_reachable(url), url, certificate)


def _reachable(url: str) -> str:
    """The URL for this machine: what listens everywhere also listens on loopback."""
    parts = urlsplit(url)
    host = EVERYWHERE.get(parts.hostname or "")
    if host is None:
        return url
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{shown}:{parts.port}" if parts.port else shown))


def _read(path: Path, what: str, hint: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise NodeError(f"{what} cannot be read: {why}", where=str(path), hint=hint) from error
