# SPDX-License-Identifier: BSD-3-Clause
"""What to do about a release on a target: nothing, build it, or refuse.

    choose_version   the version that a person means
    plan             one target: Covered (PyPI has a wheel for it) | Build (this sdist) | Refused (why)
    plan_release     all targets of a farm: the same, and Made | UnderWay | Failed | Waits | Unwanted,
                     after what became of the jobs that there were

A release is built once first, on its oldest Python: nine of ten are pure, and one wheel serves all. What that
wheel is decides what is built next. Where PyPI's own wheels show that a release is compiled, nothing waits.

Pure functions of what PyPI lists (`listing`), targets and outcomes. This module does no I/O.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from piwheels_node.core.errors import NotOnPyPIError
from piwheels_node.core.failure import FailureReason, Policy
from piwheels_node.core.jobs import JobState
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


@dataclass(frozen=True)
class Made:
    """The farm has a wheel that the target accepts, made for it or for another one."""

    filename: str


@dataclass(frozen=True)
class UnderWay:
    """There is a job for the target, and it has not ended."""

    state: JobState


@dataclass(frozen=True)
class Failed:
    """The target's job ended without a wheel, or a person has ended it."""

    state: JobState
    reason: FailureReason | None = None


@dataclass(frozen=True)
class Waits:
    """The job of another target shows first whether this one needs a job."""

    on: Target


@dataclass(frozen=True)
class Unwanted:
    """It could be built, and is not by itself: `why` says which rule."""

    why: str


Verdict = Covered | Build | Refused | Made | UnderWay | Failed | Waits | Unwanted


class Scope(Enum):
    """What a farm builds by itself."""

    MISSING = "missing"
    "What PyPI has no wheel of that the target accepts."

    EVERYTHING = "everything"
    "Every version of every package, as the first piwheels did; names that PyPI uses get a build tag."

    REQUESTED = "requested"
    "Only what people and consumers ask for."


@dataclass(frozen=True)
class Attempt:
    """What became of the job of a release for a target; `wheels` are those of it that are public.

    `was_asked`: a person or a consumer wants it, whatever the rules say.
    """

    state: JobState
    reason: FailureReason | None = None
    wheels: tuple[str, ...] = ()
    was_asked: bool = False

    @property
    def waits(self) -> bool:
        """True for a job that no builder has: it can still be spared."""
        return self.state in {JobState.READY, JobState.DELAYED, JobState.BLOCKED}


@dataclass(frozen=True)
class Wanted:
    """What the farm wants of a release: `skipped` says why nothing, `asked` for which targets even so."""

    scope: Scope = Scope.MISSING
    skipped: str | None = None
    asked: frozenset[Target] = field(default_factory=frozenset)


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


def plan_release(
    files: Iterable[ListedFile],
    targets: Iterable[Target],
    attempts: Mapping[Target, Attempt] | None = None,
    wanted: Wanted = Wanted(),
) -> dict[Target, Verdict]:
    """What is to be done about a release for each target, those of the oldest Python first.

    `Build` are the jobs that should exist and do not. `attempts` may be of targets that are not asked about.
    """
    files, attempts = list(files), attempts or {}
    ours = {name: _tags_of(name) for attempt in attempts.values() for name in attempt.wheels}
    everywhere = _same_everywhere(attempts)
    found: dict[Target, Verdict] = {}
    going = {target for target, attempt in attempts.items() if not attempt.state.is_final}
    for target in sorted(targets):
        verdict = _known(files, target, attempts, ours, wanted)
        if verdict is None and everywhere is not None and target not in wanted.asked:
            verdict = everywhere
        if verdict is None:
            verdict = _next(files, target, going, ours, wanted)
        if isinstance(verdict, Build):
            going.add(target)
        found[target] = verdict
    return found


