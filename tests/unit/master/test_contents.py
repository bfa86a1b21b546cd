# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian package has what a build missed; and no guess where that is not sure."""

from __future__ import annotations

from importlib import resources

import pytest

from piwheels_node.core.failure import FailureReason
from piwheels_node.master.contents.lookup import SmallTable, by_its_end, debian_package

HEADER = FailureReason.MISSING_HEADER
LIBRARY = FailureReason.MISSING_LIBRARY
PKG_CONFIG = FailureReason.MISSING_PKG_CONFIG
TOOL = FailureReason.MISSING_TOOL


@pytest.mark.parametrize(
    ("reason", "captured", "package"),
    [
        (HEADER, "cups/http.h", "libcups2-dev"),
        (HEADER, "ffi.h", "libffi-dev"),
        (HEADER, "Python.h", "python3-dev"),
        (HEADER, "openssl/ssl.h", "libssl-dev"),
        (HEADER, "libxml/xmlversion.h", "libxml2-dev"),
        (HEADER, "sys/capability.h", "libcap-dev"),
        (HEADER, "bluetooth/bluetooth.h", "libbluetooth-dev"),
        (HEADER, "dbus/dbus.h", "libdbus-1-dev"),
        (HEADER, " zlib.h\n", "zlib1g-dev"),
        (HEADER, "/usr/include/zlib.h", "zlib1g-dev"),
        (HEADER, "/usr/include/arm-linux-gnueabihf/ffi.h", "libffi-dev"),
        (LIBRARY, "ssl", "libssl-dev"),
        (LIBRARY, "-lssl", "libssl-dev"),
        (LIBRARY, "libssl.so", "libssl-dev"),
        (LIBRARY, "libssl.so.3", "libssl-dev"),
        (LIBRARY, "libz.a", "zlib1g-dev"),
        (PKG_CONFIG, "dbus-1", "libdbus-1-dev"),
        (PKG_CONFIG, "libxml-2.0 >= 2.9", "libxml2-dev"),
        (PKG_CONFIG, "cairo.pc", "libcairo2-dev"),
        (TOOL, "cmake", "cmake"),
        (TOOL, "/usr/bin/pg_config", "libpq-dev"),
        (TOOL, "arm-linux-gnueabihf-gcc", "gcc"),
    ],
)
def test_a_common_name_is_known(reason, captured, package):
    assert debian_package(reason, captured) == package


@pytest.mark.parametrize(
    ("reason", "captured"),
    [
        (HEADER, "nobody-has-this.h"),
        (HEADER, "third_party/zlib.h"),  # their own copy is missing: zlib1g-dev would not help
        (HEADER, "http.h"),  # cups has one, and so have a hundred others
        (HEADER, "../../ssl.h"),
        (HEADER, "/"),
        (HEADER, ""),
        (HEADER, None),
        (LIBRARY, "ffi.h"),
        (LIBRARY, "/"),
        (TOOL, "zlib.h"),
        (FailureReason.MISSING_MODULE, "ffi.h"),
        (FailureReason.COMPILER_ERROR, "cmake"),
    ],
)
def test_what_is_not_sure_is_not_said(reason, captured):
    assert debian_package(reason, captured) is None


@pytest.mark.parametrize(
    ("captured", "package"),
    [
        ("deps/openssl/ssl.h", "libssl-dev"),
        ("libxml2/libxml/parser.h", "libxml2-dev"),
        ("x/Eigen/Dense", "libeigen3-dev"),
    ],
)
def test_a_header_is_also_known_by_the_end_of_its_path(captured, package):
    assert debian_package(HEADER, captured) == package


def test_the_longest_end_decides_and_a_tie_of_two_packages_says_nothing():
    rows = {"a/x.h": "short", "b/a/x.h": "long", "p/y/z.h": "one", "q/y/z.h": "other"}
    table = SmallTable({("header", name): package for name, package in rows.items()})

    assert by_its_end(table, "c/b/a/x.h") == {"long"}
    assert by_its_end(table, "y/z.h") == {"one", "other"}
    assert by_its_end(table, "r/p/y/z.h") == {"one"}
    assert by_its_end(table, "z.h") == by_its_end(table, "/") == by_its_end(table, "x//z.h") == frozenset()


def test_the_table_has_each_name_once_and_nothing_odd():
    text = resources.files("piwheels_node.master").joinpath("data/contents-common.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]

    assert {len(row) for row in rows} == {3}
    assert {row[0] for row in rows} == {"header", "library", "pkg-config", "tool"}
    assert len({(kind, name) for kind, name, _ in rows}) == len(rows) > 150
    assert all(all(part == part.strip() != "" for part in row) for row in rows)
