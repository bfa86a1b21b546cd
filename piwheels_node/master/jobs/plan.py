# SPDX-License-Identifier: BSD-3-Clause
"""What to do about a release on a target: nothing, build it, or refuse.

    choose_version   the version that a person means
    plan             Covered (PyPI has a wheel for the target) | Build (this sdist) | Refused (why)

Pure functions of what PyPI lists (`listing`) and a target. This module does no I/O.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from piwheels_node.core.errors import NotOnPyPIError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.targets import Target
from piwheels_node.master.pypi.listing import ListedFile, ProjectFiles

_NEWEST_MICRO = 40
"""No CPython minor version has had more micro releases than this (3.7 ended with 3.7.17)."""


@dataclass(frozen=True)
class Covered:
    """PyPI serves a wheel that the target accepts; building another would only shadow it."""

    file: ListedFile


@dataclass(frozen=True)
class Build:
    """Build this sdist."""

    sdist: ListedFile


@dataclass(frozen=True)
class Refused:
    """No build can help; `what` says it for this release."""

    reason: FailureReason
    what: str


Decision = Covered | Build | Refused


def choose_version(project: ProjectFiles, wanted: str | None, target: Target) -> Version:
    """The version named by `wanted`, else the newest that pip would take on the target.

    That is: not a pre-release (PEP 440: unless there is nothing else), not yanked, and admitted by its
    Requires-Python; where none is admitted, the newest, so that `plan` can say why it is refused.
    Raises NotOnPyPIError, which names versions that do exist.
    """
    releases = project.releases
    if wanted is not None:
        return _named_version(project.name, wanted, sorted(releases, reverse=True))
    usable = {version: _not_yanked(files) for version, files in releases.items()}
    usable = {version: files for version, files in usable.items() if files}
    if not usable:
        raise NotOnPyPIError(
            f"PyPI has no file of {project.name} that could be installed or built",
            where=project.name,
            hint="name a version to get one that was yanked" if releases else None,
        )
    final = {version: files for version, files in usable.items() if not version.is_prerelease} or usable
    admitted = [
        v for v, files in final.items() if any(admits(file.requires_python, target) for file in files)
    ]
    return max(admitted or final)


def _named_version(project: str, wanted: str, known: Sequence[Version]) -> Version:
    try:
        version = Version(wanted)
    except InvalidVersion:
        pass  # no release can have it; the hint below says which versions there are
    else:
        if version in known:
            return version
    texts = [str(one) for one in known]
    near = difflib.get_close_matches(wanted, texts, n=3) or texts[:3]
    hint = f"it has {', '.join(near)}" if near else "it has no version at all"
    raise NotOnPyPIError(
        f"PyPI has no version {wanted} of {project}", where=f"{project}=={wanted}", hint=hint
    )


def plan(files: Iterable[ListedFile], target: Target, *, force: bool = False) -> Decision:
    """Decide about one release; `force` builds it even though PyPI serves a wheel of it.

    Files that were yanked count only where all were. An sdist without a SHA-256 cannot be trusted and does
    not count. `.tar.gz` is preferred to `.zip` (PEP 625).
    """
    files = list(files)
    files = _not_yanked(files) or files
    admitted = [file for file in files if admits(file.requires_python, target)]
    if files and not admitted:
        wants = ", ".join(sorted({file.requires_python or "" for file in files}))
        python = ".".join(map(str, target.python_version))
        return Refused(FailureReason.REQUIRES_PYTHON, f"It wants Python {wants}; the target has {python}.")
    if not force and (wheel := _best_wheel(admitted, target)):
        return Covered(wheel)
    sdists = [file for file in admitted if file.is_sdist and file.sha256]
    if not sdists:
        return Refused(FailureReason.NO_SDIST, FailureReason.NO_SDIST.sentence)
    return Build(min(sdists, key=lambda file: (not file.filename.endswith(".tar.gz"), file.filename)))


@lru_cache(maxsize=4096)
def admits(requires_python: str | None, target: Target) -> bool:
    """True where some micro version of the target's Python fits; one that cannot be read fits, as for pip."""
    if not requires_python:
        return True
    try:
        wants = SpecifierSet(requires_python)
    except InvalidSpecifier:
        return True
    major, minor = target.python_version
    return any(wants.contains(f"{major}.{minor}.{micro}") for micro in range(_NEWEST_MICRO))


def _not_yanked(files: Iterable[ListedFile]) -> list[ListedFile]:
    return [file for file in files if file.yanked is None]


def _best_wheel(files: Iterable[ListedFile], target: Target) -> ListedFile | None:
    ranked = [
        (rank, file.filename, file)
        for file in files
        if file.tags is not None and (rank := target.rank(file.tags)) is not None
    ]
    return min(ranked)[2] if ranked else None
