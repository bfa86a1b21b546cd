# SPDX-License-Identifier: BSD-3-Clause
"""The distribution's Contents indexes, fetched by this machine's own apt.

Which mirror, which proxy, which key signs it, how often to try again: apt knows it all already, and checks
what arrives against the signed Release file. It works in a directory of its own, with sources for the wanted
release: where the machine's own sources name its release, ours name the wanted one. Nothing of the machine's
own apt is changed. What was cut in the middle is resumed the next time, for apt keeps the part.

This module runs apt, and imports only `core`.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from piwheels_node.core.errors import NodeError

_HELPER = "/usr/lib/apt/apt-helper"
_TARGETS = "$(SITE)\t$(RELEASE)\t$(CODENAME)\t$(COMPONENT)\t$(SOURCESENTRY)"
_CONTENTS = {
    "MetaKey": "$(COMPONENT)/Contents-$(ARCHITECTURE)",
    "flatMetaKey": "Contents-$(ARCHITECTURE)",
}
_OLD_CONTENTS = {"MetaKey": "Contents-$(ARCHITECTURE)", "Fallback-Of": "Contents-deb"}  # as Raspbian has it
_OF_BOTH = {
    "ShortDescription": "Contents-$(ARCHITECTURE)",
    "Description": "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Contents",
    "flatDescription": "$(RELEASE) Contents",
    "Identifier": "Contents-deb",
    "KeepCompressed": "true",
    "KeepCompressedAs": "gz xz",
    "PDiffs": "false",
    "DefaultEnabled": "true",
}
_STANZAS = re.compile(r"\n[ \t]*\n")
_KEPT = ("signed-by", "trusted")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s")

Progress = Callable[[float, str], None]
"""Called with percent and apt's own words."""


@dataclass
class Source:
    """One archive that this machine's apt uses; `fields` are more of its deb822 stanza."""

    site: str
    components: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)

    def stanza(self, release: str, architecture: str) -> str:
        """What apt is to read for a release and an architecture, and for what fits all."""
        given = {
            "Types": "deb",
            "URIs": self.site,
            "Suites": release,
            "Components": " ".join(self.components),
            "Architectures": f"{architecture} all",
            **self.fields,
        }
        return "".join(f"{name}: {value}\n" for name, value in given.items())


def own_sources() -> list[Source]:
    """The archives from which this machine's apt has the machine's own release; raises NodeError."""
    codename = _own_codename()
    found: dict[str, Source] = {}
    asked = ("apt-get", "indextargets", "--format", _TARGETS)
    lines = _run([*asked, "Created-By: Packages"]) or _run(
        [*asked, "--no-release-info", "Created-By: Packages"]  # nothing was ever fetched from there
    )
    for line in lines.splitlines():
        site, release, named, component, entry = (*line.split("\t"), "", "", "", "")[:5]
        if codename not in {release, named} or not component:
            continue
        source = found.setdefault(site, Source(site, fields=_fields_of(Path(entry.rpartition(":")[0]), site)))
        if component not in source.components:
            source.components.append(component)
    if not found:
        raise NodeError(
            f"apt has no source for this machine's release, {codename or 'which has no name'}",
            where="apt-get indextargets",
            hint="name an index with --file",
        )
    return list(found.values())


def fetch(directory: Path, release: str, architecture: str, progress: Progress) -> list[Path]:
    """Fetch the indexes of a release (`trixie`) into `directory`; gives the files, for `lines_of`.

    Raises NodeError where no archive has one; one that lacks the release is passed over.
    """
    failures: list[NodeError] = []
    files: list[Path] = []
    for number, source in enumerate(own_sources()):
        place = directory / str(number)
        try:
            options = _options(place, source.stanza(release, architecture))
            _update(options, progress)
            said = _run(
                ["apt-get", *options, "indextargets", "--format", "$(FILENAME)", "Identifier: Contents-deb"]
            )
            files += [path for path in map(Path, said.split()) if path.exists()]
        except NodeError as error:
            failures.append(error)
    if not files:
        raise (failures or [_nothing(release, architecture)])[0]
    return files


