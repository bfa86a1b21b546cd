# SPDX-License-Identifier: BSD-3-Clause
"""What pip will really use: every place that it reads, in the order in which later ones win.

    system     each directory of XDG_CONFIG_DIRS (/etc/xdg), pip/pip.conf in it; then /etc/pip.conf
    user       ~/.pip/pip.conf, then ~/.config/pip/pip.conf; not where PIP_CONFIG_FILE names a file
    venv       pip.conf in the environment (or in /usr, outside of any)
    named      the file that PIP_CONFIG_FILE names; /dev/null there: no file at all is read
    variable   PIP_EXTRA_INDEX_URL and the like

A value is never added to that of an earlier place: the last one wins whole, also an empty one, which pip then
takes for none. A section of a command ([install]) in any file beats [global] in every file, and a variable
beats both. So it was in every pip from 20.3 to 26.3 (read in its `configuration.py` and `cli/parser.py`, and
measured; `tests/integration/test_pip_config.py` asks the real one).
This module writes nothing, and imports only the standard library and `core`.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

EXTRA = "extra-index-url"
INDEX = "index-url"
NO_INDEX = "no-index"
ABOUT_INDEXES = (INDEX, EXTRA, NO_INDEX)
GLOBAL_SECTION = "global"
COMMAND = "install"
"""The command whose options are told; the others differ only where a file has a section for them."""

PACKAGE_FILE = Path("/etc/xdg/pip/pip.conf")
"""The file that is this package's own, unless somebody else was there first."""

SYSTEM_FILE = Path("/etc/pip.conf")
_TRUE = {"y", "yes", "t", "true", "on", "1"}


class Kind(Enum):
    """Whose a place is."""

    SYSTEM = "system"
    USER = "user"
    VENV = "venv"
    NAMED = "named"
    VARIABLE = "variable"


@dataclass(frozen=True)
class Surroundings:
    """Who would call pip, and where: all paths are below `root`; `home` and `environ` are that person's."""

    root: Path = Path("/")
    home: Path = Path("/root")
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def ours(cls, root: Path = Path("/")) -> Surroundings:
        """Those of this process."""
        return cls(root, Path(os.path.expanduser("~")), os.environ)

    def real(self, path: Path) -> Path:
        """Where a file lies, for who reads it."""
        return self.root / path.relative_to("/") if path.is_absolute() else path


@dataclass(frozen=True)
class Source:
    """One place, with what it says: (section, key) -> value; keys as pip spells them.

    `error` is why it cannot be read; `broken` is True where pip stops for that, with every command.
    """

    kind: Kind
    name: str
    there: bool = False
    values: Mapping[tuple[str, str], str] = field(default_factory=dict)
    error: str | None = None
    broken: bool = False


@dataclass(frozen=True)
class Decision:
    """Where a value comes from."""

    value: str
    source: Source
    section: str


@dataclass(frozen=True)
class PipView:
    """All places, and what follows from them."""

    sources: tuple[Source, ...]

    def decision(self, key: str) -> Decision | None:
        """Which place decides on an option; None where none does, so that pip's own default holds."""
        for section in (":env:", COMMAND, GLOBAL_SECTION):
            said = [source for source in self.sources if (section, key) in source.values]
            if said and (value := said[-1].values[section, key]):
                return Decision(value, said[-1], section)
        return None

    @property
    def extra_index_urls(self) -> tuple[str, ...]:
        """The indexes that pip asks besides the first."""
        decided = self.decision(EXTRA)
        return tuple(decided.value.split()) if decided else ()

    @property
    def index_url(self) -> str | None:
        """The first index; None: pip's built-in one."""
        decided = self.decision(INDEX)
        return decided.value if decided else None

    @property
    def no_index(self) -> bool:
        """True where pip is told to ask no index at all."""
        decided = self.decision(NO_INDEX)
        return decided is not None and decided.value.lower() in _TRUE

    @property
    def broken(self) -> Source | None:
        """The first file that pip stops at; None where it can start."""
        return next((source for source in self.sources if source.broken), None)

    def uses(self, url: str) -> bool:
        """True where pip would ask this index."""
        asked = [self.index_url or "", *self.extra_index_urls]
        return not (self.broken or self.no_index) and any(same_index(url, one) for one in asked)

    def verdict(self, source: Source) -> str:
        """What becomes of what one place says, in a few words."""
        if source.error:
            return f"pip stops at it: {source.error}" if source.broken else f"cannot be read: {source.error}"
        said = [key for key in ABOUT_INDEXES if any(key == own for _, own in source.values)]
        if not source.there:
            return "not set" if source.kind is Kind.VARIABLE else "not there"
        if not said:
            return "says nothing about indexes"
        return "; ".join(self._verdict_on(source, key) for key in said)

    def _verdict_on(self, source: Source, key: str) -> str:
        decided = self.decision(key)
        own = {section: value for (section, name), value in source.values.items() if name == key}
        if decided and decided.source == source and decided.section in own:
            return f"{key} = {_one_line(decided.value)}: in effect"
        value = own.get(COMMAND) or own.get(GLOBAL_SECTION) or next(iter(own.values()))
        shown = f"{key} = {_one_line(value)}" if value else f"{key} is empty"
        if not set(own) & {COMMAND, GLOBAL_SECTION, ":env:"}:
            return f"{shown}: only for {' and '.join(sorted(own))}"
        return f"{shown}: hidden by {_hider(decided, own)}" if decided else f"{shown}: no effect"