def _known(  # noqa: PLR0911 - one line for each verdict
    files: list[ListedFile],
    target: Target,
    attempts: Mapping[Target, Attempt],
    ours: Mapping[str, frozenset[Tag]],
    wanted: Wanted,
) -> Verdict | None:
    """The verdict where it does not depend on what else is being built; None where a job may be needed."""
    attempt = attempts.get(target)
    going = attempt is not None and not attempt.state.is_final
    if attempt is not None and going and (attempt.was_asked or not attempt.waits):
        return UnderWay(attempt.state)
    fitting = [name for name, tags in ours.items() if target.accepts(tags)]
    if fitting:
        return Made(min(fitting))
    if attempt is not None and not going and attempt.state is not JobState.BUILT:
        return Failed(attempt.state, attempt.reason)
    decision = plan(files, target, force=wanted.scope is Scope.EVERYTHING)
    if not isinstance(decision, Build):
        return decision
    if attempt is not None and not going:  # its wheel was withdrawn: whoever did that, or asks, decides
        return Failed(attempt.state, None)
    if target in wanted.asked:
        return decision if attempt is None else UnderWay(attempt.state)
    why_not = _why_not(files, wanted)
    if why_not is not None:
        return Unwanted(why_not)
    return None if attempt is None else UnderWay(attempt.state)


def _why_not(files: list[ListedFile], wanted: Wanted) -> str | None:
    """Why a release that can be built is not built by itself."""
    if wanted.skipped is not None:
        return wanted.skipped
    if wanted.scope is Scope.REQUESTED:
        return "nobody has asked for it (pypi.scope is requested)"
    return None if _not_yanked(files) else "it was yanked on PyPI"


def _next(
    files: list[ListedFile],
    target: Target,
    going: set[Target],
    ours: Mapping[str, frozenset[Tag]],
    wanted: Wanted,
) -> Verdict:
    """Build it, unless the job of another target shows first whether that is needed."""
    decision = plan(files, target, force=wanted.scope is Scope.EVERYTHING)
    match _kind(files, ours):
        case _Kind.COMPILED:
            before = None
        case _Kind.SHARED:
            before = min((one for one in going if one.platform == target.platform), default=None)
        case _:
            before = min(going, default=None)
    return decision if before is None else Waits(before)


class _Kind(Enum):
    """What the wheels of a release are like, as far as is known."""

    UNKNOWN = 0
    SHARED = 1
    "One wheel serves several Pythons of a platform: abi3, or no Python ABI at all."
    COMPILED = 2
    "One wheel for each Python and platform."


def _kind(files: Iterable[ListedFile], ours: Mapping[str, frozenset[Tag]]) -> _Kind:
    """Our own wheels say it best, else PyPI's for any platform."""
    theirs = [file.tags for file in files if file.tags is not None]
    for wheels in (list(ours.values()), theirs):
        tags = [tag for wheel in wheels for tag in wheel if tag.platform != "any"]
        if tags:
            return _Kind.SHARED if any(tag.abi in {"abi3", "none"} for tag in tags) else _Kind.COMPILED
    return _Kind.UNKNOWN


def _same_everywhere(attempts: Mapping[Target, Attempt]) -> Refused | None:
    """Refused, where a job failed for what is in the source: other targets have the same source."""
    for target, attempt in sorted(attempts.items()):
        reason = attempt.reason
        if attempt.state is not JobState.FAILED or reason is None or reason in _OF_TARGET:
            continue
        if reason.policy is Policy.NEVER:
            return Refused(reason, f"It failed for {target}, and the source is the same: {reason.sentence}")
    return None


_OF_TARGET = frozenset(
    {
        FailureReason.REQUIRES_PYTHON,
        FailureReason.WRONG_PLATFORM,
        FailureReason.WHEEL_WRONG_ARCH,
        FailureReason.WHEEL_INVALID,
        FailureReason.NO_SDIST,
    }
)
"""Nothing but another target helps, but that may."""


@lru_cache(maxsize=65536)
def _tags_of(filename: str) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:  # nothing of that name was ever published
        return frozenset()


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
