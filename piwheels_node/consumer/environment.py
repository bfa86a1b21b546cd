# SPDX-License-Identifier: BSD-3-Clause
"""The Python whose packages are looked at, and what is installed in it.

It is the one that is named, else that of the virtual environment that is active, else the system's. It is
asked for its own directories and tags; its packages are then read from outside, and nothing of them runs.
What Debian's own packages have put there is left out: apt looks after that.
This module imports only the standard library, packaging, `core` and our `elf` and `linking`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from piwheels_node.core.errors import NodeError, WheelError
from piwheels_node.core.targets import Target
from piwheels_node.elf import MAGIC, ElfFacts, read_elf
from piwheels_node.linking import Linking, link

_PROBE_TIMEOUT_S = 60
_PROBE = """
import json, os, site, struct, sys, sysconfig
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": list(sys.version_info[:2]),
    "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "platform": sysconfig.get_platform(),
    "pointer_bytes": struct.calcsize("P"),
    "libc": os.confstr("CS_GNU_LIBC_VERSION"),
    "directories": [path for path in sys.path if path and os.path.isdir(path)],
}))
"""
_USERLAND_OF_32_BITS = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}
_OF_DEBIAN = ("/usr/lib/python3/dist-packages",)


@dataclass(frozen=True)
class Environment:
    """A Python, where it finds packages, and the target whose wheels it takes."""

    python: Path
    directories: tuple[str, ...]
    target: Target


@dataclass(frozen=True)
class Installed:
    """A package that is installed, with the ELF files of it: path below `directory` -> what each says."""

    project: str
    version: str
    directory: Path
    elves: Mapping[str, ElfFacts]

    def linking(self) -> Linking:
        """What it needs from outside of itself."""
        return link(self.elves)


def find_python(named: str | None, environ: Mapping[str, str]) -> Path:
    """The Python that is meant; raises NodeError where it is not there."""
    active = environ.get("VIRTUAL_ENV")
    path = Path(named or (os.path.join(active, "bin", "python") if active else "/usr/bin/python3"))
    if not path.exists():
        raise NodeError("there is no Python here", where=str(path), hint="name one with --python PATH")
    return Path(os.path.abspath(path))  # a link is what makes a Python that of an environment


def probe(python: Path) -> Environment:
    """Ask a Python what it is; raises NodeError where it does not answer, or is no CPython on glibc."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE],
            capture_output=True,
            text=True,
            check=True,
            timeout=_PROBE_TIMEOUT_S,
            cwd="/",
        )
        said = json.loads(done.stdout)
        libc, _, libc_version = str(said["libc"]).partition(" ")
        if said["implementation"] != "cpython" or libc != "glibc":
            raise NodeError("wheels are only made for CPython on glibc", where=str(python))
        major, minor = said["version"]
        machine = str(said["platform"]).removeprefix("linux-")
        if said["pointer_bytes"] == 4:  # noqa: PLR2004 - 32 bits
            machine = _USERLAND_OF_32_BITS.get(machine, machine)
        abi = f"cp{major}{minor}{'t' if said['threaded'] else ''}"
        target = Target.parse(f"{abi}-linux_{machine}-glibc{libc_version}")
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise NodeError(f"this Python does not say what it is: {error}", where=str(python)) from error
    return Environment(python, tuple(said["directories"]), target)


def installed(environment: Environment) -> list[Installed]:
    """Every package that is not Debian's, with its ELF files; one that is broken has none of those."""
    seen: set[str] = set()
    found = []
    for directory in environment.directories:
        if directory in _OF_DEBIAN:
            continue
        for one in importlib.metadata.distributions(path=[directory]):
            name = canonicalize_name(one.metadata["Name"] or "")
            if name and name not in seen:  # the first on the path is the one that is imported
                seen.add(name)
                elves = dict(_elves(one, Path(directory)))
                found.append(Installed(name, one.version, Path(directory), elves))
    return sorted(found, key=lambda each: each.project)


def _elves(distribution: importlib.metadata.Distribution, directory: Path) -> Iterator[tuple[str, ElfFacts]]:
    for entry in distribution.files or ():
        name = str(entry)
        path = directory / name
        if name.endswith((".py", ".pyc", ".txt", ".pyi", ".h")) or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                if file.read(len(MAGIC)) == MAGIC:
                    file.seek(0)
                    yield name, read_elf(file, str(path))
        except (OSError, WheelError):  # not for us to judge: the loader will not take it either
            continue
