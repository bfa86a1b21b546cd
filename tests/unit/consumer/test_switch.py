# SPDX-License-Identifier: BSD-3-Clause
"""Pointing a machine to an index and back, in a root directory of the test's."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from piwheels_node.consumer import switch, uv_config
from piwheels_node.consumer.index import enabled_index
from piwheels_node.consumer.pip_config import own_file
from piwheels_node.consumer.pip_files import Surroundings, look_at_system
from piwheels_node.core.errors import NodeError, StorageError, UsageError

OURS, NEXT, OTHER = "https://ours.test/simple/", "https://next.test/simple/", "https://other.test/simple"
PEM = "-----BEGIN CERTIFICATE-----\nnot looked into here\n-----END CERTIFICATE-----\n"
ETC, XDG, UV = "etc/pip.conf", "etc/xdg/pip/pip.conf", "etc/uv/uv.toml"
OTHERS = f"[global]\nextra-index-url={OTHER}\n"
STATES = {
    "no file": {},
    "a file without the option": {ETC: "[global]\ntimeout = 5\n"},
    "another index": {ETC: OTHERS},
    "ours already": {ETC: OTHERS + f"    {OURS}\n"},
    "the other file is an admin's": {XDG: "[global]\ncert = /x\n"},
    "both set it": {XDG: OTHERS, ETC: OTHERS},
    "an empty value": {ETC: "[global]\nextra-index-url =\n"},
    "uv is set up": {UV: 'index-strategy = "first-index"\n'},
}


@pytest.fixture
def machine(tmp_path):
    """A root directory with these files."""

    def machine(files):
        root = tmp_path / "root"
        (root / "etc").mkdir(parents=True)
        for name, text in {"home/pi/.config/pip/pip.conf": OTHERS, **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o640)
        return root

    return machine


def snapshot(root):
    """Everything below: files with bytes and mode, directories."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("files", STATES.values(), ids=STATES)
def test_after_enable_pip_asks_it_and_after_disable_all_is_as_it_was(machine, files):
    root = machine(files)
    before = snapshot(root)

    switch.enable(root, OURS)
    view = look_at_system(root)
    assert view.uses(OURS)
    assert OTHERS not in files.values() or view.uses(OTHER)
    switch.disable(root)
    assert snapshot(root) == before


@pytest.mark.parametrize("files", STATES.values(), ids=STATES)
def test_a_second_time_changes_nothing(machine, files):
    root = machine(files)
    switch.enable(root, OURS)
    before = snapshot(root)

    assert switch.enable(root, OURS).changed == ()
    assert snapshot(root) == before
    switch.disable(root)
    assert switch.disable(root).changed == ()


@pytest.mark.parametrize("files", STATES.values(), ids=STATES)
def test_another_index_takes_the_place_of_the_first(machine, files):
    root = machine(files)
    before = snapshot(root)

    switch.enable(root, OURS, PEM)
    switch.enable(root, NEXT)
    assert look_at_system(root).uses(NEXT)
    assert look_at_system(root).uses(OURS) == (OURS in "".join(files.values()))
    assert enabled_index(root) in {NEXT, OURS}
    switch.disable(root)
    assert snapshot(root) == before


def test_the_file_that_hides_the_others_gets_the_line(machine):
    root = machine({ETC: OTHERS})

    done = switch.enable(root, OURS)
    assert done.changed[0] == "/etc/pip.conf has one line more, the rest is as it was"
    assert (root / ETC).read_text() == OTHERS + f"    {OURS}\n"
    assert not (root / XDG).exists()


def test_a_line_of_somebody_else_is_neither_added_nor_taken_away(machine):
    root = machine({ETC: f"[global]\nextra-index-url = {OURS}\n"})

    assert "pip uses it already, by /etc/pip.conf" in switch.enable(root, OURS).left
    assert switch.disable(root).left == (f"/etc/pip.conf still sets extra-index-url = {OURS}",)


def test_the_file_of_the_packages_installation_is_taken_for_ours(machine):
    root = machine({XDG: own_file(OURS).decode()})

    assert enabled_index(root) == OURS
    switch.enable(root, NEXT)
    assert (root / XDG).read_bytes() == own_file(NEXT)
    switch.disable(root)
    assert not (root / XDG).exists()


