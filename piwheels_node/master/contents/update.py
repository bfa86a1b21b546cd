# SPDX-License-Identifier: BSD-3-Clause
"""`master contents update`: the table of one release and architecture, made anew from its Contents indexes.

    fetch -> read, line by line -> sort on the disk -> one file, renamed over the old one when it is whole

What was fetched lies in DATA/contents/.fetched until the table is there: who is interrupted does not fetch it
again. This module imports only `core`.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from piwheels_node.core.errors import NodeError, UsageError
from piwheels_node.master.contents import fetching, table
from piwheels_node.master.contents.lookup import RELEASE_OF, table_path
from piwheels_node.master.contents.reading import TRIPLETS, Entry, entries

_EVERY = 20_000
_GZIP = b"\x1f\x8b"
_CODENAME = re.compile(r"[a-z]{2,30}")

Tell = Callable[[str, float | None], None]
"""What goes on now, and how far it is in percent where that is known."""

_Opened = Callable[[Path], contextlib.AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True)
class Made:
    """A table that was made; `release` as targets name it."""

    release: str
    architecture: str
    path: Path
    names: int
    size_bytes: int


def update(
    directory: Path, release: str, architecture: str, *, files: Iterable[Path], now: datetime, tell: Tell
) -> Made:
    """Make the table of `release` (`trixie`), from `files` or, where there are none, from the mirror.

    Raises UsageError for an unknown release or architecture, and NodeError where the index cannot be had or
    read: the table that was there is then as it was.
    """
    if release not in RELEASE_OF:
        raise UsageError(f"'{release}' is no release that we know", hint=f"one of {', '.join(RELEASE_OF)}")
    if architecture not in TRIPLETS:
        raise UsageError(
            f"'{architecture}' is no architecture that we know", hint=f"one of {', '.join(sorted(TRIPLETS))}"
        )
    given = list(files)
    path = table_path(directory, RELEASE_OF[release], architecture)
    fetched = directory / ".fetched" / f"{release}-{architecture}"
    if given:
        names = _make(path, given, architecture, _opened, now, tell)
    else:
        tell(f"fetching the index of {release} for {architecture}", 0)
        found = fetching.fetch(fetched, release, architecture, lambda percent, words: tell(words, percent))
        names = _make(path, found, architecture, fetching.lines_of, now, tell)
        shutil.rmtree(fetched, ignore_errors=True)
    return Made(RELEASE_OF[release], architecture, path, names, path.stat().st_size)


def made_tables(directory: Path) -> list[tuple[str, dict[str, str]]]:
    """The tables that there are: `debian13-armhf`, and what each says of itself."""
    found = ((path.stem, table.Table(path).facts()) for path in sorted(directory.glob("[!.]*.db")))
    return [(name, facts) for name, facts in found if facts is not None]


def _make(  # noqa: PLR0917 - private, and called twice
    path: Path, files: list[Path], architecture: str, opened: _Opened, now: datetime, tell: Tell
) -> int:
    def found() -> Iterator[Entry]:
        count = 0
        for file in files:
            with opened(file) as lines:
                for entry in entries(lines, architecture):
                    count += 1
                    if count % _EVERY == 0:
                        tell(f"reading {file.name}: {count:,} names", None)
                    yield entry

    facts = {"sources": " ".join(file.name for file in files), "architecture": architecture}
    return table.write(path, found(), facts, now)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of a file, compressed with gzip or not."""
    try:
        with path.open("rb") as file:
            is_gzip = file.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if is_gzip else path.open("rb") as lines:
            yield iter(cast("BinaryIO", lines))
    except (OSError, EOFError) as error:
        raise NodeError(f"the index cannot be read: {error}", where=str(path)) from error
