# SPDX-License-Identifier: BSD-3-Clause
"""The Debian package of a library, asked of this machine's own loader cache and dpkg."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from piwheels_node.libraries import debian_packages

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not a Debian")
ARCH = platform.machine()


def test_the_package_of_a_library_is_found_and_no_package_is_none():
    found = debian_packages(["libc.so.6", "libz.so.1", "libnobody.so.7"], ARCH)

    assert found == {"libc.so.6": "libc6", "libnobody.so.7": None, "libz.so.1": "zlib1g"}


def test_nothing_is_asked_for_nothing():
    assert debian_packages([], ARCH) == {}


def test_a_library_in_a_directory_that_the_wheel_names_is_found():
    command = ["dpkg-query", "-L", "perl-base", "coreutils", "util-linux", "libc6"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    gconv = next(Path(path) for path in listed if path.endswith("/gconv/UTF-16.so"))

    assert debian_packages(["UTF-16.so"], ARCH) == {"UTF-16.so": None}
    assert debian_packages(["UTF-16.so"], ARCH, ["/nowhere", str(gconv.parent)]) == {"UTF-16.so": "libc6"}


def test_a_library_that_no_package_has_is_none(tmp_path):
    (tmp_path / "libhome.so.1").write_bytes(b"")

    assert debian_packages(["libhome.so.1"], ARCH, [str(tmp_path)]) == {"libhome.so.1": None}


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b", "lib*.so", "-S", "libc.so.6\n"])
def test_hostile_names_are_libraries_of_nobody(name):
    assert debian_packages([name], ARCH, ["/usr/lib", "-S"]) == {name: None}


@pytest.mark.skipif(ARCH not in {"x86_64", "aarch64"}, reason="knows the other processor of two")
def test_libraries_of_another_processor_do_not_count():
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[ARCH]

    assert debian_packages(["libpython_of_nobody.so", "libz.so.1"], other)["libz.so.1"] is None