def test_a_file_that_somebody_changed_since_keeps_what_they_wrote(machine):
    root = machine({})
    switch.enable(root, OURS)
    with (root / XDG).open("a") as file:
        file.write("timeout = 7\n")

    switch.disable(root)
    assert "timeout = 7" in (root / XDG).read_text()
    assert not look_at_system(root).uses(OURS)


def test_a_change_that_was_noted_but_never_made_is_no_trouble(machine):
    root = machine({ETC: OTHERS})
    before = snapshot(root)
    switch.enable(root, OURS)
    (root / ETC).write_text(OTHERS)
    (root / UV).unlink()

    switch.disable(root)
    assert (root / ETC).read_text() == OTHERS
    assert snapshot(root).keys() - before.keys() <= {"etc/uv"}


def test_a_link_stays_a_link(machine):
    root = machine({"etc/real.conf": OTHERS})
    (root / ETC).symlink_to("real.conf")

    switch.enable(root, OURS)
    assert (root / ETC).is_symlink()
    assert OURS in (root / "etc/real.conf").read_text()
    switch.disable(root)
    assert (root / "etc/real.conf").read_text() == OTHERS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[install]\nextra-index-url = {OTHER}\n", "hides every other place"),
        ("[global]\nno-index = true\n", "no index at all"),
        ("[global\n", "cannot read its configuration"),
    ],
)
def test_where_no_line_would_help_nothing_is_written(machine, text, said):
    root = machine({ETC: text})
    before = snapshot(root)

    with pytest.raises(NodeError, match=said) as raised:
        switch.enable(root, OURS)
    assert raised.value.where == "/etc/pip.conf"
    assert snapshot(root) == before


def test_what_was_done_before_it_failed_can_be_taken_back(machine):
    root = machine({ETC: OTHERS})
    before = snapshot(root)
    (root / "etc/uv").write_text("in the way")

    with pytest.raises(StorageError):
        switch.enable(root, OURS)
    (root / "etc/uv").unlink()
    switch.disable(root)
    assert snapshot(root) == before


def test_a_note_about_other_files_is_not_believed(machine):
    root = machine({"etc/passwd": OTHERS, "etc/piwheels-node/x.toml": ""})
    change = {"what": "pip", "path": "/etc/passwd", "url": OTHER, "put_in": "", "directories": []}
    (root / "etc/piwheels-node/changes.json").write_text(json.dumps([change]))

    assert switch.noted(root) == ()


def test_uv_is_told_to_compare_all_indexes(machine):
    root = machine({})
    switch.enable(root, OURS, PEM)

    told = tomllib.loads((root / UV).read_text())
    assert told == {
        "index-strategy": "unsafe-best-match",
        "native-tls": True,
        "index": [{"name": "piwheels-node", "url": OURS}],
    }
    assert uv_config.look(Surroundings(root)).uses(OURS)


def test_uvs_file_of_somebody_else_is_left_and_what_to_add_is_said(machine):
    root = machine({UV: "offline = false\n"})

    (said,) = switch.enable(root, OURS).left
    assert said.startswith("/etc/uv/uv.toml is somebody else's")
    assert (root / UV).read_text() == "offline = false\n"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://farm.local:8443", "https://farm.local:8443/simple/"),
        ("farm.local:8443/", "https://farm.local:8443/simple/"),
        ("https://farm.local/root/pi/simple", "https://farm.local/root/pi/simple/"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/simple/"),
        ("http://[::1]:8000/simple/", "http://[::1]:8000/simple/"),
    ],
)
def test_the_url_of_a_master_is_taken_for_its_index(text, url):
    assert switch.index_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "http://farm.local/simple/", "ftp://x/", "https://", "https://a b/", "https://a/?q", "a:port"],
)
def test_what_pip_would_not_take_is_refused(text):
    with pytest.raises(UsageError):
        switch.index_url(text)


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("pip.conf", own_file(OURS)),
        ("uv.toml", uv_config.own_file(OURS, trusts_system=False)),
    ],
)
def test_the_files_of_the_debian_package_are_the_same(template, made):
    path = Path(__file__).parents[3] / "etc" / template

    assert path.read_bytes().replace(b"@INDEX@", OURS.encode()) == made
