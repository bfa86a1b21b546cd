# SPDX-License-Identifier: BSD-3-Clause
"""What several commands share: reading settings, package names on the command line, the data directory."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from piwheels_node.core.errors import SettingsError, UsageError
from piwheels_node.core.messages import BuildRequest
from piwheels_node.core.settings import SETTINGS_DIR, Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def default_data_directory() -> Path:
    """Where a farm of one machine lives: the system's place for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/piwheels-node")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "piwheels-node"


def data_option(command: _Command) -> _Command:
    """`--data DIR`."""
    return click.option(
        "--data",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_data_directory,
        show_default="/var/lib/piwheels-node for root, else ~/.local/share/piwheels-node",
        help="Directory of the database, the wheels and the caches.",
    )(command)


def set_option(command: _Command) -> _Command:
    """`--set SECTION.KEY=VALUE`, as often as needed."""
    return click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        help="Change a setting for this run, as in builder.timeout_s=600. May be given again.",
    )(command)


def json_option(command: _Command) -> _Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, for scripts.")(
        command
    )


def force_option(command: _Command) -> _Command:
    """`--force`."""
    return click.option("--force", is_flag=True, help="Build even what PyPI already has a fitting wheel of.")(
        command
    )


def load_settings(overrides: Iterable[str]) -> Settings:
    """Settings from /etc/piwheels-node/*.toml, the environment and the command line; raises SettingsError."""
    named = os.environ.get("PIWHEELS_NODE_SETTINGS")
    place = Path(named or SETTINGS_DIR)
    if named and not place.exists():
        raise SettingsError(
            "there are no settings here",
            where=f"PIWHEELS_NODE_SETTINGS={named}",
            hint="name a file or directory",
        )
    files = [place] if place.is_file() else sorted(place.glob("*.toml"))
    return Settings.from_sources(((str(file), _read(file)) for file in files), os.environ, overrides)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise SettingsError(f"the settings cannot be read: {error.strerror}", where=str(file)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"the settings are not valid TOML: {error}", where=str(file), hint="see docs/settings.md"
        ) from error


def parse_requests(words: Iterable[str], *, force: bool) -> list[BuildRequest]:
    """Read NAME or NAME==VERSION; a name given twice counts once. Raises UsageError."""
    requests = {}
    for word in words:
        try:
            wanted = Requirement(word)
        except InvalidRequirement as error:
            raise UsageError(f"'{word}' is not a package", hint="write NAME or NAME==VERSION") from error
        versions = [one.version for one in wanted.specifier if one.operator == "=="]
        plain = not (wanted.url or wanted.marker or wanted.extras)
        if (
            not plain
            or len(versions) != len(wanted.specifier)
            or len(versions) > 1
            or "*" in "".join(versions)
        ):
            raise UsageError(f"'{word}' does not name one release", hint="write NAME or NAME==VERSION")
        requests[canonicalize_name(wanted.name), tuple(versions)] = BuildRequest(
            project=wanted.name, version=versions[0] if versions else None, force=force
        )
    return list(requests.values())
