# SPDX-License-Identifier: BSD-3-Clause
"""What the ELF files of a wheel need of each other and of the system, read and never run.

A library that a file needs is looked for as the loader does, and in the wheel's own terms:

1. in the directories of its DT_RPATH or DT_RUNPATH that begin with $ORIGIN, which is the directory of the
   file itself: where auditwheel and its like put copies (`NAME.libs/`);
2. anywhere in the wheel, by file name or soname: packages load their own libraries first, by path, and the
   loader then finds them by soname in memory;
3. outside: in the other directories of DT_RPATH or DT_RUNPATH, and where the system has libraries.

This module imports only the standard library, packaging and our `elf`.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.tags import Tag

from piwheels_node.elf import ElfFacts

_DATA = re.compile(r"[^/]+\.data/(?P<scheme>purelib|platlib|scripts|headers|data)/(?P<rest>.*)")
_ORIGIN = re.compile(r"\$(?:ORIGIN|\{ORIGIN\})")
_OF_ONE_PYTHON = re.compile(r"\.cpython-(3\d+t?)[^/.]*\.so$")
_STABLE_ABIS = frozenset({"abi3", "abi3t"})


@dataclass(frozen=True)
class Linking:
    """The libraries that a wheel needs from outside."""

    outside: frozenset[str]
    "Sonames that any of its files needs and that are not in it, the C library's own among them."
    to_load: frozenset[str]
    "Those without which an extension or a program of it cannot start, needed by itself or by what it needs."
    directories: tuple[str, ...]
    "Where its files say that libraries are, outside of it: absolute directories of DT_RPATH, DT_RUNPATH."


def link(elves: Mapping[str, ElfFacts]) -> Linking:
    """Follow what the files of a wheel need; `elves` are its ELF files by their path in it."""
    wheel = _Wheel(elves)
    pending = [path for path, elf in elves.items() if elf.is_extension or _scheme(path) == "scripts"]
    reached = set(pending)
    to_load: set[str] = set()
    while pending:
        inside, outside = wheel.needs(pending.pop())
        to_load |= outside
        pending += inside - reached
        reached |= inside
    return Linking(
        outside=frozenset(name for path in elves for name in wheel.needs(path)[1]),
        to_load=frozenset(to_load),
        directories=tuple(
            dict.fromkeys(
                directory
                for elf in elves.values()
                for directory in elf.rpath
                if directory.startswith("/") and not _ORIGIN.search(directory)
            )
        ),
    )


def is_falsely_stable(elves: Mapping[str, ElfFacts], tags: Iterable[Tag]) -> bool:
    """True where Pythons take a wheel for its tags (abi3, py3-none) that will not find an extension of it.

    `module.cpython-313-arm-linux-gnueabihf.so` is found by one Python, `module.abi3.so` and `module.so` by
    all. A wheel that has it for several Pythons is left alone.
    """
    named = (_OF_ONE_PYTHON.search(path) for path, elf in elves.items() if elf.is_extension)
    pythons = {found[1] for found in named if found}
    return len(pythons) == 1 and any(
        tag.abi in _STABLE_ABIS or (tag.abi == "none" and tag.interpreter.startswith("py")) for tag in tags
    )


class _Wheel:
    """Where the ELF files of a wheel will be once it is installed."""

    def __init__(self, elves: Mapping[str, ElfFacts]) -> None:
        self.elves = elves
        self.installed = {_installed(path): path for path in elves}
        self.by_name: defaultdict[str, set[str]] = defaultdict(set)
        for path, elf in elves.items():
            self.by_name[posixpath.basename(path)].add(path)
            if elf.soname:
                self.by_name[elf.soname].add(path)

    def needs(self, path: str) -> tuple[set[str], set[str]]:
        """What a file needs: paths in the wheel, and sonames from outside."""
        inside: set[str] = set()
        outside: set[str] = set()
        for name in self.elves[path].needed:
            beside = self._beside(path, name)
            found = {beside} if beside else self.by_name.get(name, set())
            inside |= found
            if not found:
                outside.add(name)
        return inside, outside

    def _beside(self, path: str, name: str) -> str | None:
        origin = posixpath.dirname(_installed(path))
        for directory in self.elves[path].rpath:
            if _ORIGIN.match(directory):
                rest = _ORIGIN.sub("", directory, count=1).lstrip("/")
                place = posixpath.normpath(posixpath.join(origin, rest, name))
                if place in self.installed:
                    return self.installed[place]
        return None


def _scheme(path: str) -> str | None:
    found = _DATA.match(path)
    return found["scheme"] if found else None


def _installed(path: str) -> str:
    """Where a member goes, seen from site-packages; other places have names of their own."""
    found = _DATA.match(path)
    if not found:
        return path
    return (
        found["rest"] if found["scheme"] in {"purelib", "platlib"} else f"<{found['scheme']}>/{found['rest']}"
    )
