# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian package has a shared library, on the machine that linked with it.

The names come from reading ELF headers, never from `ldd`, which may run the program. Where a library lies
is told by the directories that the wheel's files name (DT_RPATH, DT_RUNPATH) and by the loader's cache; of
the cache only what is for the wheel's processor counts, since a Debian may hold libraries of several. Whose
file that is, dpkg tells.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

_LDCONFIG = "/sbin/ldconfig"
_CACHE_LINE = re.compile(r"^\s*(\S+) \(([^)]*)\) => (\S+)$", re.MULTILINE)
_OWNER_LINE = re.compile(r"^([a-z0-9][a-z0-9.+-]*)(?::[a-z0-9]+)?: (/\S+)$", re.MULTILINE)
_TIMEOUT_S = 30
_FLAGS = {
    "x86_64": "x86-64",
    "aarch64": "AArch64",
    "armv6l": "hard-float",
    "armv7l": "hard-float",
    "armv8l": "hard-float",
    "riscv64": "double-float",
}
"""How the loader's cache marks the libraries of a processor (`flag_descr` in glibc's cache.c)."""


def debian_packages(
    sonames: Iterable[str], arch: str, directories: Sequence[str] = (), *, root: Path = Path("/")
) -> dict[str, str | None] | None:
    """The Debian package of each library; None in its place where no package of this machine has it.

    `arch` is the wheel's processor as `uname -m` says it; `directories` are searched first. `root` is the
    Debian that is asked about, by its top directory. None in place of all where there is no dpkg to ask.
    """
    wanted = set(sonames)
    if not wanted:
        return {}
    if not shutil.which("dpkg-query"):
        return None
    cached = _cached(wanted, _FLAGS.get(arch), root)
    places = {**cached, **_in_directories(wanted, directories, root)}
    owners = _owners({spelling for place in places.values() for spelling in _spellings(place, root)}, root)
    found: dict[str, str | None] = {}
    for soname in sorted(wanted):
        place = places.get(soname)
        names = [owners[path] for path in _spellings(place, root) if path in owners] if place else []
        found[soname] = names[0] if names else None
    return found


def find(sonames: Iterable[str], arch: str, directories: Sequence[str] = ()) -> dict[str, Path]:
    """Where this machine has each library; what is not in the answer is missing here."""
    wanted, here = set(sonames), Path("/")
    if not wanted:
        return {}
    return {**_cached(wanted, _FLAGS.get(arch), here), **_in_directories(wanted, directories, here)}


def _in_directories(sonames: set[str], directories: Sequence[str], root: Path) -> dict[str, Path]:
    """What lies in the directories that the wheel names; the first one wins."""
    places: dict[str, Path] = {}
    for directory in directories:
        for soname in sonames:
            if "/" not in soname and Path(root, directory.lstrip("/"), soname).is_file():
                places.setdefault(soname, Path(directory, soname))
    return places


def _cached(sonames: set[str], flag: str | None, root: Path) -> dict[str, Path]:
    """Where the loader finds each library, by its cache; the first entry is the one it takes."""
    places: dict[str, Path] = {}
    cache = str(root / "etc" / "ld.so.cache")
    for soname, about, path in _CACHE_LINE.findall(_output([_LDCONFIG, "-p", "-C", cache])):
        if soname in sonames and (flag is None or flag in re.split(r",\s*", about)):
            places.setdefault(soname, Path(path))
    return places


def _spellings(place: Path, root: Path) -> list[str]:
    """The paths under which dpkg may know a file: with /usr and without, by its link and its own name."""
    spellings = []
    real = (root / str(place).lstrip("/")).resolve()
    own = Path("/", real.relative_to(root)) if real.is_relative_to(root) else place
    for path in (str(place), str(own)):
        plain = path.removeprefix("/usr")
        spellings += [f"/usr{plain}", plain]
    return spellings


def _owners(paths: set[str], root: Path) -> dict[str, str]:
    if not paths:
        return {}
    command = ["dpkg-query", f"--admindir={root / 'var' / 'lib' / 'dpkg'}", "-S", *sorted(paths)]
    return {path: name for name, path in _OWNER_LINE.findall(_output(command))}


def _output(command: list[str]) -> str:
    """What a program prints; nothing where it is not there: not every machine is a Debian."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            env={"LC_ALL": "C.UTF-8"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
