# SPDX-License-Identifier: BSD-3-Clause
"""Which shared libraries the wheels here lack, and which Debian packages would bring them.

    installed   each wheel's ELF files are read: what its extensions need and neither the wheel, nor another
                one in the environment, nor the system has, is missing
    not yet     the index says what the wheel that pip would take needs (`_libraries` in the project's page)

Nothing of a wheel is run. This module imports the consumer's own, `core` and our `libraries`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from piwheels_node.consumer import debian
from piwheels_node.consumer.environment import Environment, Installed
from piwheels_node.consumer.pages import Index
from piwheels_node.libraries import find

_ORIGIN = re.compile(r"\$(?:ORIGIN|\{ORIGIN\})")


@dataclass(frozen=True)
class Missing:
    """A library that a project needs, and the Debian package that has it; None where none is known."""

    project: str
    version: str
    soname: str
    package: str | None


def missing(
    environment: Environment, there: Sequence[Installed], index: Index | None = None
) -> list[Missing]:
    """What the installed packages lack; `index` is asked what it knows of those that lack something."""
    provided = {posixpath.basename(path) for one in there for path in one.elves}
    provided |= {elf.soname for one in there for elf in one.elves.values() if elf.soname}
    found = []
    for one in there:
        lacking = _lacking(one, provided, environment.target.arch)
        hints = index.libraries(one.project, environment.target, one.version) if index and lacking else {}
        packages = debian.packages_of({soname: hints.get(soname) for soname in lacking}) if lacking else {}
        found += [Missing(one.project, one.version, soname, packages[soname]) for soname in sorted(lacking)]
    return found


def missing_of(
    names: Iterable[str], environment: Environment, there: Sequence[Installed], index: Index
) -> tuple[list[Missing], list[str]]:
    """What these projects lack, installed or as the index would give them; and those nobody knows of."""
    wanted = [canonicalize_name(name) for name in names]
    found = missing(environment, [one for one in there if one.project in wanted], index)
    unknown: list[str] = []
    for name in wanted:
        if any(one.project == name for one in there):
            continue
        listed = index.newest(name, environment.target)
        if listed is None:
            unknown.append(name)
            continue
        lacking = set(listed.libraries) - set(find(listed.libraries, environment.target.arch))
        packages = debian.packages_of({soname: listed.libraries[soname] for soname in lacking})
        found += [Missing(name, listed.version, soname, packages[soname]) for soname in sorted(lacking)]
    return found, unknown


def _lacking(one: Installed, provided: set[str], arch: str) -> set[str]:
    """Sonames that its extensions and programs need and that are nowhere."""
    linking = one.linking()
    wanted = {name for name in linking.to_load if name not in provided and not _beside(one, name)}
    return wanted - set(find(wanted, arch, linking.directories))


def _beside(one: Installed, soname: str) -> bool:
    """True where a file of the package finds it by its own place: in another package's directory."""
    for path, elf in one.elves.items():
        origin = one.directory / posixpath.dirname(path)
        for directory in elf.rpath:
            if _ORIGIN.match(directory):
                place = origin / _ORIGIN.sub("", directory, count=1).lstrip("/") / soname
                if place.is_file():
                    return True
    return False
