# SPDX-License-Identifier: BSD-3-Clause
r"""A table of names and packages in one file: an SQLite database of compressed blocks of sorted lines.

    DATA/contents/debian13-armhf.db     block(first, lines): zlib of "KEY<tab>PACKAGE,PACKAGE\n"..., by KEY

A key is the kind's letter and the path from its end: `hssl.h/openssl`. So all paths that end alike lie
together, and a look-up reads a block or two. It opens the file, asks, and closes it: an idle master holds
nothing. The file is made beside the old one and renamed over it when it is whole; it never changes after
that, so a reader needs no lock. Sorting is SQLite's, on the disk: the memory that making one needs is
bounded.

Of packages that have the same name those of main count, where there is one; for what is needed to compile,
those called `-dev`, where there is one. This module imports only `core`.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from piwheels_node.core.errors import StorageError
from piwheels_node.master.contents.reading import Entry

FORMAT = "1"
_BLOCK_BYTES = 16 << 10
_AT_ONCE = 10_000
_MOST_FOUND = 200
"""A name that more paths end with than this is no name at all (`config.h`)."""

_LETTERS = {"header": "h", "library": "l", "pkg-config": "p", "tool": "t"}


def key_of(kind: str, name: str) -> str:
    """The kind's letter, and the parts of the path from the last to the first."""
    return _LETTERS[kind] + "/".join(reversed(name.split("/")))


class Table:
    """The table in one file; each look-up opens it anew. A file that is missing is an empty table."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exact(self, kind: str, name: str) -> frozenset[str]:
        """The packages that have just this name."""
        key = key_of(kind, name)
        for found, packages in self._from(key):
            return frozenset(packages) if found == key else frozenset()
        return frozenset()

    def below(self, kind: str, name: str) -> dict[str, frozenset[str]]:
        """Paths that end with `/name`, and who has them; of very many, the first."""
        start = key_of(kind, name) + "/"
        lines = itertools.takewhile(lambda line: line[0].startswith(start), self._from(start))
        return {
            "/".join(reversed(key[1:].split("/"))): frozenset(packages)
            for key, packages in itertools.islice(lines, _MOST_FOUND)
        }

    def facts(self) -> dict[str, str] | None:
        """What the file says of itself: `made_at`, `names`, `sources`; None where there is none."""
        if not self.path.exists():
            return None
        with self._open() as database:
            return dict(database.execute("SELECT name, value FROM fact").fetchall())

    def _from(self, start: str) -> Iterator[tuple[str, list[str]]]:
        """The lines from the first one on that is not before `start`."""
        if not self.path.exists():
            return
        with self._open() as database:
            before = "SELECT max(first) FROM block WHERE first <= ?"
            (first,) = database.execute(before, (start,)).fetchone()
            blocks = database.execute(
                "SELECT lines FROM block WHERE first >= ? ORDER BY first", (first or "",)
            )
            for (packed,) in blocks:
                for line in zlib.decompress(packed).decode().splitlines():
                    key, _, packages = line.partition("\t")
                    if key >= start:
                        yield key, packages.split(",")

    def _open(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro&immutable=1", uri=True))


def write(path: Path, found: Iterable[Entry], facts: dict[str, str], now: datetime) -> int:
    """Make the table at `path` anew, and give how many names it has; raises StorageError.

    What is there stays until the new one is whole.
    """
    new, scratch = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.sorting")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (new, scratch):
            leftover.unlink(missing_ok=True)
        with closing(sqlite3.connect(new, isolation_level=None)) as database:
            names = _fill(database, scratch, found)
            if not names:
                raise StorageError("nothing in this index is of use", where=facts.get("sources"))
            facts = facts | {
                "format": FORMAT,
                "names": str(names),
                "made_at": now.astimezone(UTC).isoformat(),
            }
            database.executemany("INSERT INTO fact VALUES (?, ?)", sorted(facts.items()))
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.chmod(0o644)
        new.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the table cannot be written: {error}", where=str(path)) from error
    finally:
        for leftover in (new, scratch):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
    return names


def _fill(database: sqlite3.Connection, scratch: Path, found: Iterable[Entry]) -> int:
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")  # synced as a whole, before it is renamed
    database.execute("CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    database.execute("CREATE TABLE block (first TEXT PRIMARY KEY, lines BLOB NOT NULL) WITHOUT ROWID")
    database.execute("ATTACH ? AS sorting", (str(scratch),))
    database.execute("PRAGMA sorting.journal_mode = OFF")
    database.execute("PRAGMA sorting.synchronous = OFF")
    database.execute("CREATE TABLE sorting.entry (key TEXT, package TEXT, is_main INTEGER)")
    rows = ((key_of(one.kind, one.name), one.package, one.is_main) for one in found)
    while some := list(itertools.islice(rows, _AT_ONCE)):
        database.execute("BEGIN")
        database.executemany("INSERT INTO sorting.entry VALUES (?, ?, ?)", some)
        database.execute("COMMIT")
    ordered = database.execute("SELECT key, package, is_main FROM sorting.entry ORDER BY key")
    names = 0
    block: list[str] = []
    size = 0
    for key, group in itertools.groupby(ordered, key=lambda row: str(row[0])):
        block.append(f"{key}\t{','.join(_who_counts(key, group))}\n")
        names, size = names + 1, size + len(block[-1])
        if size >= _BLOCK_BYTES:
            _add_block(database, block)
            block, size = [], 0
    if block:
        _add_block(database, block)
    return names


def _add_block(database: sqlite3.Connection, block: list[str]) -> None:
    packed = zlib.compress("".join(block).encode(), 9)
    database.execute("INSERT INTO block VALUES (?, ?)", (block[0].partition("\t")[0], packed))


def _who_counts(key: str, group: Iterable[tuple[str, str, int]]) -> list[str]:
    rows = list(group)
    packages = {package for _, package, is_main in rows if is_main} or {package for _, package, _ in rows}
    if key[0] != _LETTERS["tool"]:
        packages = {package for package in packages if package.endswith("-dev")} or packages
    return sorted(packages)
