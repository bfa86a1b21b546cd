# SPDX-License-Identifier: BSD-3-Clause
"""Does the same job give the same bytes? Each package is built twice, in two fresh workshops, and compared.

Nothing is shared but the sdist: each workshop makes its own build environments, in directories of other
names, at another time. Where the wheels differ, the members that do are named, and what of them does.

    python benchmarks/reproducible.py [--data DIR] [PROJECT ...]

Prints a line for each package and the share; the exit code is 1 where less than 9 of 10 are the same.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from alone import build, lease_of, work_directory, workshop
from packages import PURE, C

from piwheels_node.builder.files import sha256_of
from piwheels_node.core.errors import NodeError
from piwheels_node.master.pypi.index import PyPI

GOAL = 0.9


def main() -> None:
    """Build, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="*", default=[*PURE, *C], metavar="PROJECT")
    parser.add_argument("--data", type=Path, help="where to work; default: a directory in /var/tmp")
    arguments = parser.parse_args()
    with work_directory(arguments.data) as work:
        first = build_all(work / "one", arguments.projects)
        second = build_all(work / "another-name", arguments.projects)
        pairs = {name: (first[name], second[name]) for name in first if name in second}
        same = [name for name, (one, other) in pairs.items() if tell(name, one, other)]
    print(f"{len(same)} of {len(pairs)} packages that could be built are the same twice")
    sys.exit(0 if pairs and len(same) >= GOAL * len(pairs) else 1)


def build_all(root: Path, projects: list[str]) -> dict[str, Path]:
    """Build every project in a workshop of its own; gives the wheels of those that could be built."""
    pypi = PyPI(timeout_s=60, max_age_s=3600)
    made: dict[str, Path] = {}
    with workshop(root / "builder") as shop:
        for name in projects:
            try:
                lease = lease_of(pypi, shop.interpreter.target, name)
            except NodeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            record = build(shop, lease, root / "wheels" / name)
            if record.wheel:
                made[name] = record.wheel.path
    pypi.close()
    return made


def tell(name: str, one: Path, other: Path) -> bool:
    """Print what came of a package; True where both wheels are the same."""
    same = one.name == other.name and sha256_of(one) == sha256_of(other)
    print(f"{'same  ' if same else 'DIFFER'} {name:20} {one.name}")
    if not same:
        for difference in differences(one, other):
            print(f"         {difference}")
    return same


def differences(one: Path, other: Path) -> Iterator[str]:
    """Which members differ, and in what; then what no member explains."""
    if one.name != other.name:
        yield f"the name: {other.name}"
    with zipfile.ZipFile(one) as first, zipfile.ZipFile(other) as second:
        names = [first.namelist(), second.namelist()]
        if names[0] != names[1]:
            yield "the order of the members" if sorted(names[0]) == sorted(names[1]) else "which members"
        for path in sorted(set(names[0]) & set(names[1])):
            about = [archive.getinfo(path) for archive in (first, second)]
            for field in ("date_time", "external_attr", "compress_type", "create_system", "extra"):
                values = [getattr(member, field) for member in about]
                if values[0] != values[1]:
                    yield f"{path}: {field} {values[0]} and {values[1]}"
            contents = [archive.read(path) for archive in (first, second)]
            if contents[0] != contents[1]:
                yield f"{path}: {where(*contents)}"


def where(one: bytes, other: bytes) -> str:
    """The first place where two contents differ, with what is around it."""
    place = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return f"{len(one)} and {len(other)} bytes"
    around = [content[max(0, place - 20) : place + 20] for content in (one, other)]
    return f"from byte {place} on, {around[0]!r} and {around[1]!r}"


if __name__ == "__main__":
    main()
