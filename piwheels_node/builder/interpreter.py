# SPDX-License-Identifier: BSD-3-Clause
"""The Python that a builder builds for: which target that is, and what the environment is called.

`probe` asks an interpreter what it is, the host's or that of a build root; `environment_id` names the set of
things outside the package that decide whether a build works: the interpreter, the release, and every
installed Debian package. A build that failed for want of a package is tried again when this name has changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from piwheels_node.builder.roots.tree import HOST, Tree
from piwheels_node.core.errors import NodeError, SettingsError
from piwheels_node.core.targets import GLIBC_OF_RELEASE, Target

_PROBE_TIMEOUT_S = 60

_PROBE = """
import json, os, struct, sys, sysconfig
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": list(sys.version_info[:3]),
    "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "platform": sysconfig.get_platform(),
    "pointer_bytes": struct.calcsize("P"),
    "base_prefix": sys.base_prefix,
    "base_executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "include": sysconfig.get_path("include"),
    "libc": os.confstr("CS_GNU_LIBC_VERSION"),
    "markers": {
        "implementation_name": sys.implementation.name,
        "implementation_version": "%d.%d.%d" % sys.version_info[:3],
        "os_name": os.name, "platform_machine": os.uname().machine,
        "platform_release": os.uname().release, "platform_system": "Linux",
        "platform_version": os.uname().version, "python_full_version": "%d.%d.%d" % sys.version_info[:3],
        "platform_python_implementation": "CPython",
        "python_version": "%d.%d" % sys.version_info[:2], "sys_platform": sys.platform,
    },
}))
"""

_USERLAND_OF_32_BITS = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}
"""A 32-bit Python under a 64-bit kernel: the kernel's name for the machine is not the wheel's."""


@dataclass(frozen=True)
class Interpreter:
    """A Python outside every virtual environment, and the target that it builds for."""

    path: Path
    version: tuple[int, int, int]
    target: Target
    prefix: Path
    has_headers: bool
    markers: dict[str, str]

    @property
    def version_text(self) -> str:
        """As in `3.13.5`."""
        return ".".join(map(str, self.version))


def probe(python: str = "", tree: Tree = HOST) -> Interpreter:
    """Ask an interpreter what it is; by default the system's python3, with whose headers Debian builds.

    `python` is its path in `tree`. Raises SettingsError where it cannot be run or is not CPython 3.
    """
    where = python or _default_python(tree)
    try:
        done = subprocess.run(
            tree.enter([where, "-I", "-c", _PROBE]),
            capture_output=True,
            text=True,
            check=True,
            timeout=_PROBE_TIMEOUT_S,
        )
        said = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        why = str(error)
        if isinstance(error, subprocess.CalledProcessError):
            why = f"it ended with {error.returncode} {error.stderr.strip()[-200:]}".strip()
        raise SettingsError(
            f"this Python cannot be asked what it is: {why}",
            where=f"builder.python = {where}",
            hint="name an interpreter of CPython 3.11 or newer",
        ) from error
    if said["implementation"] != "cpython":
        raise SettingsError("wheels are built for CPython only", where=f"builder.python = {where}")
    return Interpreter(
        path=Path(said["base_executable"]),
        version=tuple(said["version"]),
        target=_target(said, tree.os_release()),
        prefix=Path(said["base_prefix"]),
        has_headers=(tree.path / said["include"].lstrip("/") / "Python.h").exists(),
        markers=said["markers"],
    )


def environment_id(interpreter: Interpreter, tree: Tree = HOST) -> str:
    """A short name of everything outside the package that a build here depends on (16 hex digits)."""
    about = f"{interpreter.path} {interpreter.version_text} {interpreter.target} {tree.identity()}"
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def os_release(tree: Tree = HOST) -> str:
    """The operating system as it calls itself: `Debian GNU/Linux 13 (trixie)`."""
    return tree.os_release().get("PRETTY_NAME", "unknown")


def _default_python(tree: Tree) -> str:
    for path in (Path("/usr/bin/python3"), Path("/usr/local/bin/python3")):
        if not tree.is_host or path.exists():
            return str(path)
    return "python3"


def _target(said: dict[str, object], fields: dict[str, str]) -> Target:
    version, libc = said["version"], str(said["libc"])
    assert isinstance(version, list)  # noqa: S101 - the probe above made it
    abi = f"cp{version[0]}{version[1]}{'t' if said['threaded'] else ''}"
    platform = str(said["platform"]).replace("-", "_").replace(".", "_")
    machine = platform.removeprefix("linux_")
    if said["pointer_bytes"] == 4:  # noqa: PLR2004 - 32 bits
        machine = _USERLAND_OF_32_BITS.get(machine, machine)
    found = re.fullmatch(r"glibc (\d+)\.(\d+)", libc)
    if not found:
        raise NodeError(
            f"the C library '{libc}' is not glibc", hint="builders run on Debian or Raspberry Pi OS"
        )
    glibc = int(found[1]), int(found[2])
    release = f"debian{fields.get('VERSION_ID', '')}"
    if fields.get("ID") not in {"debian", "raspbian"} or GLIBC_OF_RELEASE.get(release) != glibc:
        release = f"glibc{glibc[0]}.{glibc[1]}"
    return Target(abi, f"linux_{machine}", release)
