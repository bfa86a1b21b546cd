# SPDX-License-Identifier: BSD-3-Clause
"""Which file decides what pip uses, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from piwheels_node.consumer.pip_files import Surroundings, look, same_index

A, B, C = "https://a.test/simple", "https://b.test/simple", "https://c.test/simple"
XDG, ETC = "/etc/xdg/pip/pip.conf", "/etc/pip.conf"
OLD_USER, USER, VENV = "/home/pi/.pip/pip.conf", "/home/pi/.config/pip/pip.conf", "/venv/pip.conf"


def extra(*urls, section="global"):
    return f"[{section}]\nextra-index-url =\n" + "".join(f"    {url}\n" for url in urls)


@pytest.fixture
def view(tmp_path):
    """What pip would use with these files and variables."""

    def view(files, **environ):
        for name, text in files.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return look(Surroundings(tmp_path, Path("/home/pi"), environ))

    return view


@pytest.mark.parametrize(
    ("files", "environ", "urls"),
    [
        ({}, {}, ()),
        ({XDG: extra(A)}, {}, (A,)),
        ({XDG: extra(A), ETC: "[global]\ntimeout = 5\n"}, {}, (A,)),
        ({XDG: extra(A), ETC: extra(B)}, {}, (B,)),
        ({XDG: extra(A), ETC: extra(B), OLD_USER: extra(C)}, {}, (C,)),
        ({OLD_USER: extra(A), USER: extra(B)}, {}, (B,)),
        ({USER: extra(A), VENV: extra(B)}, {"VIRTUAL_ENV": "/venv"}, (B,)),
        ({VENV: extra(B)}, {}, ()),
        ({XDG: extra(A, section="install"), USER: extra(B)}, {}, (A,)),
        ({XDG: extra(A), USER: extra(B, section="download")}, {}, (A,)),
        ({XDG: extra(A), ETC: "[global]\nextra-index-url =\n"}, {}, ()),
        ({XDG: extra(A), USER: extra(B)}, {"PIP_EXTRA_INDEX_URL": C}, (C,)),
        ({XDG: extra(A)}, {"PIP_EXTRA_INDEX_URL": ""}, (A,)),
        ({XDG: extra(A)}, {"PIP_CONFIG_FILE": "/dev/null"}, ()),
        ({XDG: extra(A), USER: extra(B), "/named.conf": extra(C)}, {"PIP_CONFIG_FILE": "/named.conf"}, (C,)),
        ({XDG: extra(A), USER: extra(B), "/named.conf": ""}, {"PIP_CONFIG_FILE": "/named.conf"}, (A,)),
        ({XDG: extra(A), USER: extra(B)}, {"PIP_CONFIG_FILE": "/not-there.conf"}, (B,)),
        ({XDG: extra(A), "/other/pip/pip.conf": extra(B)}, {"XDG_CONFIG_DIRS": "/other:/more"}, (B,)),
        ({"/home/pi/else/pip/pip.conf": extra(B)}, {"XDG_CONFIG_HOME": "/home/pi/else"}, (B,)),
        ({XDG: f"[global]\nExtra_Index_URL: {A} {B}\n"}, {}, (A, B)),
        ({XDG: f"[DEFAULT]\nextra-index-url = {A}\n[global]\n"}, {}, (A,)),
    ],
)
def test_the_last_place_that_sets_the_option_wins_whole(view, files, environ, urls):
    assert view(files, **environ).extra_index_urls == urls


def test_each_place_is_told_with_what_becomes_of_it(view):
    seen = view({XDG: extra(A), ETC: extra(B), USER: f"[global]\nindex-url = {C}\n"})

    told = {source.name: seen.verdict(source) for source in seen.sources}
    assert told[XDG] == f"extra-index-url = {A}: hidden by {ETC}"
    assert told[ETC] == f"extra-index-url = {B}: in effect"
    assert told[USER] == f"index-url = {C}: in effect"
    assert told[OLD_USER] == "not there"
    assert told["PIP_EXTRA_INDEX_URL"] == "not set"
    assert told["/usr/pip.conf"] == "not there"


def test_a_section_of_the_command_is_named_as_what_hides(view):
    seen = view({XDG: extra(A, section="install"), USER: extra(B)})

    verdicts = [seen.verdict(source) for source in seen.sources if source.name == USER]
    assert verdicts == [
        f"extra-index-url = {B}: hidden by [install] in {XDG}, which beats [global] everywhere"
    ]


def test_a_section_of_another_command_is_told_as_such(view):
    seen = view({XDG: extra(A, section="wheel")})

    assert seen.verdict(seen.sources[0]) == f"extra-index-url = {A}: only for wheel"


@pytest.mark.parametrize(
    "text", ["extra-index-url = x\n", "[global]\n[global]\n", "[global]\na = 1\na = 2\n"]
)
def test_a_file_that_pip_stops_at_is_told_and_nothing_is_used(view, text):
    seen = view({XDG: extra(A), ETC: text})

    assert seen.broken.name == ETC
    assert not seen.uses(A)
    assert seen.verdict(seen.broken).startswith("pip stops at it: ")


def test_no_index_means_none(view):
    seen = view({XDG: extra(A)}, PIP_NO_INDEX="1")

    assert seen.no_index
    assert not seen.uses(A)


def test_an_index_is_the_same_with_and_without_its_last_slash():
    assert same_index(A, A + "/")
    assert not same_index(A, B)
    assert not same_index("", "")
