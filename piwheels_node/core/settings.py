# SPDX-License-Identifier: BSD-3-Clause
"""Every setting: its name, type, default, bounds and one sentence; and how sources are merged.

Later sources win: the defaults here, `/etc/piwheels-node/*.toml` in the order of their names, variables
of the environment (`PIWHEELS_NODE_BUILDER_TIMEOUT_S` is `builder.timeout_s`), and the command line
(`--set builder.timeout_s=600`). A key that nobody knows is an error, which names the nearest known one.
Reading files is the caller's part: this module does no I/O and imports only the standard library.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from piwheels_node.core.errors import SettingsError

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
ENVIRONMENT_PREFIX = "PIWHEELS_NODE_"
SETTINGS_DIR = "/etc/piwheels-node"


def _setting(default: Any, sentence: str, *, least: float | None = None) -> Any:
    return field(default=default, metadata={"sentence": sentence, "least": least})


@dataclass(frozen=True, kw_only=True)
class PypiSettings:
    """Where releases come from."""

    index_url: str = _setting(
        "", "Simple API of the index that sources come from; empty: the one that pip uses."
    )
    timeout_s: float = _setting(30.0, "How long one answer of PyPI may take.", least=1)
    max_age_s: float = _setting(60.0, "How long PyPI's answer about a project is believed.", least=0)
    follow: str = _setting(
        "off",
        "What is heard of PyPI's changes: nothing, those of the projects in pypi.watch, or all of them, by "
        "the list of projects or by the change log; off, watch, list or changelog.",
    )
    watch: str = _setting("", "Names of the projects to follow by pypi.follow = watch, with spaces between.")
    scope: str = _setting(
        "missing",
        "What is built by itself of what is followed: what PyPI has no fitting wheel of, every version of "
        "everything, or only what people and their pips ask for; missing, everything or requested.",
    )
    every_s: float = _setting(
        0.0,
        "How often PyPI is asked what changed; 0: every 20 s by the change log, 30 minutes by the list, "
        "5 minutes for watched projects.",
        least=0,
    )
    list_every_s: float = _setting(
        86400.0, "How often the change log is checked against the whole list of projects.", least=60
    )
    changelog_url: str = _setting("", "Where XML-RPC is served; empty: /pypi on the host of the index.")
    connections: int = _setting(4, "How many projects are asked about at a time.", least=1)
    queue_max: int = _setting(
        100_000,
        "How many ready jobs of a target are enough: the rest of the backlog is not planned yet.",
        least=1,
    )
    misses_per_hour: int = _setting(
        600, "How many projects that pip missed here may raise a request in an hour; 0: none.", least=0
    )


@dataclass(frozen=True, kw_only=True)
class MasterSettings:
    """The master: queue, store and index."""

    database: str = _setting(
        "", "URL of the database, as postgresql://USER@HOST/NAME; empty: SQLite in the data directory."
    )
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(0, "Port to listen on; 0: any free one.", least=0)
    lease_s: float = _setting(900.0, "How long a builder may be silent before it loses its job.", least=2)
    max_attempts: int = _setting(3, "How many builders may die of a job before it is quarantined.", least=1)
    retry_delay_s: float = _setting(
        60.0, "Delay before a job is tried elsewhere; doubled each time.", least=0
    )
    url: str = _setting(
        "", "How builders reach this master, as https://HOST[:PORT]; empty: by the name of this machine."
    )
    certificate: str = _setting(
        "", "File with the certificate to serve HTTPS with; empty: the one that `master init` made."
    )
    certificate_key: str = _setting("", "File with the private key of master.certificate.")
    proxied: bool = _setting(False, "Serve plain HTTP: a web server in front speaks HTTPS for this master.")
    body_max_bytes: int = _setting(1 << 20, "Largest message that is read, wheels aside.", least=64 << 10)
    requests_per_s: float = _setting(
        50.0, "How many requests a second one builder may make; more are told to wait.", least=1
    )
    page_max_age_s: int = _setting(60, "How long clients may keep an index page.", least=0)
    page_cache_bytes: int = _setting(32 << 20, "Bound of the cache of finished index pages.", least=0)
    min_free_bytes: int = _setting(256 << 20, "Free disk below which no wheel is accepted.", least=0)


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """What the master does by itself so that more can be built."""

    auto_fix: bool = _setting(
        True,
        "Try by itself the one Debian package that has what a build missed, in a layer of the build root, "
        "never on the host; else such rules are only proposed.",
    )
    fix_rounds: int = _setting(
        2, "How often one job may come back with more Debian packages by itself.", least=0
    )


@dataclass(frozen=True, kw_only=True)
class BuilderSettings:
    """The builder: what a build may use of this machine."""

    python: str = _setting("", "Interpreter to build for; empty: the system's python3.")
    name: str = _setting("", "What this builder is called on its master; empty: the name of the machine.")
    roots: str = _setting(
        "", "Build roots to offer, by their names, the host's being host; empty: all that there are."
    )
    layers: bool = _setting(
        True, "Add Debian packages that a build lacks, for that build alone, never to this machine."
    )
    layer_max_bytes: int = _setting(
        512 << 20, "How much the Debian packages added to one build may be, as downloaded.", least=0
    )
    apt_sources: str = _setting(
        "", "File with the apt sources that added packages come from; empty: those of the build root."
    )
    slots: int = _setting(0, "How many builds may run at a time; 0: as cores and memory allow.", least=0)
    pause_at_c: float = _setting(80.0, "Temperature at which building stops until 5 degrees less.", least=30)
    pause_undervolted: bool = _setting(True, "Stop building while the power supply is too weak.")
    pause_throttled: bool = _setting(False, "Stop building while the firmware slows the processor down.")
    pause_memory_bytes: int = _setting(
        64 << 20, "Available memory below which building stops; 0: never.", least=0
    )
    pause_memory_pressure: float = _setting(
        60.0, "Share of time lost waiting for memory, in percent, at which building stops; 0: never.", least=0
    )
    pause_disk_bytes: int = _setting(512 << 20, "Free disk below which building stops; 0: never.", least=0)
    pause_load: float = _setting(
        0.0, "Load per core, of everything on the machine, at which building stops; 0: never.", least=0
    )
    account: str = _setting(
        "",
        "Account that package code runs as where the builder is root; empty: the first there is of "
        "piwheels-build, piwheels-node and nobody.",
    )
    timeout_s: float = _setting(3 * 3600.0, "How long one build may take.", least=1)
    silence_s: float = _setting(3600.0, "How long a build may print nothing.", least=1)
    log_max_bytes: int = _setting(64 << 20, "How much one build may print.", least=1 << 10)
    processes: int = _setting(512, "How many processes and threads one build may have.", least=16)
    memory_max_bytes: int = _setting(
        0, "How much memory one build may have; 0: what the slots share, if they share it evenly.", least=0
    )
    cgroup: str = _setting(
        "",
        "Directory of the control group (cgroup v2) in which builds get theirs; empty: the builder's own, "
        "where it was delegated; none: none.",
    )
    tmp_bytes: int = _setting(512 << 20, "Size of a build's private /tmp, which is memory.", least=1 << 20)
    memory_bytes: int = _setting(
        128 << 20,
        "How much a build may write in memory, where plenty is free; 0: always on the disk.",
        least=0,
    )
    disk_max_bytes: int = _setting(8 << 30, "How much disk one build may fill.", least=1 << 20)
    sdist_max_bytes: int = _setting(1 << 30, "Largest source archive that is fetched.", least=1 << 10)
    unpacked_max_bytes: int = _setting(4 << 30, "Largest size of a source archive unpacked.", least=1 << 10)
    unpacked_max_members: int = _setting(100_000, "Most files in a source archive.", least=1)
    wheel_max_bytes: int = _setting(
        2 << 30, "Largest wheel; unpacked it may be four times that.", least=1 << 10
    )
    jobs: int = _setting(
        0, "Compilers that one build may run at a time; 0: as cores and memory allow.", least=0
    )
    nice: int = _setting(10, "How far a build steps back for everything else, 0 to 19.", least=0)


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """What the builder keeps between builds."""

    max_bytes: int = _setting(
        2 << 30, "Bound of all build environments, downloads and compiler results kept.", least=0
    )
    compiled: str = _setting(
        "sdist",
        "Whose compiler results a build may use, where ccache is installed: those of the same sdist, of "
        "any version of the project, or none; sdist, project or nothing.",
    )
    resolve_max_age_s: float = _setting(
        86400.0, "How long the answer to 'which wheels satisfy these requirements' is believed.", least=0
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, by section."""

    pypi: PypiSettings = field(default_factory=PypiSettings)
    master: MasterSettings = field(default_factory=MasterSettings)
    build: BuildSettings = field(default_factory=BuildSettings)
    builder: BuilderSettings = field(default_factory=BuilderSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)

    @classmethod
    def from_sources(
        cls,
        documents: Iterable[tuple[str, Mapping[str, Any]]] = (),
        environ: Mapping[str, str] | None = None,
        overrides: Iterable[str] = (),
    ) -> Settings:
        """Merge parsed TOML documents (each with the name of its file), variables and `key=value` words.

        Raises SettingsError for an unknown key, a wrong type, or a value out of bounds.
        """
        values: dict[str, Any] = {}
        for name, document in documents:
            for key, value in _flatten(name, document):
                values[key] = _checked(key, value, f"{key} in {name}")
        for key, text, where in _from_environment(environ or {}):
            values[key] = _checked(key, _from_text(key, text, where), where)
        for word in overrides:
            key, separator, text = word.partition("=")
            where = f"--set {word}"
            if not separator:
                raise SettingsError("a setting needs a value", where=where, hint="--set SECTION.KEY=VALUE")
            values[key] = _checked(key, _from_text(key, text, where), where)
        sections = {}
        for section in dataclasses.fields(cls):
            prefix = f"{section.name}."
            mine = {key.removeprefix(prefix): v for key, v in values.items() if key.startswith(prefix)}
            sections[section.name] = _section_type(section.name)(**mine)
        return cls(**sections)


