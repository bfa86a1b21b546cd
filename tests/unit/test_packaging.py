# SPDX-License-Identifier: BSD-3-Clause
"""The Debian package is compared with the code: what it depends on, what it installs, what its files say."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import click
import pytest

from piwheels_node import __version__
from piwheels_node.builder.confine.sandbox import BUILD_ACCOUNTS
from piwheels_node.cli.lazy import LazyGroup
from piwheels_node.cli.main import group
from piwheels_node.cli.master.init import ACCOUNT
from piwheels_node.consumer import pip_config, uv_config
from piwheels_node.core.errors import NodeError
from piwheels_node.core.places import BUILDER, MEMBERSHIP, OPERATOR_KEY

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"
UNITS = sorted((ROOT / "systemd").glob("*.*"))
DATA = Path("/var/lib/piwheels-node")


def relations(field):
    """The packages of a field of debian/control, each with its lowest version or None."""
    text = re.search(rf"^{field}:\n((?:[ #].*\n)+)", (DEBIAN / "control").read_text(), re.MULTILINE)[1]
    found = re.findall(r"^ ([a-z0-9.+-]+)(?: \(>= ([^)]+)\))?", text, re.MULTILINE)
    return {name: version or None for name, version in found}


def wanted(extra=None):
    """Debian names of what setup.cfg requires, each with the lowest version."""
    text = (ROOT / "setup.cfg").read_text()
    start = f"\n{extra} =\n" if extra else "\ninstall_requires =\n"
    lines = text.split(start, 1)[1].splitlines()
    found = {}
    for line in lines:
        if not line.startswith("    "):
            break
        requirement, _, names = line.partition("#")
        for name in names.split(","):
            found[name.strip()] = requirement.partition(">=")[2].strip()
    return found


def unit(name):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(ROOT / "systemd" / name)
    return parser


# --- debian/ -------------------------------------------------------------------------------------------


def test_all_that_runs_is_depended_on_or_recommended():
    there = relations("Depends") | relations("Recommends")

    assert set(wanted()) - set(there) == set()
    lowest = {name: version for name, version in wanted().items() if there[name]}
    assert {name: there[name] for name in lowest} == lowest


def test_what_may_be_missing_is_suggested_or_depended_on():
    there = relations("Depends") | relations("Suggests")

    assert (set(wanted("postgresql")) | set(wanted("service"))) - set(there) == set()


def test_a_consumer_is_not_given_a_database_or_a_web_server():
    for_others = {"python3-alembic", "python3-fastapi", "python3-sqlalchemy", "python3-uvicorn", "gcc"}

    assert for_others & set(relations("Depends")) == set()


def test_the_package_has_the_version_of_the_program():
    assert (DEBIAN / "changelog").read_text().startswith(f"piwheels-node ({__version__}) ")


def test_the_accounts_of_the_package_are_those_of_the_program():
    accounts = re.findall(r"^u (\S+)", (DEBIAN / "piwheels-node.sysusers").read_text(), re.MULTILINE)

    assert accounts == [ACCOUNT, BUILD_ACCOUNTS[0]]


@pytest.mark.parametrize("path", [DEBIAN / "copyright"])
def test_the_licence_is_told_whole(path):
    said = [re.sub(r"^ \.?", "", line).strip() for line in path.read_text().splitlines()]

    assert [
        line for line in (ROOT / "LICENSE").read_text().splitlines()[4:] if line.strip() not in said
    ] == []


# --- units ---------------------------------------------------------------------------------------------


def test_a_service_waits_for_the_file_that_its_path_unit_looks_at():
    for role, file in (("builder", MEMBERSHIP / "master.json"), ("master", OPERATOR_KEY)):
        assert unit(f"piwheels-{role}.service")["Unit"]["ConditionPathExists"] == str(DATA / file)
        assert unit(f"piwheels-{role}.path")["Path"]["PathChanged"] == str(DATA / file)


def test_each_role_has_an_account_of_its_own():
    assert unit("piwheels-builder.service")["Service"]["User"] == BUILD_ACCOUNTS[0]
    assert unit("piwheels-master.service")["Service"]["User"] == ACCOUNT


def test_the_builder_owns_its_two_directories_and_no_other():
    (own,) = re.findall(
        r"^StateDirectory=(.*)", (ROOT / "systemd/piwheels-builder.service").read_text(), re.MULTILINE
    )

    assert [str(Path("/var/lib") / one) for one in own.split()] == [
        str(DATA / BUILDER),
        str(DATA / MEMBERSHIP),
    ]


@pytest.mark.parametrize(
    "path", [one for one in UNITS if one.suffix == ".service"], ids=lambda path: path.name
)
def test_a_service_starts_a_command_that_exists(path):
    (line,) = re.findall(r"^ExecStart=/usr/bin/piwheels-node (.*)", path.read_text(), re.MULTILINE)
    command = group
    words = line.split()
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    known = {spelling for one in command.params for spelling in one.opts}

    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(
    "path", [one for one in UNITS if one.suffix == ".service"], ids=lambda path: path.name
)
def test_a_service_that_fails_does_nothing_to_the_machine(path):
    assert not re.search(r"^(FailureAction|StartLimitAction|SuccessAction)=", path.read_text(), re.MULTILINE)


# --- files of others -----------------------------------------------------------------------------------


URL = "https://farm.example/simple/"


def test_the_file_for_pip_is_the_one_that_pip_enable_makes():
    assert (ROOT / "etc/pip.conf").read_bytes().replace(b"@INDEX@", URL.encode()) == pip_config.own_file(URL)


def test_the_file_for_uv_is_the_one_that_pip_enable_makes():
    made = (ROOT / "etc/uv.toml").read_bytes().replace(b"@INDEX@", URL.encode())

    assert made == uv_config.own_file(URL, trusts_system=False)


# --- what the package may leave out --------------------------------------------------------------------


def test_a_command_whose_library_is_missing_names_the_package_that_has_it():
    broken = LazyGroup("x", lazy={"y": ("no_such_library.of_ours:command", "about")})

    with pytest.raises(NodeError, match="no_such_library") as error:
        broken.get_command(click.Context(broken), "y")
    assert "python3-no_such_library" in error.value.hint


def test_a_module_of_ours_that_is_missing_is_a_mistake_of_ours():
    broken = LazyGroup("x", lazy={"y": ("piwheels_node.no_such_module:command", "about")})

    with pytest.raises(ModuleNotFoundError):
        broken.get_command(click.Context(broken), "y")
