# SPDX-License-Identifier: BSD-3-Clause
"""What to do about a build that missed something which a Debian package has: a decision, and nothing else.

    a build failed: missing-header ffi.h, which libffi-dev has
      -> Nothing    no package helps, it was there already, it was tried before, or a person does not want it
      -> Propose    a rule "this project needs libffi-dev" that somebody may accept
      -> Try        the job goes back to the queue with the package, now

    `judged` says what a build that had the packages of a rule has shown about it.

Pure functions of values: no tables, no time, no I/O. `rules` asks them, and does what they say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState, is_debian_name
from piwheels_node.core.messages import PACKAGES_AT_MOST
from piwheels_node.core.settings import BuildSettings

FIXABLE = frozenset(
    {
        FailureReason.MISSING_HEADER,
        FailureReason.MISSING_LIBRARY,
        FailureReason.MISSING_PKG_CONFIG,
        FailureReason.MISSING_TOOL,
    }
)
"""What a Debian package can mend."""


@dataclass(frozen=True)
class Missing:
    """What a build missed, and the one Debian package that is known to have it; None: none, or several."""

    reason: FailureReason
    captured: str | None
    package: str | None


@dataclass(frozen=True)
class Known:
    """A rule of the project that there is already; `reason` is None where a person made it."""

    rule_id: int
    packages: tuple[str, ...]
    state: FixState
    reason: FailureReason | None = None
    captured: str | None = None

    def is_about(self, missing: Missing) -> bool:
        """True where it was found for the very same thing."""
        return (self.reason, self.captured) == (missing.reason, missing.captured)


@dataclass(frozen=True)
class Situation:
    """How things stood: packages that the build had, rounds so far, and whether any builder can add some."""

    had: frozenset[str] = frozenset()
    rounds: int = 0
    can_add: bool = True


@dataclass(frozen=True)
class Nothing:
    """Leave it at that; `why` says it for people."""

    why: str


@dataclass(frozen=True)
class Propose:
    """Note the rule, and do not try it: `why` says what keeps us. `rule_id`: it is there already."""

    package: str
    why: str
    rule_id: int | None = None


@dataclass(frozen=True)
class Try:
    """The job goes back with the packages. `rule_id`: a rule that is there already says so."""

    packages: tuple[str, ...]
    rule_id: int | None = None


Decision = Nothing | Propose | Try


def decide(
    missing: Missing, situation: Situation, rules: Iterable[Known], settings: BuildSettings
) -> Decision:
    """What follows from a failure that a package may mend.

    `rules` are all of the project that hold for the release of Debian in question.
    """
    package = missing.package
    if missing.reason not in FIXABLE:
        return Nothing("no Debian package mends this")
    if package is None or not is_debian_name(package):
        return Nothing("which Debian package has it is not known")
    if package in situation.had:
        return Nothing(f"{package} was there, and does not have it")
    named = [rule for rule in rules if package in rule.packages]
    if any(rule.state is FixState.OFF for rule in named):
        return Nothing(f"a person does not want {package} for this project")
    if any(rule.state is FixState.FAILED and rule.is_about(missing) for rule in named):
        return Nothing(f"{package} did not help before")
    return _try_or_propose(package, missing, situation, named, settings)


def _try_or_propose(
    package: str, missing: Missing, situation: Situation, named: list[Known], settings: BuildSettings
) -> Decision:
    used = next((rule for rule in named if rule.state.is_used), None)
    same = next((rule for rule in named if rule.is_about(missing)), None)
    rule = used or same
    rule_id = rule.rule_id if rule else None
    packages = used.packages if used else (package,)
    if not situation.can_add:
        return Propose(package, "no builder of this target can add Debian packages", rule_id)
    if situation.rounds >= settings.fix_rounds:
        return Propose(package, f"packages were added {situation.rounds} times already", rule_id)
    if len(situation.had.union(packages)) > PACKAGES_AT_MOST:
        return Propose(package, f"a job has {PACKAGES_AT_MOST} packages at most", rule_id)
    if used is None and not settings.auto_fix:
        return Propose(package, "a person decides (build.auto_fix is off)", rule_id)
    return Try(packages, rule_id)


def judged(
    rule: Known, had: frozenset[str], reason: FailureReason | None, captured: str | None
) -> FixState | None:
    """The state that a rule comes to by a build that had these packages; None where it stays as it is.

    `reason` is None for a build that succeeded. A rule that has worked once is believed: what another version
    misses is told by another `captured`.
    """
    if rule.state is not FixState.TRYING or not had.issuperset(rule.packages):
        return None
    if reason is None:
        return FixState.WORKS
    if rule.reason is not None and rule.is_about(Missing(reason, captured, None)):
        return FixState.FAILED
    if reason is FailureReason.LAYER_FAILED and captured in rule.packages:
        return FixState.FAILED
    return None
