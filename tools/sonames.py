# SPDX-License-Identifier: BSD-3-Clause
"""Make piwheels_node/consumer/data/sonames.tsv from Debian's Contents indexes, the older release first.

    python tools/sonames.py bookworm/Contents-armhf.gz trixie/Contents-armhf.gz > sonames.tsv

Rows for sonames whose package Debian Policy's rule does not name. On standard error: how often it is right.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import defaultdict

from piwheels_node.consumer.debian import by_policy

_LINE = re.compile(r"(\S+)\s+(\S+)")
_LIBRARY = re.compile(r"usr/lib/(?:[a-z0-9_]+-linux-gnu\w*/)?(lib[^/]+\.so\.\d[\d.]*|lib[^/]+-[\d.]+\.so)")
_REAL_FILE = re.compile(r"\.so\.\d+\.\d+\.\d")
_HEAD = """\
# Which Debian package has a shared library, where its name does not follow from the soname (Policy 8.1).
# Soname, package; a tab between. Where it has two names, they are those of two releases; t64 may follow.
# Made by tools/sonames.py from the Contents indexes of bookworm and trixie for armhf (November 2026):
# each row was found in one package of the section libs.
"""


def read(path: str) -> tuple[dict[str, set[str]], set[str]]:
    """Owners (section/package) of each library of an index, and the names of all its packages."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    names: set[str] = set()
    with gzip.open(path, "rt", errors="replace") as lines:
        for line in lines:
            if found := _LINE.fullmatch(line.strip()):
                packages = [package for package in found[2].split(",") if "/" in package]
                names |= {package.rsplit("/", 1)[1] for package in packages}
                if library := _LIBRARY.fullmatch(found[1]):
                    owners[library[1]] |= set(packages)
    return owners, names


def exception(soname: str, owners: dict[str, set[str]]) -> str | None:
    """The one package that has a library whose name the rule does not give; None: several, or no soname."""
    parent = soname.rsplit(".", 1)[0]
    if ".so." not in soname or _REAL_FILE.search(soname) or (parent in owners and ".so." in parent):
        return None  # a link for compilers, or the file that a soname leads to
    libs = {package.rsplit("/", 1)[1] for package in owners[soname] if "libs/" in package}
    libs = {one for one in libs if not one.endswith(("-dev", "-dbg"))}
    return libs.pop().removesuffix("t64") if len(libs) == 1 else None


def main() -> None:
    """Print the table."""
    rows: defaultdict[str, set[str]] = defaultdict(set)
    for path in sys.argv[1:]:
        owners, names = read(path)
        named = right = 0
        for soname, packages in owners.items():
            known = [one for name in by_policy(soname) for one in (f"{name}t64", name) if one in names]
            if known:
                named += 1
                right += known[0] in {package.rsplit("/", 1)[1] for package in packages}
            elif package := exception(soname, owners):
                rows[soname].add(package)
        print(
            f"{path}: the rule names a package for {named} files, {right} times the right one",
            file=sys.stderr,
        )
    print(_HEAD, end="")
    for soname, found in sorted(rows.items()):
        print(soname, " ".join(sorted(found)), sep="\t")


if __name__ == "__main__":
    main()
