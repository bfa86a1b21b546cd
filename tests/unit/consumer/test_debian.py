# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian packages a library may be in, and which of them this machine's apt knows."""

from __future__ import annotations

import os
import shutil

import pytest

from piwheels_node.consumer import debian
from piwheels_node.core.errors import NodeError


@pytest.mark.parametrize(
    ("soname", "package"),
    [
        ("libgfortran.so.5", "libgfortran5"),
        ("libopenblas.so.0", "libopenblas0"),
        ("libGL.so.1", "libgl1"),
        ("libX11.so.6", "libx11-6"),
        ("libgcc_s.so.1", "libgcc-s1"),
        ("libusb-1.0.so.0", "libusb-1.0-0"),
        ("libglib-2.0.so.0", "libglib2.0-0t64"),
        ("libgobject-2.0.so.0", "libglib2.0-0t64"),
        ("libssl.so.3", "libssl3t64"),
        ("libcrypto.so.3", "libssl3"),
        ("libz.so.1", "zlib1g"),
        ("libjpeg.so.62", "libjpeg62-turbo"),
        ("libcblas.so.3", "libatlas3-base"),
        ("libsqlite3.so.0", "libsqlite3-0"),
        ("libruby-3.3.so.3.3", "libruby3.3"),
    ],
)
def test_the_package_of_a_well_known_library_is_among_the_candidates(soname, package):
    assert package in debian.candidates(soname)


def test_what_the_index_says_is_tried_first_also_by_its_older_name():
    assert debian.candidates("libx.so.1", "libxyz9t64")[:3] == ["libxyz9t64", "libxyz9t64t64", "libxyz9"]


@pytest.mark.parametrize("hint", ["--purge", "a b", "-y", "X;reboot", ""])
def test_a_word_of_the_index_that_is_no_name_of_a_package_is_not_tried(hint):
    assert hint not in debian.candidates("libx.so.1", hint)


@pytest.mark.skipif(not shutil.which("apt-cache"), reason="not a Debian")
def test_only_what_apt_knows_counts():
    found = debian.packages_of({"libnobody.so.7": "zlib1g", "libnothing.so.8": "no-such-package-of-anybody"})

    assert found == {"libnobody.so.7": "zlib1g", "libnothing.so.8": None}


@pytest.mark.skipif(os.geteuid() != 0, reason="apt-get is for root")
@pytest.mark.parametrize(("code", "assume_yes"), [(0, False), (0, True), (100, True)])
def test_apt_is_told_what_to_install_and_asks_unless_told_otherwise(
    tmp_path, monkeypatch, capfd, code, assume_yes
):
    stand_in = tmp_path / "apt-get"  # the real one would change the machine that tests
    stand_in.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if code:
        with pytest.raises(NodeError, match="apt did not"):
            debian.install(["zlib1g"], assume_yes=assume_yes)
    else:
        debian.install(["zlib1g"], assume_yes=assume_yes)

    assert capfd.readouterr().out == f"install{' --yes' if assume_yes else ''} -- zlib1g\n"
