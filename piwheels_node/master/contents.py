# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian package has what a build missed: a header, a library, a pkg-config file, a program.

The table (`data/contents-common.tsv`) has the commonest ones, each looked up in the Contents index of both
bookworm and trixie; what has another package in one of them is left out. A wrong name costs people more than
none, so a guess is made only where it can mean one package. This module imports only `core`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from piwheels_node.core.failure import FailureReason

_KIND_OF = {
    FailureReason.MISSING_HEADER: "header",
    FailureReason.MISSING_LIBRARY: "library",
    FailureReason.MISSING_PKG_CONFIG: "pkg-config",
    FailureReason.MISSING_TOOL: "tool",
}
_LEAST_SHARED_PARTS = 2
_INCLUDE_DIRECTORY = re.compile(r"^/usr/(local/)?include/([a-z0-9_]+-linux-gnu\w*/)?")
_LIBRARY = re.compile(r"^(?:-l|lib)?(?P<name>[^/]+?)(?:\.so[.\d]*|\.a)?$")


def debian_package(reason: FailureReason, captured: str | None) -> str | None:
    """The package that has what `captured` names, as the reason means it; None where that is not known.

    First the name as it is; for headers then the longest path that ends, or is the end of, one in the
    table, if all such paths belong to one package.
    """
    kind = _KIND_OF.get(reason)
    if kind is None or not captured:
        return None
    table = _tables()[kind]
    name = _normalised(kind, captured.strip())
    found = table.get(name)
    if found is None and kind == "header":
        found = _by_longest_suffix(table, name)
    return found


def _normalised(kind: str, name: str) -> str:
    if kind == "header":
        return _INCLUDE_DIRECTORY.sub("", name).removeprefix("./")
    if kind == "library":
        match = _LIBRARY.match(name.rsplit("/", 1)[-1])
        return match["name"] if match else name
    if kind == "pkg-config":
        return re.split(r"[\s<>=]", name, maxsplit=1)[0].removesuffix(".pc")
    return name.rsplit("/", 1)[-1]


def _by_longest_suffix(table: dict[str, str], name: str) -> str | None:
    """A bare file name proves nothing: every second project has a `config.h` of its own."""
    parts = PurePosixPath(name).parts
    packages: dict[int, set[str]] = defaultdict(set)
    for known, package in table.items():
        shared = _shared_end(parts, PurePosixPath(known).parts)
        if shared >= _LEAST_SHARED_PARTS:
            packages[shared].add(package)
    if not packages:
        return None
    best = packages[max(packages)]
    return next(iter(best)) if len(best) == 1 else None


def _shared_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many parts, if one path is the end of the other; else 0."""
    length = min(len(one), len(other))
    return length if one[-length:] == other[-length:] else 0


@cache
def _tables() -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {kind: {} for kind in _KIND_OF.values()}
    text = resources.files("piwheels_node.master").joinpath("data/contents-common.tsv").read_text("utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            kind, name, package = line.split("\t")
            tables[kind][name] = package
    return tables
