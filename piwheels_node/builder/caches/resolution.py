# SPDX-License-Identifier: BSD-3-Clause
"""Which wheels satisfy the requirements of a build: pip is asked, and its answers are kept.

pip resolves in a dry run with `--only-binary :all:`, so it runs no package code. Starting and importing it
is most of what that costs, so it is asked seldom: an answer is believed for a day
(`cache.resolve_max_age_s`), and the answer to a question without versions serves all those that it happens
to satisfy. pip takes the newest there is; where that satisfies `setuptools>=61`, it is what pip would take.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from piwheels_node.builder.caches.shelves import Shelf, workplace
from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.helpers import call
from piwheels_node.builder.interpreter import Interpreter
from piwheels_node.builder.roots.tree import Tree
from piwheels_node.builder.trust import pip_options, pip_variables
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_FORMAT = "3"  # part of every key: raise it when what is kept changes
_PINS = "pins.json"
_TIMEOUT_S = 600
_OPEN_ENDED = frozenset({">=", ">", "!="})
"""What the newest version satisfies, if any does."""

_WORDS = (
    *("install", "--dry-run", "--ignore-installed", "--only-binary", ":all:", "--no-input", "--quiet"),
    *("--disable-pip-version-check", "--no-python-version-warning"),
)
_UNSATISFIED = re.compile(
    r"(?:No matching distribution found for|Could not find a version that satisfies the requirement)"
    r" ([^\s(]+)"
)
_WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES", re.IGNORECASE)
_CONFLICT = re.compile(r"ResolutionImpossible|conflicting dependencies")


@dataclass(frozen=True)
class Pin:
    """One wheel of an environment. `sha256` is None where an index gives none."""

    name: str
    version: str
    url: str
    sha256: str | None

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Indexes:
    """Who is asked. `main` empty: the one that pip uses; `extra`: the farm's own."""

    main: str = ""
    extra: str = ""
    certificates: Path | None = None
    "A file of those to believe (PEM)."

    def options(self) -> list[str]:
        """What pip is called with."""
        options = ["--index-url", self.main] if self.main else []
        options += ["--extra-index-url", self.extra] if self.extra else []
        return options + (pip_options(self.certificates) if self.certificates else [])

    def variables(self) -> dict[str, str]:
        """The environment that pip is called with, beside ours."""
        return pip_variables(self.certificates) if self.certificates else {}