def same_index(one: str, other: str) -> bool:
    """True for two spellings of one index: pip takes it with and without the last slash."""
    return bool(one) and one.rstrip("/") == other.rstrip("/")


def look(surroundings: Surroundings) -> PipView:
    """Read all that pip would read."""
    return PipView(tuple(_sources(surroundings)))


def look_at_system(root: Path = Path("/")) -> PipView:
    """What the files of the whole machine say, whoever calls pip."""
    sources = _sources(Surroundings(root))
    return PipView(tuple(source for source in sources if source.kind is Kind.SYSTEM))


def parse(content: bytes) -> dict[tuple[str, str], str]:
    """Read a file as pip does; raises ValueError where pip would stop."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(re.sub("\r\n?", "\n", content.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise ValueError("it is not in UTF-8") from error
    except configparser.Error as error:
        raise ValueError(_one_line(str(error))) from error
    pairs = ((section, parser.items(section)) for section in parser.sections())
    return {(section, _normal(key)): value for section, items in pairs for key, value in items}


def _sources(at: Surroundings) -> Iterator[Source]:
    named = at.environ.get("PIP_CONFIG_FILE")
    if named != os.devnull:
        for directory in (at.environ.get("XDG_CONFIG_DIRS", "").strip() or "/etc/xdg").split(os.pathsep):
            yield _file(at, Kind.SYSTEM, Path(directory, "pip", "pip.conf"))
        yield _file(at, Kind.SYSTEM, SYSTEM_FILE)
        if not (named and at.real(Path(named)).exists()):
            config = at.environ.get("XDG_CONFIG_HOME", "").strip() or str(at.home / ".config")
            yield _file(at, Kind.USER, at.home / ".pip" / "pip.conf")
            yield _file(at, Kind.USER, Path(config, "pip", "pip.conf"))
        yield _file(at, Kind.VENV, Path(at.environ.get("VIRTUAL_ENV") or "/usr", "pip.conf"))
        if named:
            yield _file(at, Kind.NAMED, Path(named))
    for key in ABOUT_INDEXES:
        variable = f"PIP_{key.upper().replace('-', '_')}"
        value = at.environ.get(variable)
        values = {} if value is None else {(":env:", key): value}
        yield Source(Kind.VARIABLE, variable, there=value is not None, values=values)


def _file(at: Surroundings, kind: Kind, path: Path) -> Source:
    real = at.real(path)
    try:
        content = real.read_bytes()
    except FileNotFoundError:
        return Source(kind, str(path))
    except OSError as error:  # pip goes on without it, and says nothing
        return Source(kind, str(path), there=True, error=error.strerror or "no reason was given")
    try:
        return Source(kind, str(path), there=True, values=parse(content))
    except ValueError as error:
        return Source(kind, str(path), there=True, error=str(error), broken=True)


def _normal(key: str) -> str:
    return key.lower().replace("_", "-").removeprefix("--")


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _hider(decided: Decision, own: Mapping[str, str]) -> str:
    if decided.section == COMMAND and COMMAND not in own:
        return f"[{COMMAND}] in {decided.source.name}, which beats [global] everywhere"
    return decided.source.name