@contextmanager
def lines_of(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of a file that apt has fetched, whatever it is compressed with."""
    with subprocess.Popen(
        [_HELPER, "cat-file", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as reading:
        assert reading.stdout is not None  # noqa: S101 - opened as a pipe
        yield iter(reading.stdout)
    if reading.returncode != 0:
        raise NodeError("an index cannot be read", where=str(path), hint="try again")


def _update(options: list[str], progress: Progress) -> None:
    """`apt-get update`, with what it says of its progress passed on."""
    read, write = os.pipe()
    command = ["apt-get", *options, "-o", f"APT::Status-Fd={write}", "-q", "update"]
    with os.fdopen(read, "r", errors="replace") as status:
        try:
            apt = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                env=_environment(),
            )
        except OSError as error:
            raise _no_apt(error) from error
        finally:
            os.close(write)
        with apt:
            said: list[bytes] = []
            assert apt.stdout is not None  # noqa: S101 - opened as a pipe
            output = apt.stdout
            listener = threading.Thread(target=lambda: said.append(output.read()), daemon=True)
            listener.start()
            for line in status:
                kind, _, percent, *words = (*line.rstrip().split(":", 3), "", "", "")
                if kind == "dlstatus" and words[0]:
                    progress(float(percent), words[0])
            listener.join()
    if apt.returncode != 0:
        text = b"".join(said).decode(errors="replace")
        errors = [line[2:].strip() for line in text.splitlines() if line.startswith("E:")]
        raise NodeError(
            errors[0] if errors else f"apt-get update ended with {apt.returncode}", where="apt-get update"
        )


def _options(place: Path, stanza: str) -> list[str]:
    """Make apt's directory, and give the options that make it work there only."""
    (place / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (place / "cache").mkdir(exist_ok=True)
    sources = place / "wanted.sources"
    sources.write_text(stanza)
    given = {
        "Dir::State": place,
        "Dir::State::lists": place / "lists",
        "Dir::Cache": place / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::Packages::DefaultEnabled": "false",
        "Acquire::IndexTargets::deb::Translations::DefaultEnabled": "false",
    }
    for name, fields in (("Contents-deb", _CONTENTS), ("Contents-deb-legacy", _OLD_CONTENTS)):
        for key, value in {**_OF_BOTH, **fields}.items():
            given[f"Acquire::IndexTargets::deb::{name}::{key}"] = value
    return [word for key, value in given.items() for word in ("-o", f"{key}={value}")]


def _fields_of(file: Path, site: str) -> dict[str, str]:
    """What else the machine's sources say of an archive: which key signs it, or that none need."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return {}
    if file.suffix == ".sources":
        for stanza in _STANZAS.split(text):
            fields = _deb822(stanza)
            if any(uri.rstrip("/") == site.rstrip("/") for uri in fields.get("uris", "").split()):
                return {name: fields[name] for name in _KEPT if name in fields}
        return {}
    for line in text.splitlines():
        match = _ONE_LINE.match(line)
        if match and match["uri"].rstrip("/") == site.rstrip("/"):
            words = (word.partition("=") for word in (match["options"] or "").split())
            return {name.lower(): value for name, _, value in words if name.lower() in _KEPT}
    return {}


def _deb822(stanza: str) -> dict[str, str]:
    """Fields of a stanza by their names in small letters; a key may be many lines long, and stays so."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in {" ", "\t"} and name:
            fields[name] += f"\n{line}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _own_codename() -> str:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return ""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
    return found[1] if found else ""


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=_environment()
        )
    except OSError as error:
        raise _no_apt(error) from error
    if done.returncode != 0:
        raise NodeError(f"apt-get failed: {done.stderr.strip()[:500]}", where=" ".join(command[:1]))
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _no_apt(error: OSError) -> NodeError:
    return NodeError(
        f"apt cannot be run: {error.strerror}",
        where="apt-get",
        hint="on another system, name an index with --file",
    )


def _nothing(release: str, architecture: str) -> NodeError:
    return NodeError(
        "the mirror has no Contents index",
        where=f"{release}, {architecture}",
        hint="is the release spelled right?",
    )
