# SPDX-License-Identifier: BSD-3-Clause
"""What the files of a wheel need: of each other as auditwheel and others lay them out, and of the system."""

from __future__ import annotations

import io

import pytest
from elfs import make_elf
from packaging.tags import parse_tag

from piwheels_node.elf import read_elf
from piwheels_node.linking import is_falsely_stable, link


def elves(**files):
    """ELF files as read, by their path in a wheel."""
    return {path: read_elf(io.BytesIO(content), path) for path, content in files.items()}


def extension(*needed, runpath=None):
    return make_elf(needed=list(needed), runpath=runpath, exports=["PyInit_x"])


def library(*needed, soname=None, runpath=None):
    return make_elf(needed=list(needed), soname=soname, runpath=runpath)


def test_a_library_that_auditwheel_put_beside_the_package_is_inside():
    found = link(
        elves(
            **{
                "pkg/x.so": extension("libfoo-0a1b.so.1", "libc.so.6", runpath="$ORIGIN/../pkg.libs"),
                "pkg.libs/libfoo-0a1b.so.1": library("libbar-2c3d.so.2", "libm.so.6", runpath="$ORIGIN"),
                "pkg.libs/libbar-2c3d.so.2": library("libz.so.1"),
            }
        )
    )

    assert found.outside == found.to_load == {"libc.so.6", "libm.so.6", "libz.so.1"}
    assert found.directories == ()


@pytest.mark.parametrize(
    "runpath", ["${ORIGIN}/.libs", "/opt/none:$ORIGIN/.libs/", "$ORIGIN/./.libs/../.libs"]
)
def test_origin_is_the_directory_of_the_file_however_it_is_written(runpath):
    found = link(
        elves(
            **{
                "pkg/deep/x.so": extension("libfoo.so.1", runpath=runpath),
                "pkg/deep/.libs/libfoo.so.1": library("libinner.so.3"),
                "other/libfoo.so.1": library("libouter.so.3"),
            }
        )
    )

    assert found.to_load == {"libinner.so.3"}, "the other one of that name is not the one that is loaded"
    assert found.outside == {"libinner.so.3", "libouter.so.3"}


def test_the_schemes_of_a_wheel_are_one_place_once_it_is_installed():
    found = link(
        elves(
            **{
                "pkg-1.data/platlib/pkg/x.so": extension("libfoo.so.1", runpath="$ORIGIN/../pkg.libs"),
                "pkg.libs/libfoo.so.1": library("libz.so.1"),
            }
        )
    )

    assert found.to_load == {"libz.so.1"}


def test_a_library_that_the_package_loads_by_itself_is_inside_by_file_name_or_soname():
    found = link(
        elves(
            **{
                "pkg/x.so": extension("libfoo.so.1", "libbar.so.2"),
                "pkg/lib/libfoo.so.1": library("libc.so.6"),
                "pkg/lib/bar-of-ours.so": library("libm.so.6", soname="libbar.so.2"),
            }
        )
    )

    assert found.to_load == {"libc.so.6", "libm.so.6"}


def test_what_only_a_plug_in_needs_is_not_needed_to_load():
    found = link(
        elves(
            **{
                "pkg/x.so": extension("libc.so.6"),
                "pkg/plugins/libcuda_backend.so": library("libcuda.so.1", "libc.so.6"),
            }
        )
    )

    assert found.outside == {"libc.so.6", "libcuda.so.1"}
    assert found.to_load == {"libc.so.6"}


def test_a_program_needs_its_libraries_as_an_extension_does():
    program = make_elf(needed=["libedit.so.2"], interpreter=True)

    assert link(elves(**{"tool-1.data/scripts/tool": program})).to_load == {"libedit.so.2"}


def test_libraries_that_need_each_other_come_to_an_end():
    found = link(
        elves(
            **{
                "x.so": extension("liba.so"),
                "liba.so": library("libb.so"),
                "libb.so": library("liba.so", "libc.so.6"),
            }
        )
    )

    assert found.to_load == {"libc.so.6"}


def test_directories_of_the_system_that_files_name_are_told():
    found = link(
        elves(
            **{
                "x.so": extension("libpulsecommon.so", runpath="/usr/lib/pulse:$ORIGIN/lib:relative"),
                "y.so": extension("libfoo.so", runpath="/usr/lib/pulse:/opt/$ORIGIN/lib"),
            }
        )
    )

    assert found.directories == ("/usr/lib/pulse",)


@pytest.mark.parametrize(
    ("tags", "files", "falsely"),
    [
        ("cp39-abi3-linux_armv7l", ["x.abi3.so"], False),
        ("cp39-abi3-linux_armv7l", ["x.so"], False),
        ("cp39-abi3-linux_armv7l", ["x.cpython-313-arm-linux-gnueabihf.so"], True),
        ("cp39-abi3-linux_armv7l", ["x.abi3.so", "y.cpython-313-arm-linux-gnueabihf.so"], True),
        ("cp315-abi3.abi3t-linux_armv7l", ["x.cpython-315t-arm-linux-gnueabihf.so"], True),
        ("cp313-cp313-linux_armv7l", ["x.cpython-313-arm-linux-gnueabihf.so"], False),
        ("py3-none-linux_armv7l", ["x.cpython-313-arm-linux-gnueabihf.so"], True),
        ("py3-none-linux_armv7l", ["x.cpython-313.so", "x.cpython-312.so"], False),
        ("py3-none-linux_armv7l", ["libx.so"], False),
    ],
)
def test_tags_for_many_pythons_and_an_extension_for_one_do_not_go_together(tags, files, falsely):
    wheel = elves(**dict.fromkeys(files, extension("libc.so.6")))

    assert is_falsely_stable(wheel, parse_tag(tags)) is falsely
