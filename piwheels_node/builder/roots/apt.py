# SPDX-License-Identifier: BSD-3-Clause
"""Asking apt which packages a tree lacks, and having it fetch them, without touching the machine's own apt.

apt works here with lists, archives and settings in a directory of ours; of the machine it reads where its
packages come from and how they are fetched (sources, keys, proxies), and which are installed. It is only
asked (`--print-uris`) and made to download: it installs nothing, removes nothing, and runs none of the
machine's hooks. It checks signatures of lists and hashes of packages, as always.

The lists are fetched again when they are a day old, and when a package that they name is gone.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from piwheels_node.builder.caches.shelves import Held, Shelf
from piwheels_node.builder.halt import Halt
from piwheels_node.builder.helpers import call
from piwheels_node.builder.roots.tree import Tree
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_LONGEST_NAME = 100
_LINE = re.compile(r"^'(?P<url>[^']+)' (?P<file>[^ /]+\.deb) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")
_UNKNOWN = re.compile(r"E: (?:Unable to locate package|Package '?)\s*([a-z0-9][^'\s]*)")
_REFUSED = re.compile(
    r"unmet dependencies|held broken packages|remove is disabled|Unable to correct problems"
)
_WRONG_HASH = re.compile(r"Hash Sum mismatch|hash mismatch", re.IGNORECASE)
_FULL = re.compile(r"No space left|not enough free space|don't have enough", re.IGNORECASE)
_NOT_FETCHED = re.compile(r"^(?:Err:|E: |W: Failed to fetch|W: Some index files)", re.MULTILINE)
_KEPT_SETTING = re.compile(r"^(?:Acquire::(?!IndexTargets|Languages|GzipIndexes|ForceHash)\S+|APT::Key\S*) ")
_UPDATE_TIMEOUT_S = 900
_ASK_TIMEOUT_S = 300
_DOWNLOAD_TIMEOUT_S = 3600
_SAID_BYTES = 64 << 10
_STAMP = "fetched"


@dataclass(frozen=True, order=True)
class Package:
    """A package that a tree lacks, as apt would fetch it. `filename` is NAME_VERSION_ARCH.deb."""

    name: str
    version: str
    arch: str
    filename: str
    size_bytes: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}"


def check_name(name: str) -> str:
    """The name, if it can be a Debian package's (Policy 5.6.1); raises BuildError (layer-failed).

    A name that ends in `-` would ask apt to remove it.
    """
    if not _NAME.fullmatch(name) or name.endswith("-") or len(name) > _LONGEST_NAME:
        raise BuildError(
            FailureReason.LAYER_FAILED, f"'{name[:100]}' is no name of a Debian package", captured=name[:100]
        )
    return name


class Apt:
    """apt for one tree. Several threads and processes may share its directory."""

    def __init__(self, tree: Tree, states: Shelf, *, sources: str = "", max_age_s: float = 86400.0) -> None:
        """`states` is where the lists are kept; `sources` a file of sources, empty: those of the tree."""
        self.tree = tree
        self.states = states
        self.sources = sources
        self.max_age_s = max_age_s

    def missing(self, names: Sequence[str], halt: Halt) -> list[Package]:
        """What must be added to the tree so that it has these packages; raises BuildError."""
        for name in names:
            check_name(name)
        with self._state(halt) as state:
            command = ["install", "--print-uris", "--no-remove", "--no-install-recommends", "-qq", *names]
            code, said = self._call(state.path, command, halt, _ASK_TIMEOUT_S)
        if code != 0:
            raise _refused(said, names)
        return sorted(_package(line) for line in said.splitlines() if line.startswith("'"))

    def download(self, packages: Sequence[Package], directory: Path, halt: Halt) -> None:
        """Fetch packages into a directory, each under its `filename`; raises BuildError."""
        words = [f"{one.name}:{one.arch}={one.version}" for one in packages]
        with self._state(halt) as state:
            code, said = self._call(
                state.path, ["download", "-q", *words], halt, _DOWNLOAD_TIMEOUT_S, directory
            )
        if code != 0:
            raise _not_fetched(said)

    def forget(self, halt: Halt) -> None:
        """Have the lists fetched again by who wants them next."""
        with self._state(halt) as state:
            (state.path / _STAMP).unlink(missing_ok=True)

    # --- the state ---------------------------------------------------------------------------------

    def _state(self, halt: Halt) -> Held:
        """The directory with the lists, fetched now where they are old; in use until it is closed."""
        name = re.sub(r"[^A-Za-z0-9.-]", "-", self.tree.name)
        return self.states.get(
            name, ready=self._is_fresh, make=lambda entry: self._update(entry, halt), halt=halt
        )

    def _is_fresh(self, entry: Path) -> bool:
        try:
            return time.time() - (entry / _STAMP).stat().st_mtime < self.max_age_s
        except OSError:
            return False

    def _update(self, entry: Path, halt: Halt) -> None:
        """Fetch the lists. Where that fails, those of another day will do, if there are any."""
        for name in ("lists/partial", "archives/partial", "parts"):
            (entry / name).mkdir(parents=True, exist_ok=True)
        (entry / "apt.conf").write_text(self._configuration(entry))
        code, said = self._call(entry, ["update", "-q"], halt, _UPDATE_TIMEOUT_S)
        if code == 0 and not _NOT_FETCHED.search(said):
            (entry / _STAMP).touch()
        elif not any((entry / "lists").glob("*Packages*")):
            raise _not_fetched(said)

    def _configuration(self, entry: Path) -> str:
        """Settings of apt for this tree: what is fetched how is the machine's, everything else is ours."""
        root = self.tree.path
        ours = {
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": entry / "parts",
            "Dir::State": entry,
            "Dir::State::status": self.tree.dpkg / "status",
            "Dir::State::extended_states": entry / "extended_states",
            "Dir::Cache": entry,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Dir::Log": entry,
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "true",
            "Acquire::ForceHash": "SHA256",
            "APT::Install-Recommends": "false",
            "APT::Cmd::Pattern-Only": "true",
            "APT::Architecture": self._architecture(),
            "Debug::NoLocking": "true",
        }
        if not self.tree.is_host:
            ours["Dir::Etc"] = root / "etc" / "apt"
        if self.sources:
            ours |= {
                "Dir::Etc::sourcelist": Path(self.sources).absolute(),
                "Dir::Etc::sourceparts": "/dev/null",
            }
        kept = [line for line in _machine_settings() if _KEPT_SETTING.match(line)]
        return "\n".join([*kept, *(f'{key} "{value}";' for key, value in ours.items())]) + "\n"

    def _architecture(self) -> str:
        """The architecture of the tree as dpkg calls it."""
        try:
            status = (self.tree.dpkg / "status").read_text(errors="replace")
        except OSError:
            status = ""
        found = re.search(r"^Package: dpkg\n(?:.+\n)*?Architecture: (\S+)$", status, re.MULTILINE)
        return found[1] if found else _output(["dpkg", "--print-architecture"]).strip()

    def _call(
        self, state: Path, words: Sequence[str], halt: Halt, timeout_s: float, directory: Path | None = None
    ) -> tuple[int, str]:
        """Run apt-get; gives its exit code and what it said. Raises BuildError where we are to stop."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("APT_")}
        environ |= {
            "APT_CONFIG": str(state / "apt.conf"),
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        with tempfile.TemporaryFile() as output:
            code = call(
                ["apt-get", *words],
                output,
                halt,
                environ=environ,
                timeout_s=timeout_s,
                late=FailureReason.FETCH_FAILED,
                directory=directory or state,
            )
            output.seek(0)
            return code, output.read(_SAID_BYTES).decode(errors="replace")


def _package(line: str) -> Package:
    found = _LINE.match(line.strip())
    parts = found["file"].removesuffix(".deb").split("_") if found else []
    if found is None or len(parts) != len(("name", "version", "arch")):
        raise BuildError(FailureReason.BUILDER_FAILED, f"apt says what cannot be read: {line[:200]}")
    name, version, arch = map(unquote, parts)
    return Package(check_name(name), version, arch, found["file"], int(found["size"]), found["sha256"])


def _refused(said: str, names: Sequence[str]) -> BuildError:
    """Why apt would not add the packages."""
    line = next((line for line in said.splitlines() if line.startswith("E: ")), said.strip()[-300:])
    found = _UNKNOWN.search(said)
    if found:
        return BuildError(
            FailureReason.LAYER_FAILED,
            f"there is no Debian package '{found[1]}' for this root",
            captured=found[1][:100],
            evidence=line[:500],
        )
    if _REFUSED.search(said):
        return BuildError(
            FailureReason.LAYER_FAILED,
            f"{', '.join(names)} cannot be added to this root without changing it",
            captured=names[0],
            evidence=line[:500],
        )
    return BuildError(
        FailureReason.LAYER_FAILED, "apt refuses the packages", captured=names[0], evidence=line[:500]
    )


def _not_fetched(said: str) -> BuildError:
    lines = [line for line in said.splitlines() if line.startswith(("E: ", "W: ", "Err:"))] or [said[-300:]]
    if _WRONG_HASH.search(said):
        reason, what = FailureReason.HASH_MISMATCH, "a Debian package has another hash than its list says"
    elif _FULL.search(said):
        reason, what = FailureReason.OUT_OF_DISK, "Debian packages do not fit"
    else:
        reason, what = FailureReason.FETCH_FAILED, "Debian packages or their lists could not be fetched"
    return BuildError(reason, what, evidence=lines[0][:500])


def _machine_settings() -> list[str]:
    """How the machine's apt is set up, one setting a line."""
    return _output(["apt-config", "dump"]).splitlines()


def _output(command: list[str]) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_ASK_TIMEOUT_S, stdin=subprocess.DEVNULL
    ).stdout
