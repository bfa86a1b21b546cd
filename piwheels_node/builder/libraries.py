# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian package has a shared library, on the machine that linked with it.

The names come from reading ELF headers, never from `ldd`, which may run the program. The loader's cache
tells where a library lies, and dpkg whose file that is.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

_LDCONFIG = "/sbin/ldconfig"
_CACHE_LINE = re.compile(r"^\s*(\S+) \(([^)]*)\) => (\S+)$", re.MULTILINE)
_OWNER_LINE = re.compile(r"^([a-z0-9][a-z0-9.+-]*)(?::[a-z0-9]+)?: (/\S+)$", re.MULTILINE)
_TIMEOUT_S = 30


def debian_packages(sonames: Iterable[str]) -> dict[str, str | None]:
    """The Debian package of each library; None where no package of this machine has it."""
    wanted = set(sonames)
    if not wanted:
        return {}
    places = _places(wanted)
    owners = _owners({spelling for place in places.values() for spelling in _spellings(place)})
    found: dict[str, str | None] = {}
    for soname in sorted(wanted):
        place = places.get(soname)
        names = [owners[path] for path in _spellings(place) if path in owners] if place else []
        found[soname] = names[0] if names else None
    return found


def _places(sonames: set[str]) -> dict[str, Path]:
    """Where the loader finds each library, by its cache; the first entry is the one it takes."""
    places: dict[str, Path] = {}
    for soname, _, path in _CACHE_LINE.findall(_output([_LDCONFIG, "-p"])):
        if soname in sonames:
            places.setdefault(soname, Path(path))
    return places


def _spellings(place: Path) -> list[str]:
    """The paths under which dpkg may know a file: with /usr and without, by its link and its own name."""
    spellings = []
    for path in (str(place), str(place.resolve())):
        plain = path.removeprefix("/usr")
        spellings += [f"/usr{plain}", plain]
    return spellings


def _owners(paths: set[str]) -> dict[str, str]:
    if not paths:
        return {}
    return {path: name for name, path in _OWNER_LINE.findall(_output(["dpkg-query", "-S", *sorted(paths)]))}


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
