# SPDX-License-Identifier: BSD-3-Clause
"""A Contents index (`dists/.../Contents-armhf.gz`), line by line: what of it a build could miss.

A line has a path without its first `/`, blanks, and the packages that have it: `section/name`, or
`area/section/name` outside main, with commas between. Of some million lines a tenth matters:

    header      below usr/include, also in the directory of this architecture, not in another's; not what
    Python
                packages have there: those headers come with a build requirement
    library     libNAME.so and libNAME.a where the linker looks; a number behind the .so: that is for running
    pkg-config  NAME.pc where pkg-config looks
    tool        in bin and sbin

Lines are foreign input: what is too long, not UTF-8, or no name of a package is passed over. This module
imports only the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

TRIPLETS = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "armel": "arm-linux-gnueabi",
    "armhf": "arm-linux-gnueabihf",
    "i386": "i386-linux-gnu",
    "riscv64": "riscv64-linux-gnu",
}
"""The directory of each of Debian's architectures below usr/include and usr/lib."""

PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,199}")
"""What Debian's policy calls a package, in ASCII."""

_STARTS = (
    b"usr/include/",
    b"usr/lib/",
    b"usr/share/pkgconfig/",
    b"usr/bin/",
    b"usr/sbin/",
    b"lib/",
    b"bin/",
    b"sbin/",
)
_LONGEST_LINE = 4096
_AREA_AND_SECTION = 2
_ELSEWHERE = re.compile(r"(?:[a-z0-9_]+-(?:linux|kfreebsd|gnu)[a-z0-9_-]*|c\+\+)/")
_PYTHON = re.compile(r"python\d[\d.]*[a-z]*/")
_LIBRARY = re.compile(r"(?:usr/)?lib/(?:(?P<where>[^/]+)/)?lib(?P<name>[^/]+)\.(?:so|a)")
_PKG_CONFIG = re.compile(r"usr/(?:share|lib(?:/(?P<where>[^/]+))?)/pkgconfig/(?P<name>[^/]+)\.pc")
_TOOL = re.compile(r"(?:usr/)?s?bin/(?P<name>[^/]+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name that a build could miss; `kind` is `header`, `library`, `pkg-config` or `tool`."""

    kind: str
    name: str
    package: str
    is_main: bool


def entries(lines: Iterable[bytes], architecture: str) -> Iterator[Entry]:
    """What the lines of an index say; `architecture` is Debian's (`armhf`), also for the index of `all`."""
    triplet = TRIPLETS[architecture]
    for line in lines:
        if line.startswith(_STARTS) and len(line) <= _LONGEST_LINE:
            try:
                path, _, packages = line.decode().rstrip().rpartition(" ")
            except UnicodeDecodeError:
                continue
            yield from _entries_of(path.rstrip(), packages, triplet)


def _entries_of(path: str, packages: str, triplet: str) -> Iterator[Entry]:
    found = _named(path, triplet)
    if found is None:
        return
    kind, name = found
    for one in packages.split(","):
        *sections, package = one.split("/")
        if len(sections) > _AREA_AND_SECTION or not PACKAGE_NAME.fullmatch(package):
            continue
        if kind == "header" and _PYTHON.match(name) and not package.startswith("libpython"):
            continue
        yield Entry(kind, name, package, is_main=len(sections) < _AREA_AND_SECTION)


def _named(path: str, triplet: str) -> tuple[str, str] | None:
    """What the file is to a build, and the name that a build would miss it by."""
    if path.startswith("usr/include/"):
        name = path.removeprefix("usr/include/").removeprefix(f"{triplet}/")
        return ("header", name) if name and not _ELSEWHERE.match(name) else None
    for kind, pattern in (("library", _LIBRARY), ("pkg-config", _PKG_CONFIG), ("tool", _TOOL)):
        match = pattern.fullmatch(path)
        if match:
            where = match.groupdict().get("where")
            return (kind, match["name"]) if where in {None, triplet} else None
    return None
