# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian package would bring a shared library that is not here, and having apt install it.

    1. what the index says, as it was on the machine that built the wheel
    2. the name that Debian Policy 8.1 gives: libfoo.so.3 is in libfoo3, libfoo-2.0.so.0 in libfoo-2.0-0;
       since time_t grew (2024) some have t64 at the end
    3. a table of the others (`data/sonames.tsv`), made from Debian's Contents indexes by `tools/sonames.py`

A name counts only where apt knows a package of it, so a machine of another release gets its own.
Nothing is fetched here, and apt-file is not needed. This module imports only the standard library and `core`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources

from piwheels_node.core.errors import NodeError

_SONAME = re.compile(r"(?P<name>lib.+?)(?:\.so\.(?P<version>\d[\d.]*)|-(?P<dashed>\d[\d.]*)\.so)")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_TIMEOUT_S = 120


def by_policy(soname: str) -> list[str]:
    """The names that Debian Policy 8.1 gives to a library's package; t64 may follow. None for odd sonames."""
    found = _SONAME.fullmatch(soname)
    if not found:
        return []
    version = found["version"] or found["dashed"]
    plain = found["name"].lower().replace("_", "-")
    spelled = dict.fromkeys((plain, re.sub(r"-(?=\d)", "", plain)))
    return [f"{name}{'-' if name[-1].isdigit() else ''}{version}" for name in spelled]


def candidates(soname: str, hint: str | None = None) -> list[str]:
    """Packages that might have a library, the likeliest first."""
    names = [*([hint] if hint else []), *by_policy(soname), *_table().get(soname, ())]
    both = [spelling for name in names for spelling in (name, f"{name}t64", name.removesuffix("t64"))]
    return [name for name in dict.fromkeys(both) if _PACKAGE.fullmatch(name)]


def packages_of(sonames: Mapping[str, str | None]) -> dict[str, str | None]:
    """The package of each library, given what the index says of it; None where none is known.

    Raises NodeError where this machine has no apt.
    """
    offered = {soname: candidates(soname, hint) for soname, hint in sonames.items()}
    known = _known({name for names in offered.values() for name in names})
    return {
        soname: next((name for name in names if name in known), None) for soname, names in offered.items()
    }


def install(packages: Iterable[str], *, assume_yes: bool) -> None:
    """Have apt install packages, which asks first; raises NodeError where it does not."""
    command = ["apt-get", "install", *(["--yes"] if assume_yes else []), "--", *packages]
    if os.geteuid() != 0:
        raise NodeError(
            "only root can install Debian packages", where=" ".join(command), hint="call it with sudo"
        )
    try:
        ended = subprocess.run(command, check=False)
    except OSError as error:
        raise _no_apt(error) from error
    if ended.returncode:
        raise NodeError(
            "apt did not install them", where=" ".join(command), hint="sudo apt-get update, then again"
        )


def _known(names: set[str]) -> set[str]:
    """Those of the names that apt has a package for; purely virtual ones are none."""
    if not names:
        return set()
    try:
        said = subprocess.run(
            ["apt-cache", "show", "--no-all-versions", "--", *sorted(names)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_apt(error) from error
    return set(re.findall(r"^Package: (\S+)$", said, re.MULTILINE))


def _no_apt(error: Exception) -> NodeError:
    return NodeError(
        f"apt cannot be asked: {error}", hint="libraries come as Debian packages: this needs a Debian"
    )


@cache
def _table() -> dict[str, list[str]]:
    text = resources.files("piwheels_node.consumer").joinpath("data/sonames.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return {soname: packages.split() for soname, packages in rows}
