# SPDX-License-Identifier: BSD-3-Clause
"""What the command line reads: names of packages, settings from their sources."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from piwheels_node.cli import options
from piwheels_node.cli.options import (
    data_directory_in_sight,
    default_data_directory,
    load_settings,
    parse_requests,
)
from piwheels_node.core.errors import EXIT_USAGE, SettingsError, UsageError
from piwheels_node.core.settings import ENVIRONMENT_PREFIX, Settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    """No variable of this machine's, and an empty directory in place of /etc/piwheels-node."""
    for variable in os.environ:
        if variable.startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(variable)
    place = tmp_path / "etc"
    place.mkdir()
    monkeypatch.setenv("PIWHEELS_NODE_SETTINGS", str(place))
    return place


def asked(*words, force=False):
    return [(one.project, one.version, one.force) for one in parse_requests(words, force=force)]


def test_all_that_is_named_is_asked_for_one_target():
    wanted = parse_requests(["spidev", "lgpio==0.2"], force=False, target="cp313-linux_armv7l-debian13")

    assert [one.target for one in wanted] == ["cp313-linux_armv7l-debian13"] * 2


def test_a_name_is_asked_for_without_a_version():
    assert asked("RPi.GPIO") == [("RPi.GPIO", None, False)]


def test_a_version_is_taken_as_it_is_written():
    assert asked("spidev==3.6", "x == 1.0rc1", force=True) == [("spidev", "3.6", True), ("x", "1.0rc1", True)]


def test_the_order_is_kept_and_a_name_given_twice_counts_once():
    assert [name for name, _, _ in asked("zz", "aa", "zz", "aa==1")] == ["zz", "aa", "aa"]


@pytest.mark.parametrize("other", ["Rpi_gpio", "rpi-gpio", "RPI.GPIO"])
def test_two_spellings_of_a_name_are_one_package(other):
    assert len(asked("RPi.GPIO", other)) == 1


@pytest.mark.parametrize(
    "word",
    [
        "",
        "==1",
        "a b",
        "a>=1",
        "a==1.*",
        "a==1,==2",
        "a[x]",
        "a; python_version<'4'",
        "a @ https://h/x",
        "-r",
    ],
)
def test_what_names_no_single_release_is_refused(word):
    with pytest.raises(UsageError, match="NAME==VERSION") as caught:
        parse_requests([word], force=False)

    assert caught.value.exit_code == EXIT_USAGE


def test_without_files_there_are_the_defaults():
    assert load_settings([]) == Settings()


def test_files_of_the_directory_are_read_in_the_order_of_their_names(no_settings):
    (no_settings / "20-later.toml").write_text("[builder]\nnice = 2\n")
    (no_settings / "10-first.toml").write_text("[builder]\nnice = 1\njobs = 3\n")
    (no_settings / "30-not-settings.conf").write_text("nonsense")

    settings = load_settings([])

    assert (settings.builder.nice, settings.builder.jobs) == (2, 3)


def test_a_single_file_may_be_named(no_settings, monkeypatch):
    file = no_settings / "my settings"
    file.write_text("[master]\nport = 8080\n")
    monkeypatch.setenv("PIWHEELS_NODE_SETTINGS", str(file))

    assert load_settings([]).master.port == 8080


def test_variables_win_over_files_and_options_over_variables(no_settings, monkeypatch):
    (no_settings / "a.toml").write_text("[builder]\nnice = 1\njobs = 1\ntimeout_s = 1\n")
    monkeypatch.setenv("PIWHEELS_NODE_BUILDER_JOBS", "2")
    monkeypatch.setenv("PIWHEELS_NODE_BUILDER_TIMEOUT_S", "2")

    builder = load_settings(["builder.timeout_s=3"]).builder

    assert (builder.nice, builder.jobs, builder.timeout_s) == (1, 2, 3)


@pytest.mark.parametrize("content", [b"[builder\n", b"nice = \n", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(no_settings, content):
    (no_settings / "a.toml").write_bytes(content)

    with pytest.raises(SettingsError, match="not valid TOML") as caught:
        load_settings([])

    assert caught.value.where == str(no_settings / "a.toml")


def test_a_file_that_cannot_be_read_is_named(no_settings):
    (no_settings / "a.toml").mkdir()  # root may read any file, but nobody a directory

    with pytest.raises(SettingsError, match="cannot be read") as caught:
        load_settings([])

    assert caught.value.where == str(no_settings / "a.toml")


def test_a_place_for_settings_that_was_named_must_be_there(no_settings, monkeypatch):
    monkeypatch.setenv("PIWHEELS_NODE_SETTINGS", str(no_settings / "nowhere.toml"))

    with pytest.raises(SettingsError, match="nowhere"):
        load_settings([])


def test_an_unknown_key_in_a_file_is_named_with_the_nearest(no_settings):
    (no_settings / "a.toml").write_text("[builder]\ntimeout = 5\n")

    with pytest.raises(SettingsError, match=r"builder\.timeout_s"):
        load_settings([])


@pytest.mark.parametrize(
    ("root", "xdg", "expected"),
    [
        (True, "", "/var/lib/piwheels-node"),
        (False, "", "/home/pi/.local/share/piwheels-node"),
        (False, "/data", "/data/piwheels-node"),
    ],
)
def test_the_data_is_the_system_s_for_root_and_else_one_s_own(monkeypatch, root, xdg, expected):
    monkeypatch.setattr(options.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setenv("HOME", "/home/pi")
    monkeypatch.setenv("XDG_DATA_HOME", xdg)

    assert default_data_directory() == Path(expected)


@pytest.mark.parametrize(
    ("there", "seen"),
    [(("system", "own"), "own"), (("system",), "system"), (("own",), "own"), ((), "own")],
)
def test_who_only_looks_sees_the_system_s_farm_where_there_is_none_of_their_own(
    monkeypatch, tmp_path, there, seen
):
    places = {"system": tmp_path / "var", "own": tmp_path / "home" / "piwheels-node"}
    monkeypatch.setattr(options.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(options, "SYSTEM_DATA", places["system"])
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    for name in there:
        places[name].mkdir(parents=True)

    assert data_directory_in_sight() == places[seen]
