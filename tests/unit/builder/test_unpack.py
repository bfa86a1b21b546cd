# SPDX-License-Identifier: BSD-3-Clause
import io
import os
import tarfile

import pytest

from piwheels_node.builder.halt import Halt
from piwheels_node.builder.roots.unpack import Bounds, link_tops, unpack
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason


def member(name, kind=tarfile.REGTYPE, content=b"", *, link="", mode=0o644, **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def stream(*members):
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    whole.seek(0)
    return whole


def unpack_here(directory, *members, bounds=None):
    unpack(stream(*members), directory, halt=Halt(), bounds=bounds or Bounds(), only=("usr",))
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


def test_files_are_laid_out_as_on_a_merged_system(tmp_path):
    found = unpack_here(
        tmp_path,
        member("./lib", tarfile.SYMTYPE, link="usr/lib"),
        member("./lib/one.so", content=b"1"),
        member("usr/include/two.h", content=b"2"),
        member("usr/lib/three.so", tarfile.SYMTYPE, link="one.so"),
        member("usr/lib/four.so", tarfile.LNKTYPE, link="./usr/lib/one.so"),
        member("etc/five", content=b"5"),
        member("usr/share/doc/six", content=b"6"),
    )
    assert found == ["usr/include/two.h", "usr/lib/four.so", "usr/lib/one.so", "usr/lib/three.so"]
    assert (tmp_path / "usr/lib/four.so").read_bytes() == b"1"


def test_no_file_has_more_rights_than_a_file_needs(tmp_path):
    unpack_here(
        tmp_path,
        member("usr/bin/sudo", content=b"x", mode=0o6755),
        member("usr/lib/all", content=b"x", mode=0o666),
        member("usr/lib/shut", tarfile.DIRTYPE, mode=0),
    )
    assert os.stat(tmp_path / "usr/bin/sudo").st_mode & 0o7777 == 0o755
    assert os.stat(tmp_path / "usr/lib/all").st_mode & 0o7777 == 0o644
    assert os.stat(tmp_path / "usr/lib/shut").st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "members",
    [
        [member("usr/../../outside", content=b"x")],
        [member("../outside", content=b"x")],
        [member("/usr/outside", content=b"x")],
        [member("usr/way", tarfile.SYMTYPE, link="../.."), member("usr/way/outside", content=b"x")],
        [member("usr/way", tarfile.SYMTYPE, link="lib"), member("usr/way/deep/er", content=b"x")],
        [member("usr/lib/passwd", tarfile.LNKTYPE, link="../../etc/passwd")],
        [member("usr/lib/passwd", tarfile.LNKTYPE, link="usr/nothing")],
        [member("usr/a", tarfile.SYMTYPE, link="b"), member("usr/c", tarfile.LNKTYPE, link="usr/a")],
        [member("usr/lib/null", tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [member("usr/lib/gcc", tarfile.CHRTYPE, devmajor=0, devminor=0)],
        [member("usr/lib/disk", tarfile.BLKTYPE, devmajor=8)],
        [member("usr/lib/pipe", tarfile.FIFOTYPE)],
        [member("usr/lib", content=b"x"), member("usr/lib/a", content=b"x")],
        [member("usr/lib/a", content=b"x"), member("usr/lib", content=b"x")],
        [member("usr/lib/a", content=b"x"), member("usr/lib/a", tarfile.DIRTYPE)],
        [member(f"usr/{'n' * 300}", content=b"x")],
        [member("usr/long", tarfile.SYMTYPE, link="l" * 5000)],
    ],
)
def test_a_package_that_reaches_outside_or_is_no_tree_of_files_is_refused(tmp_path, members):
    inside = tmp_path / "inside" / "of"
    inside.mkdir(parents=True)
    with pytest.raises(BuildError) as refused:
        unpack_here(inside, *members)
    assert refused.value.reason is FailureReason.LAYER_FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in inside.parent.iterdir()] == ["of"]


@pytest.mark.parametrize("bounds", [Bounds(size_bytes=10), Bounds(members=2)])
def test_a_package_is_bounded(tmp_path, bounds):
    members = [member(f"usr/lib/{number}", content=b"four") for number in range(3)]
    with pytest.raises(BuildError, match="larger than"):
        unpack_here(tmp_path, *members, bounds=bounds)


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(BuildError) as refused:
        unpack(io.BytesIO(b"nothing of the kind" * 100), tmp_path, halt=Halt(), bounds=Bounds())
    assert refused.value.reason is FailureReason.LAYER_FAILED


def test_a_root_gets_the_links_of_a_merged_system(tmp_path):
    unpack_here(
        tmp_path, member("lib64", tarfile.SYMTYPE, link="usr/lib64"), member("usr/lib/x", content=b"x")
    )
    link_tops(tmp_path)
    assert os.readlink(tmp_path / "lib") == "usr/lib"
    assert not (tmp_path / "lib64").exists()
