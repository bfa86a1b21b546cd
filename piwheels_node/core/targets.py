# SPDX-License-Identifier: BSD-3-Clause
"""Targets: what a wheel is built for, and which wheels the pip of a target accepts.

A target is a CPython ABI, a platform and a distribution release: `cp313-linux_armv7l-debian13`.
Its tags are computed for the target, never for the running interpreter (PEP 425, 599, 600). Their order is
the one in which trixie's pip prefers them: `linux_armv7l` after all manylinux tags. From packaging 26.3 on,
pip has it before them; the set is the same. This module imports only the standard library and `packaging`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, total_ordering

from packaging.tags import Tag, compatible_tags, cpython_tags

from piwheels_node.core.errors import UsageError

GLIBC_OF_RELEASE = {
    "debian11": (2, 31),
    "debian12": (2, 36),
    "debian13": (2, 41),
}
"""The C library of each Debian release (Raspberry Pi OS has the same numbers)."""

_NAME = re.compile(r"(?P<abi>cp3\d+t?)-(?P<platform>linux_\w+)-(?P<release>[a-z]+\d+(\.\d+)?)", re.ASCII)
_LEGACY_MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLDEST_GLIBC = {"x86_64": (2, 5), "i686": (2, 5)}
_ALSO_RUNS = {"armv8l": ("armv7l",)}  # 32-bit Python on a 64-bit kernel, as packaging has it
_NO_MANYLINUX = frozenset({"armv6l", "armv5tel"})


@total_ordering
@dataclass(frozen=True)
class Target:
    """An ABI (`cp313`), a platform (`linux_armv7l`) and a release (`debian13`, or `glibc2.39` elsewhere).

    Targets are ordered by Python version, never by text: cp39 is before cp311.
    """

    abi: str
    platform: str
    release: str

    @classmethod
    def parse(cls, name: str) -> Target:
        """Read `cp313-linux_armv7l-debian13`; raises UsageError.

        The same name gives the same object, which keeps its tags: making them takes a millisecond, and a
        master needs them for each wheel that it checks.
        """
        return _parsed(name)

    def __str__(self) -> str:
        return f"{self.abi}-{self.platform}-{self.release}"

    def __lt__(self, other: Target) -> bool:
        return self._key < other._key

    @property
    def _key(self) -> tuple[tuple[int, int], str, str, str]:
        return self.python_version, self.abi, self.platform, self.release

    @property
    def python_version(self) -> tuple[int, int]:
        """Major and minor: (3, 13)."""
        return 3, int(self.abi.removeprefix("cp3").removesuffix("t"))

    @property
    def arch(self) -> str:
        """The processor, as `uname -m` says it: `armv7l`."""
        return self.platform.removeprefix("linux_")

    @property
    def glibc(self) -> tuple[int, int]:
        """The version of the release's C library; raises UsageError for an unknown release."""
        if self.release in GLIBC_OF_RELEASE:
            return GLIBC_OF_RELEASE[self.release]
        found = re.fullmatch(r"glibc(\d+)\.(\d+)", self.release)
        if not found:
            raise UsageError(
                f"the C library of '{self.release}' is not known",
                where=str(self),
                hint=f"one of {', '.join(GLIBC_OF_RELEASE)}, or glibc with its version: glibc2.39",
            )
        return int(found[1]), int(found[2])

    @cached_property
    def tags(self) -> tuple[Tag, ...]:
        """All wheel tags that the target's pip accepts, the preferred ones first."""
        platforms = list(self._platforms())
        interpreter = self.abi.removesuffix("t")
        return (
            *cpython_tags(python_version=self.python_version, abis=[self.abi], platforms=platforms),
            *compatible_tags(
                python_version=self.python_version, interpreter=interpreter, platforms=platforms
            ),
        )

    @cached_property
    def _rank(self) -> dict[Tag, int]:
        return {tag: rank for rank, tag in reversed(list(enumerate(self.tags)))}

    def rank(self, tags: Iterable[Tag]) -> int | None:
        """How pip ranks a wheel with these tags: 0 is best, None is refused."""
        return min((self._rank[tag] for tag in tags if tag in self._rank), default=None)

    def accepts(self, tags: Iterable[Tag]) -> bool:
        """True where the target's pip would install a wheel with these tags."""
        return any(tag in self._rank for tag in tags)

    def _platforms(self) -> Iterator[str]:
        archs = (self.arch, *_ALSO_RUNS.get(self.arch, ()))
        if self.arch not in _NO_MANYLINUX:
            major, newest = self.glibc
            for arch in archs:
                oldest = _OLDEST_GLIBC.get(arch, (2, 17))[1]
                for minor in range(newest, oldest - 1, -1):
                    yield f"manylinux_{major}_{minor}_{arch}"
                    if (major, minor) in _LEGACY_MANYLINUX:
                        yield f"{_LEGACY_MANYLINUX[major, minor]}_{arch}"
        for arch in archs:
            yield f"linux_{arch}"


@lru_cache(maxsize=256)
def _parsed(name: str) -> Target:
    found = _NAME.fullmatch(name)
    if not found:
        raise UsageError(
            f"'{name}' is not a target", hint="write ABI-PLATFORM-RELEASE: cp313-linux_armv7l-debian13"
        )
    target = Target(found["abi"], found["platform"], found["release"])
    _ = target.glibc
    return target
