# SPDX-License-Identifier: BSD-3-Clause
"""The Debian package that has what a build missed; nothing where that is not sure.

Asked are the bundled table, whose names were looked up in the Contents of both bookworm and trixie, and the
table of the target's release (`master contents update` makes it), where there is one. In this order:

    1. the very name, in the bundled table: it knows the package that is usual (libpcap-dev, which needs
       libpcap0.8-dev), where an index only knows who has the file. For other releases: if their table agrees
    2. the very name, in the release's table, if one package has it
    3. for a header of two parts or more: paths that end with it, then its own end; the release's table first

A wrong name costs people more than none. So what several packages have is not said, but `candidates` lists
it; and a bare `config.h` proves nothing: every second project has one of its own. This module imports only
`core`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Protocol

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.targets import Target
from piwheels_node.master.contents.table import Table

KIND_OF = {
    FailureReason.MISSING_HEADER: "header",
    FailureReason.MISSING_LIBRARY: "library",
    FailureReason.MISSING_PKG_CONFIG: "pkg-config",
    FailureReason.MISSING_TOOL: "tool",
}
"""What was missed, by the reason that says so."""

RELEASE_OF = {"bullseye": "debian11", "bookworm": "debian12", "trixie": "debian13"}
"""What targets call Debian's releases."""

ARCHITECTURE_OF = {
    "aarch64": "arm64",
    "armv6l": "armhf",  # Raspberry Pi OS calls it so; Debian's armhf begins with ARMv7
    "armv7l": "armhf",
    "armv8l": "armhf",
    "i686": "i386",
    "riscv64": "riscv64",
    "x86_64": "amd64",
}
"""What Debian calls the processors that `uname -m` names."""

_CHECKED = frozenset({"debian12", "debian13"})
"""The releases in which the bundled table's names were looked up."""

_LEAST_PARTS = 2
_MOST_CANDIDATES = 50
_INCLUDE_DIRECTORY = re.compile(r"^/usr/(local/)?include/([a-z0-9_]+-linux-gnu\w*/)?")
_LIBRARY = re.compile(r"^(?:-l|lib)?(?P<name>[^/]+?)(?:\.so[.\d]*|\.a)?$")


class Names(Protocol):
    """What both kinds of table answer."""

    def exact(self, kind: str, name: str) -> frozenset[str]:
        """The packages that have just this name."""

    def below(self, kind: str, name: str) -> Mapping[str, frozenset[str]]:
        """Paths that end with `/name`, and who has them."""


class Contents:
    """All tables of a master; one object serves all threads, and holds nothing of the tables."""

    def __init__(self, directory: Path | None = None) -> None:
        """`directory` has the tables of the releases (`table_path`); None: only the bundled one is asked."""
        self.directory = directory

    def package(self, reason: FailureReason, captured: str | None, target: Target | None) -> str | None:
        """The package that has what `captured` names, as the reason means it; None where that is not sure."""
        kind = KIND_OF.get(reason)
        if kind is None or not captured:
            return None
        name, release = normalised(kind, captured), self._release(target)
        usual = _single(bundled().exact(kind, name))
        exact = release.exact(kind, name) if release else frozenset()
        if usual and (not exact or usual in exact or (target and target.release in _CHECKED)):
            return usual
        if exact or kind != "header":
            return _single(exact)
        return _single((release and by_its_end(release, name)) or by_its_end(bundled(), name))

    def candidates(self, kind: str, captured: str, target: Target | None) -> dict[str, list[str]]:
        """Every name that may be meant, and the packages that have it: the very name first; 50 at most."""
        name = normalised(kind, captured)
        found: dict[str, frozenset[str]] = {}
        for table in (self._release(target), bundled()):
            if table is not None:
                found |= {name: found.get(name, frozenset()) | table.exact(kind, name)}
                if kind == "header":
                    found |= {path: who for path, who in table.below(kind, name).items() if path not in found}
        return {path: sorted(who) for path, who in list(found.items())[:_MOST_CANDIDATES] if who}

    def _release(self, target: Target | None) -> Table | None:
        if self.directory is None or target is None or target.arch not in ARCHITECTURE_OF:
            return None
        path = table_path(self.directory, target.release, ARCHITECTURE_OF[target.arch])
        return Table(path) if path.exists() else None


def debian_package(reason: FailureReason, captured: str | None) -> str | None:
    """What the bundled table alone says; see `Contents.package`."""
    return Contents().package(reason, captured, None)


def table_path(directory: Path, release: str, architecture: str) -> Path:
    """Where the table of a release (`debian13`) and one of Debian's architectures is."""
    return directory / f"{release}-{architecture}.db"


def normalised(kind: str, captured: str) -> str:
    """The name as tables have it: `ssl` for `-lssl` and `libssl.so.3`, `ffi.h` for `/usr/include/ffi.h`."""
    name = captured.strip()
    if kind == "header":
        return _INCLUDE_DIRECTORY.sub("", name).removeprefix("./")
    if kind == "library":
        match = _LIBRARY.match(name.rsplit("/", 1)[-1])
        return match["name"] if match else name
    if kind == "pkg-config":
        return re.split(r"[\s<>=]", name, maxsplit=1)[0].removesuffix(".pc")
    return name.rsplit("/", 1)[-1]


def by_its_end(table: Names, name: str) -> frozenset[str]:
    """Who has a header that is a longer path than `name`, or the longest end of it that somebody has.

    The longer one may have one directory more: the one that pkg-config would name (`freetype2/freetype/...`).
    """
    parts = name.split("/")
    if len(parts) < _LEAST_PARTS or not all(parts):
        return frozenset()
    longer = [who for path, who in table.below("header", name).items() if path.count("/") == len(parts)]
    if longer:
        return frozenset().union(*longer)
    ends = ("/".join(parts[start:]) for start in range(1, len(parts) - _LEAST_PARTS + 1))
    return next((found for end in ends if (found := table.exact("header", end))), frozenset())


def _single(packages: frozenset[str]) -> str | None:
    return next(iter(packages)) if len(packages) == 1 else None


class SmallTable:
    """A table in memory: kind and name -> package."""

    def __init__(self, rows: Mapping[tuple[str, str], str]) -> None:
        self._rows = dict(rows)

    def exact(self, kind: str, name: str) -> frozenset[str]:
        """The package that has just this name."""
        found = self._rows.get((kind, name))
        return frozenset({found}) if found else frozenset()

    def below(self, kind: str, name: str) -> dict[str, frozenset[str]]:
        """Paths that end with `/name`, and who has them."""
        end = f"/{name}"
        return {
            path: frozenset({package})
            for (of_kind, path), package in self._rows.items()
            if of_kind == kind and path.endswith(end)
        }


@cache
def bundled() -> SmallTable:
    """The table that comes with the program."""
    text = resources.files("piwheels_node.master").joinpath("data/contents-common.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return SmallTable({(kind, name): package for kind, name, package in rows})