@dataclass(frozen=True)
class Setting:
    """One setting as the documentation lists it."""

    key: str
    kind: type
    default: Any
    sentence: str
    least: float | None


def all_settings() -> dict[str, Setting]:
    """Every setting by its full name, `section.key`."""
    return {
        f"{section.name}.{one.name}": Setting(
            f"{section.name}.{one.name}",
            typing.get_type_hints(_section_type(section.name))[one.name],
            one.default,
            one.metadata["sentence"],
            one.metadata["least"],
        )
        for section in dataclasses.fields(Settings)
        for one in dataclasses.fields(_section_type(section.name))
    }


def _section_type(name: str) -> type[Any]:
    kind: type[Any] = typing.get_type_hints(Settings)[name]
    return kind


def _flatten(name: str, document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, content in document.items():
        if not isinstance(content, Mapping):
            raise _unknown(section, f"{section} in {name}")
        for key, value in content.items():
            yield f"{section}.{key}", value


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    known = {ENVIRONMENT_PREFIX + key.replace(".", "_").upper(): key for key in all_settings()}
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in RESERVED_VARIABLES:
            continue
        if variable not in known:
            nearest = difflib.get_close_matches(variable, [*known, *RESERVED_VARIABLES], n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "see docs/settings.md"
            raise SettingsError("no setting has this name", where=variable, hint=hint)
        yield known[variable], text, variable


RESERVED_VARIABLES = {
    "PIWHEELS_NODE_SETTINGS": "file or directory to read settings from, in place of /etc/piwheels-node",
    "PIWHEELS_NODE_MASTER": "URL of the master that `build` asks",
    "PIWHEELS_NODE_KEY_FILE": "file with the key that `build` shows to the master",
}
"""Variables with the prefix that are no settings."""


def _unknown(key: str, where: str) -> SettingsError:
    nearest = difflib.get_close_matches(key, all_settings(), n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else "docs/settings.md has all settings"
    return SettingsError(f"no setting is called '{key}'", where=where, hint=hint)


def _from_text(key: str, text: str, where: str) -> Any:
    setting = all_settings().get(key)
    if setting is None:
        raise _unknown(key, where)
    if setting.kind is bool:
        if text.lower() not in _TRUTH:
            raise _wrong_type(setting, text, where)
        return _TRUTH[text.lower()]
    try:
        return setting.kind(text)
    except ValueError as error:
        raise _wrong_type(setting, text, where) from error


def _checked(key: str, value: Any, where: str) -> Any:
    setting = all_settings().get(key)
    if setting is None:
        raise _unknown(key, where)
    if setting.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not setting.kind:
        raise _wrong_type(setting, value, where)
    if setting.least is not None and isinstance(value, int | float) and not value >= setting.least:
        raise SettingsError(f"{key} must be {setting.least:g} or more, not {value}", where=where)
    return value


def _wrong_type(setting: Setting, value: object, where: str) -> SettingsError:
    default = str(setting.default).lower() if setting.kind is bool else repr(setting.default)
    kinds = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}
    return SettingsError(
        f"{setting.key} must be {kinds[setting.kind]}, not {value!r}",
        where=where,
        hint=f"the default is {default}",
    )
