# SPDX-License-Identifier: BSD-3-Clause
"""What whoever runs a master finds in its data directory: keys, and where it listens (`core.places`).

Commands on the same machine use them, so that nobody copies a key by hand. This module imports only `core`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from piwheels_node.core.errors import NodeError
from piwheels_node.core.places import ENDPOINT


def make_directory(data: Path) -> None:
    """Make a data directory, with a place for keys; raises NodeError."""
    try:
        (data / "keys").mkdir(parents=True, exist_ok=True)
        (data / "keys").chmod(0o700)
        data.chmod(0o755)  # the account that package code runs as must be able to walk through
    except OSError as error:
        raise NodeError(
            f"the data directory cannot be used: {error.strerror}",
            where=str(data),
            hint="name one that you may write to with --data DIR",
        ) from error


def keep_key(path: Path, *, is_good: Callable[[str], bool], make: Callable[[], str]) -> str:
    """The key in a file, where that is good; else a new one, written for the owner only."""
    with contextlib.suppress(FileNotFoundError):
        key = path.read_text().strip()
        if is_good(key):
            return key
    key = make()
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(f"{key}\n")
    return key


@contextlib.contextmanager
def endpoint(data: Path, url: str, certificate: Path | None = None) -> Iterator[None]:
    """Say where the master listens, and which certificate it shows, for as long as this lasts."""
    path = data / ENDPOINT
    said = {"url": url, "pid": os.getpid(), "certificate": certificate and str(certificate)}
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(said))
    beside.rename(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text())["pid"] == os.getpid():  # else another master took it over
                path.unlink()
