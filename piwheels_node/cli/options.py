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

SYSTEM_DATA = Path("/var/lib/piwheels-node")
_OWN_DATA = "~/.local/share/piwheels-node"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def default_data_directory() -> Path:
    """Where a farm of one machine lives: the system's place for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return SYSTEM_DATA
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "piwheels-node"


def data_directory_in_sight() -> Path:
    """What a command that only looks is about: the user's own farm, where there is one, else the system's."""
    own = default_data_directory()
    return own if own.is_dir() or not SYSTEM_DATA.is_dir() else SYSTEM_DATA


def data_option(command: _Command) -> _Command:
    """`--data DIR`, for a command that may write there."""
    return _data_option(default_data_directory, "/var/lib/piwheels-node for root, else " + _OWN_DATA)(command)


def seen_data_option(command: _Command) -> _Command:
    """`--data DIR`, for a command that only looks there."""
    return _data_option(data_directory_in_sight, _OWN_DATA + " if it is there, else /var/lib/piwheels-node")(
        command
    )


def _data_option(default: Callable[[], Path], shown: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--data",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        show_default=shown,
        help="Directory of the database, the wheels and the caches.",
    )


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


def target_option(command: _Command) -> _Command:
    """`--target TARGET`."""
    return click.option(
        "--target", metavar="TARGET", help="For this target only: cp313-linux_armv7l-debian13."
    )(command)


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


def parse_requests(words: Iterable[str], *, force: bool, target: str | None = None) -> list[BuildRequest]:
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
            project=wanted.name, version=versions[0] if versions else None, target=target, force=force
        )
    return list(requests.values())
