# SPDX-License-Identifier: BSD-3-Clause
"""Tables of a release, made of a home-made Contents index: what is read, what is kept, what is answered."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from piwheels_node.core.errors import NodeError, StorageError, UsageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.targets import Target
from piwheels_node.master.contents.lookup import Contents
from piwheels_node.master.contents.reading import Entry, entries
from piwheels_node.master.contents.table import Table, write
from piwheels_node.master.contents.update import made_tables, update

NOW = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
TARGET = Target.parse("cp313-linux_armv7l-debian13")
INDEX = b"""\
FILE                                                    LOCATION
bin/oldtool                                             utils/oldtool
etc/tiny.conf                                           utils/tiny
lib/arm-linux-gnueabihf/libtiny.so.1                    libs/libtiny1
usr/bin/tinyc                                           utils/tiny
usr/include/aarch64-linux-gnu/tiny.h                    libdevel/libtiny-dev-arm64-cross
usr/include/arm-linux-gnueabihf/tiny.h                  libdevel/libtiny-dev
usr/include/c++/14/vector                               libdevel/libstdc++-14-dev
usr/include/deep/down/under/alone.h                     libdevel/libdeep-dev
usr/include/many/util.h                                 libdevel/libmany-dev
usr/include/other/util.h                                libdevel/libother-dev
usr/include/python3.13/Python.h                         libdevel/libpython3.13-dev
usr/include/python3.13/greenlet/greenlet.h              python/python3-greenlet-dev
usr/include/tiny2/tiny/deep.h                           libdevel/libtiny-dev
usr/include/two of us.h                                 libdevel/libblank-dev
usr/include/twice.h                                     libdevel/libone-dev,libdevel/libtwo-dev
usr/include/free.h                          non-free/libdevel/libfree-nonfree-dev,libdevel/libfree-dev
usr/include/only-nonfree.h                              non-free/libdevel/libonly-dev
usr/include/docs.h                                      libdevel/libdocs-dev,doc/docs-examples
usr/include/evil.h                                      libdevel/../../etc,libdevel/Evil
usr/lib/arm-linux-gnueabihf/libtiny.a                   libdevel/libtiny-dev
usr/lib/arm-linux-gnueabihf/libtiny.so                  libdevel/libtiny-dev
usr/lib/arm-linux-gnueabihf/libtiny.so.1.2              libs/libtiny1
usr/lib/arm-linux-gnueabihf/pkgconfig/tiny.pc           libdevel/libtiny-dev
usr/lib/arm-linux-gnueabihf/plugins/libhidden.so        libs/plugins
usr/lib/libplain.so                                     libdevel/libplain-dev
usr/lib/x86_64-linux-gnu/libforeign.so                  libdevel/libforeign-dev
usr/sbin/tinyd                                          utils/tiny
usr/share/doc/tiny/copyright                            utils/tiny
usr/share/pkgconfig/shared.pc                           x11/shared-data
"""


def lines(data: bytes = INDEX) -> list[bytes]:
    return data.splitlines(keepends=True)


def tell(_words: str, _percent: float | None) -> None:
    pass


@pytest.fixture
def made(tmp_path) -> Path:
    file = tmp_path / "Contents-armhf.gz"
    file.write_bytes(gzip.compress(INDEX))
    update(tmp_path / "contents", "trixie", "armhf", files=[file], now=NOW, tell=tell)
    return tmp_path / "contents"


@pytest.fixture
def table(made) -> Table:
    return Table(made / "debian13-armhf.db")


@pytest.mark.parametrize(
    ("kind", "name", "packages"),
    [
        ("header", "tiny.h", {"libtiny-dev"}),  # not what another architecture has
        ("header", "tiny2/tiny/deep.h", {"libtiny-dev"}),
        ("header", "two of us.h", {"libblank-dev"}),
        ("header", "twice.h", {"libone-dev", "libtwo-dev"}),
        ("header", "free.h", {"libfree-dev"}),  # main goes first
        ("header", "only-nonfree.h", {"libonly-dev"}),
        ("header", "docs.h", {"libdocs-dev"}),  # to compile, a -dev package
        ("header", "python3.13/Python.h", {"libpython3.13-dev"}),
        ("library", "tiny", {"libtiny-dev"}),  # not libtiny1, whose .so has a number
        ("library", "plain", {"libplain-dev"}),
        ("pkg-config", "tiny", {"libtiny-dev"}),
        ("pkg-config", "shared", {"shared-data"}),
        ("tool", "tinyc", {"tiny"}),
        ("tool", "tinyd", {"tiny"}),
        ("tool", "oldtool", {"oldtool"}),
        ("header", "vector", set()),
        ("header", "evil.h", set()),
        ("header", "python3.13/greenlet/greenlet.h", set()),
        ("library", "hidden", set()),  # no linker looks there
        ("library", "foreign", set()),
        ("header", "zzz.h", set()),
        ("header", "", set()),
    ],
)
def test_a_name_has_the_packages_that_a_build_needs_for_it(table, kind, name, packages):
    assert table.exact(kind, name) == packages


def test_paths_are_found_by_their_end(table):
    assert table.below("header", "util.h") == {
        "many/util.h": {"libmany-dev"},
        "other/util.h": {"libother-dev"},
    }
    assert table.below("header", "ny/deep.h") == {}


@pytest.mark.parametrize(
    ("reason", "captured", "package"),
    [
        (FailureReason.MISSING_HEADER, "tiny.h", "libtiny-dev"),
        (FailureReason.MISSING_HEADER, "/usr/include/arm-linux-gnueabihf/tiny.h", "libtiny-dev"),
        (FailureReason.MISSING_HEADER, "tiny/deep.h", "libtiny-dev"),  # one directory more: pkg-config has it
        (FailureReason.MISSING_HEADER, "under/alone.h", None),  # two more: a coincidence
        (FailureReason.MISSING_HEADER, "util.h", None),
        (FailureReason.MISSING_HEADER, "deep.h", None),
        (FailureReason.MISSING_HEADER, "twice.h", None),
        (FailureReason.MISSING_HEADER, "zlib.h", "zlib1g-dev"),  # the bundled table knows what this one lacks
        (FailureReason.MISSING_HEADER, "Python.h", "python3-dev"),
        (FailureReason.MISSING_LIBRARY, "-ltiny", "libtiny-dev"),
        (FailureReason.MISSING_PKG_CONFIG, "tiny >= 2", "libtiny-dev"),
        (FailureReason.MISSING_TOOL, "/usr/bin/tinyc", "tiny"),
        (FailureReason.COMPILER_ERROR, "tiny.h", None),
    ],
)
def test_one_package_is_named_and_several_are_not(made, reason, captured, package):
    assert Contents(made).package(reason, captured, TARGET) == package


def test_the_release_and_processor_of_the_target_decide_which_table_is_asked(made):
    def asked(target: str) -> str | None:
        return Contents(made).package(FailureReason.MISSING_HEADER, "tiny.h", Target.parse(target))

    assert asked("cp313-linux_armv6l-debian13") == "libtiny-dev"
    assert asked("cp311-linux_armv7l-debian12") is None
    assert asked("cp313-linux_aarch64-debian13") is None
    assert asked("cp313-linux_armv7l-glibc2.41") is None
    assert Contents(made).package(FailureReason.MISSING_HEADER, "tiny.h", None) is None


def test_the_usual_package_of_a_checked_release_goes_before_who_has_the_file(tmp_path):
    rows = [Entry("header", "pcap.h", "libpcap0.8-dev", is_main=True)]
    for release in ("debian13", "debian11"):
        write(tmp_path / f"{release}-armhf.db", rows, {}, NOW)

    def asked(target: str) -> str | None:
        return Contents(tmp_path).package(FailureReason.MISSING_HEADER, "pcap.h", Target.parse(target))

    assert asked("cp313-linux_armv7l-debian13") == "libpcap-dev"
    assert asked("cp39-linux_armv7l-debian11") == "libpcap0.8-dev"


def test_candidates_list_what_is_not_sure(made):
    found = Contents(made).candidates("header", "util.h", TARGET)

    assert found["many/util.h"] == ["libmany-dev"]
    assert found["other/util.h"] == ["libother-dev"]
    assert Contents(made).candidates("header", "twice.h", TARGET) == {"twice.h": ["libone-dev", "libtwo-dev"]}
    assert Contents(made).candidates("tool", "nothing-has-this", TARGET) == {}


def test_names_are_found_wherever_their_block_begins(tmp_path):
    rows = [Entry("header", f"d{n % 7}/name{n:05}.h", f"lib{n}-dev", is_main=True) for n in range(5_000)]
    path = tmp_path / "debian13-armhf.db"
    assert write(path, rows, {}, NOW) == len(rows)

    table = Table(path)
    wrong = [row for row in rows if table.exact(row.kind, row.name) != {row.package}]
    assert wrong == []
    assert path.stat().st_size < 100_000


def test_a_table_stays_where_making_the_next_one_fails(made, tmp_path):
    before = (made / "debian13-armhf.db").read_bytes()
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(INDEX * 1000)[:-5000])
    empty = tmp_path / "empty"
    empty.write_text("usr/share/doc/x  utils/x\n")

    with pytest.raises(NodeError, match="cannot be read"):
        update(made, "trixie", "armhf", files=[cut], now=NOW, tell=tell)
    with pytest.raises(StorageError, match="nothing in this index"):
        update(made, "trixie", "armhf", files=[empty], now=NOW, tell=tell)

    assert [path.name for path in made.iterdir()] == ["debian13-armhf.db"]
    assert (made / "debian13-armhf.db").read_bytes() == before


def test_what_there_is_says_when_it_was_made_and_of_what(made):
    [(name, facts)] = made_tables(made)

    assert name == "debian13-armhf"
    assert facts["made_at"] == NOW.isoformat()
    assert facts["sources"] == "Contents-armhf.gz"
    assert int(facts["names"]) == 18  # each of the cases above that has a package


@pytest.mark.parametrize(
    ("release", "architecture"), [("../x", "armhf"), ("trixie", "../x"), ("jessie", "armhf")]
)
def test_only_releases_and_architectures_that_we_know_become_the_name_of_a_file(
    tmp_path, release, architecture
):
    with pytest.raises(UsageError):
        update(tmp_path, release, architecture, files=[], now=NOW, tell=tell)


def test_hostile_lines_are_passed_over():
    hostile = [
        b"usr/include/\xff\xfe.h libdevel/libx-dev\n",
        b"usr/include/x.h\n",
        b"usr/include/ libdevel/libx-dev\n",
        b"usr/include/" + b"x" * 100_000 + b" libdevel/libx-dev\n",
        b"usr/bin/x utils/-rf\n",
        b"usr/bin/x utils/a b\n",
        b"\n",
    ]
    assert list(entries(hostile, "armhf")) == []
