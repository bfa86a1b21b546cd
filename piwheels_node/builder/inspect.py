# SPDX-License-Identifier: BSD-3-Clause
"""The finished wheel as hostile input, and the name under which it may be published.

The wheel is copied out of the reach of package code and read (`wheelfile.read_wheel`); the Debian packages of
the libraries that it needs are looked up, and its extensions are loaded once in the sandbox.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from piwheels_node.builder.files import open_plain
from piwheels_node.builder.hooks import Hooks
from piwheels_node.core.errors import BuildError, WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.targets import Target
from piwheels_node.core.wheels import free_filename
from piwheels_node.libraries import debian_packages
from piwheels_node.wheelfile import WheelFacts, read_wheel, rename_wheel

_UNPACKED_RATIO = 4


@dataclass(frozen=True)
class Wheel:
    """A finished wheel, in the build's own directory."""

    path: Path
    facts: WheelFacts
    libraries: dict[str, str | None]


def inspect(filename: str, directory: Path, hooks: Hooks) -> Wheel:
    """Take the wheel `filename` that the backend left into `directory`; raises WheelError or BuildError."""
    path = _take(filename, directory, hooks)
    facts = _read(path, hooks, as_built=True)
    libraries = _libraries(facts, hooks)
    if facts.extensions:
        _load(path, facts, hooks)
    name = _public_name(facts, hooks.workshop.interpreter.target, frozenset(hooks.lease.taken_names))
    if name != filename:
        path = rename_wheel(path, name)
        facts = _read(path, hooks)
    return Wheel(path, facts, libraries)


def _take(filename: str, directory: Path, hooks: Hooks) -> Path:
    """Copy the wheel out of reach of package code."""
    limit = min(hooks.workshop.settings.builder.wheel_max_bytes, hooks.lease.limits.wheel_bytes)
    if os.path.basename(filename) != filename or not filename.endswith(".whl"):
        raise WheelError(FailureReason.WHEEL_INVALID, "the backend names no wheel", where=filename[:200])
    if (hooks.inside / "out").is_symlink():
        raise WheelError(FailureReason.WHEEL_INVALID, "the backend put a link in place of its directory")
    path = directory / filename
    try:
        with open_plain(hooks.inside / "out" / filename) as file, path.open("xb") as copy:
            if os.fstat(file.fileno()).st_size > limit:
                raise WheelError(
                    FailureReason.WHEEL_TOO_BIG, f"the wheel is larger than {limit} bytes", where=filename
                )
            shutil.copyfileobj(file, copy)
    except OSError as error:
        raise WheelError(
            FailureReason.WHEEL_INVALID, f"the backend's wheel cannot be read: {error}", where=filename
        ) from error
    return path


def _read(path: Path, hooks: Hooks, *, as_built: bool = False) -> WheelFacts:
    with path.open("rb") as file:
        return read_wheel(
            file,
            path.name,
            project=hooks.lease.project,
            version=hooks.lease.version,
            target=hooks.workshop.interpreter.target,
            max_unpacked_bytes=_UNPACKED_RATIO * hooks.workshop.settings.builder.wheel_max_bytes,
            as_built=as_built,
        )


def _libraries(facts: WheelFacts, hooks: Hooks) -> dict[str, str | None]:
    """The Debian package of each library from outside; raises BuildError where one cannot be had.

    A library that only a plug-in needs, or one that the package loads by itself, may be missing.
    """
    arch, root = hooks.workshop.interpreter.target.arch, hooks.workshop.tree.path
    added = hooks.layers.owners(facts.linking.outside)
    others = set(facts.linking.outside) - set(added)
    found = debian_packages(others, arch, facts.linking.directories, root=root)
    if found is None:  # not a Debian: the extensions are loaded all the same
        return dict.fromkeys(facts.linking.outside)
    found |= added
    for soname in sorted(facts.linking.to_load):
        if found[soname] is None:
            raise BuildError(
                FailureReason.LOAD_FAILED, f"no Debian package here has {soname}", captured=soname
            )
    return found


def _load(path: Path, facts: WheelFacts, hooks: Hooks) -> None:
    """Load every extension in the sandbox, with the wheel's own libraries beside it."""
    # A new directory: package code, which is gone by now, could have left a link under any known name.
    unpacked = Path(tempfile.mkdtemp(prefix="unpacked-", dir=hooks.inside))
    with zipfile.ZipFile(path) as archive:
        shared = [name for name in archive.namelist() if ".so" in os.path.basename(name)]
        archive.extractall(unpacked, shared)  # names and sizes were checked by read_wheel
    hooks.workshop.sandbox.claim(unpacked)
    with hooks.workshop.environments.get([]) as environment:
        _, answer = hooks.run(
            "load", {"directory": unpacked.name, "extensions": list(facts.extensions)}, environment
        )
    own = {os.path.basename(name) for name in shared}
    for extension, message in sorted(answer["failed"].items()):
        missing = str(message).partition(": cannot open shared object file")
        if missing[1] and os.path.basename(missing[0]) in own:
            continue  # the package loads its own libraries first, in an order that only it knows
        raise BuildError(
            FailureReason.LOAD_FAILED,
            f"{extension} cannot be loaded",
            captured=os.path.basename(missing[0]) if missing[1] else None,
            evidence=str(message)[:500],
        )


def _public_name(facts: WheelFacts, target: Target, taken: frozenset[str]) -> str:
    """The name to publish under: of one Python or of all, as is true; for ARMv6 as well where that is true.

    And one that nobody has used.
    """
    filename = facts.name.filename
    if not facts.stable_abi:
        stem, platform = filename.rsplit("-", 1)
        filename = "-".join([*stem.split("-")[:-2], target.abi.removesuffix("t"), target.abi, platform])
    if facts.armv6_safe and filename.endswith("-linux_armv7l.whl"):
        filename = filename.replace("-linux_armv7l.whl", "-linux_armv6l.linux_armv7l.whl")
    return free_filename(filename, taken)
