# SPDX-License-Identifier: BSD-3-Clause
"""What uv will use, as far as one machine can know, and the file that is this package's own.

uv reads no pip.conf. Of the whole machine it reads one file: uv/uv.toml in the first directory of
XDG_CONFIG_DIRS that has it (/etc/xdg), else /etc/uv/uv.toml; then the user's, then the project's. Lists of
indexes are joined, the user's first; of all else the nearest one wins.

Our index lacks most of what PyPI has, and uv stops at the first index that knows a project: with its default
it would take an older release from ours. `index-strategy = "unsafe-best-match"` makes it choose the newest of
all, as pip does; "unsafe" is that any of the indexes may serve any name, as with pip (measured: uv 0.13.9).
A file that somebody else made is never changed: TOML has no line that could be added at any place.
This module does no I/O but reading, and imports only the standard library and our `pip_files`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from piwheels_node.consumer.pip_files import Surroundings, same_index

SYSTEM_FILE = Path("/etc/uv/uv.toml")
STRATEGY = "unsafe-best-match"
_HEADER = (
    b"# Made by piwheels-node: uv also asks the index below for wheels that fit this machine.\n"
    b"# `piwheels-node pip status` tells what uv uses, `sudo piwheels-node pip disable` takes this away.\n"
)


@dataclass(frozen=True)
class UvFile:
    """A file that uv reads, nearest last; `error` is why uv stops at it."""

    name: str
    there: bool = False
    urls: tuple[str, ...] = ()
    strategy: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class UvView:
    """All of them, and what follows; variables of the environment are not looked at, save for the files."""

    files: tuple[UvFile, ...]

    @property
    def strategy(self) -> str | None:
        """The index strategy; None: uv's default."""
        return next((one.strategy for one in reversed(self.files) if one.strategy), None)

    @property
    def broken(self) -> UvFile | None:
        """The first file that uv stops at."""
        return next((one for one in self.files if one.error), None)

    def uses(self, url: str) -> bool:
        """True where uv would ask this index."""
        return not self.broken and any(same_index(url, one) for file in self.files for one in file.urls)


def own_file(url: str, *, trusts_system: bool) -> bytes:
    """What /etc/uv/uv.toml says where nobody had one.

    `trusts_system`: uv shall believe the certificates that the system believes, in place of its own list.
    """
    lines = [f'index-strategy = "{STRATEGY}"']
    if trusts_system:
        lines.append("native-tls = true")
    lines += ["", "[[index]]", 'name = "piwheels-node"', f'url = "{url}"', ""]
    return _HEADER + "\n".join(lines).encode()


def is_own_file(content: bytes) -> bool:
    """True where a file is one that `own_file` made, and nobody has changed it since."""
    if not content.startswith(_HEADER):
        return False
    try:
        urls = _urls(tomllib.loads(content.decode()))
    except ValueError:
        return False
    return len(urls) == 1 and content in {own_file(urls[0], trusts_system=one) for one in (True, False)}


def look(at: Surroundings) -> UvView:
    """Read all that uv would read, a project's own files aside."""
    return UvView(tuple(_files(at)))


def _files(at: Surroundings) -> Iterator[UvFile]:
    if at.environ.get("UV_NO_CONFIG", "").lower() in {"1", "true", "yes", "on"}:
        return
    if named := at.environ.get("UV_CONFIG_FILE"):
        yield _read(at, Path(named))
        return
    directories = (at.environ.get("XDG_CONFIG_DIRS", "").strip() or "/etc/xdg").split(os.pathsep)
    candidates = [Path(directory, "uv", "uv.toml") for directory in directories]
    first = next((path for path in candidates if at.real(path).exists()), SYSTEM_FILE)
    yield _read(at, first)
    config = at.environ.get("XDG_CONFIG_HOME", "").strip() or str(at.home / ".config")
    yield _read(at, Path(config, "uv", "uv.toml"))


def _read(at: Surroundings, path: Path) -> UvFile:
    try:
        document = tomllib.loads(at.real(path).read_bytes().decode())
    except FileNotFoundError:
        return UvFile(str(path))
    except OSError as error:
        return UvFile(str(path), there=True, error=error.strerror or "it cannot be read")
    except ValueError as error:
        return UvFile(str(path), there=True, error=f"it is no TOML: {error}")
    strategy = document.get("index-strategy")
    return UvFile(str(path), True, tuple(_urls(document)), strategy if isinstance(strategy, str) else None)


def _urls(document: dict[str, Any]) -> list[str]:
    """Every index that a file names, in uv's newer spelling and its older ones."""
    tables, extra = document.get("index"), document.get("extra-index-url")
    urls = [table.get("url") for table in tables or () if isinstance(table, dict)]
    urls += extra if isinstance(extra, list) else []
    urls.append(document.get("index-url"))
    return [url for url in urls if isinstance(url, str)]