class Resolutions:
    """Answers for one interpreter, below one directory; several threads and processes may share it."""

    def __init__(
        self, root: Path, interpreter: Interpreter, tree: Tree, indexes: Indexes, max_age_s: float
    ) -> None:
        """`tree` is where the interpreter is."""
        self.interpreter = interpreter
        self.tree = tree
        self.indexes = indexes
        self.max_age_s = max_age_s
        self.shelf = Shelf(root)

    def get(self, wanted: Sequence[Requirement], halt: Halt) -> tuple[Pin, ...]:
        """The wheels for these requirements, which have no markers; raises BuildError."""
        if not wanted:
            return ()
        loose = [Requirement(_unversioned(one)) for one in wanted]
        if not any(one.specifier.prereleases for one in wanted):  # those may want what pip else leaves out
            found = self._believed(self.shelf.root / self._name(loose))
            if found is None and all(_is_open_ended(one) for one in wanted):
                found = self._ask_loosely(loose, halt)
            if found is not None and _satisfies(found, wanted):
                return found
        return self._ask(wanted, halt)

    def _ask_loosely(self, loose: Sequence[Requirement], halt: Halt) -> tuple[Pin, ...] | None:
        """The answer to a question without versions; None where even that has none."""
        try:
            return self._ask(loose, halt)
        except BuildError as error:
            if error.reason is not FailureReason.REQUIREMENT_MISSING:
                raise
            return None  # what was really asked for has an error of its own

    def _ask(self, wanted: Sequence[Requirement], halt: Halt) -> tuple[Pin, ...]:
        """What is kept, or what pip says now."""
        with self.shelf.get(
            self._name(wanted),
            ready=lambda entry: self._believed(entry) is not None,
            make=lambda entry: self._ask_pip(_texts(wanted), entry, halt),
            halt=halt,
        ) as held:
            return _read_pins(held.path)

    def _name(self, wanted: Sequence[Requirement]) -> str:
        about = json.dumps([_FORMAT, self.interpreter.version_text, self.indexes.main, _texts(wanted)])
        return hashlib.sha256(about.encode()).hexdigest()[:32]

    def _believed(self, entry: Path) -> tuple[Pin, ...] | None:
        """The answer that is kept, where it is still believed."""
        try:
            age_s = time.time() - (entry / _PINS).stat().st_mtime
            return _read_pins(entry) if age_s < self.max_age_s else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or not readable: asked again, and written anew

    def _ask_pip(self, wanted: Sequence[str], entry: Path, halt: Halt) -> None:
        """Resolve, and write the answer down so that it is there whole or not at all."""
        work = workplace(entry)
        try:
            report = work / "report.json"
            words = [*_WORDS, "--report", str(report), *self.indexes.options()]
            try:
                self._run_pip([*words, *wanted], wanted, work, halt)
            except BuildError as error:
                if error.reason is not FailureReason.REQUIREMENT_MISSING or not self.indexes.extra:
                    raise
                # From 26.2 on pip believes a page for a minute: what was just built is not on it yet.
                self._run_pip([*words, "--no-cache-dir", *wanted], wanted, work, halt)
            pins = sorted(map(_pin, json.loads(report.read_text())["install"]), key=str)
            answer = work / _PINS
            answer.write_text(json.dumps({"wanted": wanted, "pins": [asdict(pin) for pin in pins]}))
            answer.replace(entry / _PINS)
        finally:
            remove_tree(work)

    def _run_pip(self, words: Sequence[str], wanted: Sequence[str], work: Path, halt: Halt) -> None:
        """Let pip resolve; raises BuildError where it cannot."""
        said = work / "output"
        command = self._pip(words, work)
        environ = {key: value for key, value in os.environ.items() if key != "PIP_REQUIRE_VIRTUALENV"}
        # As `pip --python` says it to the pip that it starts: this is the right Python already.
        environ |= {"_PIP_RUNNING_IN_SUBPROCESS": "1", "TMPDIR": str(work), **self.indexes.variables()}
        with said.open("wb") as output:
            code = call(
                command,
                output,
                halt,
                environ=environ,
                timeout_s=_TIMEOUT_S,
                late=FailureReason.BUILDER_FAILED,
            )
        if code != 0:
            raise _unresolved(said.read_text(errors="replace"), wanted)

    def _pip(self, words: Sequence[str], work: Path) -> list[str]:
        """Our pip, run by the interpreter that is built for: only that knows what fits it."""
        ours = importlib.util.find_spec("pip")
        if ours is None or ours.origin is None:
            raise BuildError(FailureReason.BUILDER_FAILED, "there is no pip beside this program")
        place = pip = Path(ours.origin).parent
        readable = {}
        if not self.tree.is_host:
            place = work / "pip"  # where it lies may be below the /usr that is not to be seen then
            place.mkdir()
            readable = {place: pip}
        command = [str(self.interpreter.path), str(place / "__pip-runner__.py"), *words]
        return self.tree.enter(command, writable=work, readable=readable, network=True)


def _texts(requirements: Sequence[Requirement]) -> list[str]:
    """In one spelling and order."""
    return sorted(set(map(str, requirements)))


def bare(requirement: Requirement) -> Requirement:
    """A requirement without its marker."""
    return Requirement(f"{_unversioned(requirement)}{requirement.specifier}")


def _unversioned(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return canonicalize_name(requirement.name) + extras


def _is_open_ended(requirement: Requirement) -> bool:
    return all(one.operator in _OPEN_ENDED for one in requirement.specifier)


def _satisfies(pins: Sequence[Pin], wanted: Sequence[Requirement]) -> bool:
    versions = {canonicalize_name(pin.name): pin.version for pin in pins}
    return all(
        one.specifier.contains(versions[canonicalize_name(one.name)], prereleases=True) for one in wanted
    )


def _read_pins(entry: Path) -> tuple[Pin, ...]:
    return tuple(Pin(**one) for one in json.loads((entry / _PINS).read_text())["pins"])


def _pin(entry: dict[str, Any]) -> Pin:
    download, metadata = entry["download_info"], entry["metadata"]
    hashes = download.get("archive_info", {}).get("hashes", {})
    return Pin(metadata["name"], metadata["version"], download["url"], hashes.get("sha256"))


def _unresolved(said: str, wanted: Sequence[str]) -> BuildError:
    found = _UNSATISFIED.search(said)
    if found or _CONFLICT.search(said):
        captured = found[1].rstrip(";,") if found else None  # with the versions: the master may build it
        last = found[0] if found else "the build requirements contradict each other"
        return BuildError(
            FailureReason.REQUIREMENT_MISSING,
            f"no set of wheels satisfies {', '.join(wanted)}",
            captured=captured,
            evidence=last,
        )
    if _WRONG_HASH.search(said):
        return BuildError(
            FailureReason.HASH_MISMATCH, "a build requirement's wheel has another hash than the index says"
        )
    lines = [line for line in said.splitlines() if line.strip()] or ["pip said nothing"]
    return BuildError(
        FailureReason.FETCH_FAILED, "the build requirements could not be resolved", evidence=lines[-1][:500]
    )
