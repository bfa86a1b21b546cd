# SPDX-License-Identifier: BSD-3-Clause
"""Source archives as hostile input: what is refused, and that a refusal leaves nothing outside."""

from __future__ import annotations

import dataclasses
import gzip
import io
import tarfile
import zipfile

import pytest
from sdists import make_sdist

from piwheels_node.builder.source import build_system, check_requirement, unpack
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.settings import BuilderSettings

SETTINGS = BuilderSettings()


def tar_of(path, *members):
    """Write a .tar.gz of (TarInfo fields, content) and return its path."""
    with tarfile.open(path, "w:gz") as tar:
        for fields, content in members:
            info = tarfile.TarInfo(fields.pop("name"))
            for key, value in fields.items():
                setattr(info, key, value)
            info.size = fields.get("size", len(content))
            tar.addfile(info, io.BytesIO(content))
    return path


def refused(archive, tmp_path, settings=SETTINGS):
    """Unpack an archive that must be refused; gives the error."""
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")}
    with pytest.raises(BuildError) as caught:
        unpack(archive, tmp_path / "out", settings)
    assert before == {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")}
    assert caught.value.reason is FailureReason.BAD_ARCHIVE
    return caught.value


def test_an_sdist_is_unpacked_without_its_top_directory(tmp_path):
    unpack(make_sdist(tmp_path, "tiny", "1.0"), tmp_path / "out", SETTINGS)

    assert (tmp_path / "out" / "pyproject.toml").is_file()
    assert (tmp_path / "out" / "src" / "tiny.py").read_text() == "VERSION = '1.0'\n"


def test_a_zip_is_unpacked_as_well(tmp_path):
    archive = tmp_path / "tiny-1.0.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("tiny-1.0/setup.py", "print()")

    unpack(archive, tmp_path / "out", SETTINGS)

    assert (tmp_path / "out" / "setup.py").read_text() == "print()"


def test_only_the_executable_bit_of_a_mode_is_kept(tmp_path):
    archive = tar_of(
        tmp_path / "a-1.tar.gz",
        ({"name": "a-1/configure", "mode": 0o4777}, b"#!/bin/sh"),
        ({"name": "a-1/data", "mode": 0o600}, b""),
    )

    unpack(archive, tmp_path / "out", SETTINGS)

    assert (tmp_path / "out" / "configure").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out" / "data").stat().st_mode & 0o7777 == 0o644


def test_links_inside_the_archive_are_kept_and_hard_links_become_files(tmp_path):
    archive = tar_of(
        tmp_path / "a-1.tar.gz",
        ({"name": "a-1/link", "type": tarfile.SYMTYPE, "linkname": "sub/../file"}, b""),
        ({"name": "a-1/hard", "type": tarfile.LNKTYPE, "linkname": "a-1/file"}, b""),
        ({"name": "a-1/file"}, b"content"),
    )

    unpack(archive, tmp_path / "out", SETTINGS)

    assert (tmp_path / "out" / "link").is_symlink()
    assert (tmp_path / "out" / "hard").read_bytes() == b"content"
    assert (tmp_path / "out" / "hard").stat().st_nlink == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a-1/../../escaped"},
        {"name": "/etc/escaped"},
        {"name": "../escaped"},
        {"name": "a-1/x\\..\\escaped"},
        {"name": "a-1/link", "type": tarfile.SYMTYPE, "linkname": "../../outside"},
        {"name": "a-1/link", "type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"name": "a-1/sub/link", "type": tarfile.SYMTYPE, "linkname": "../../outside"},
        {"name": "a-1/hard", "type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
        {"name": "a-1/hard", "type": tarfile.LNKTYPE, "linkname": "a-1/../../outside"},
        {"name": "a-1/null", "type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"name": "a-1/disk", "type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0},
        {"name": "a-1/pipe", "type": tarfile.FIFOTYPE},
        {"name": "a-1/" + "d/" * 100 + "deep"},
        {"name": "a-1/" + "n" * 2000},
        {"name": "other/file"},
    ],
    ids=lambda fields: f"{fields['name'][:20]} {fields.get('linkname', '')}",
)
def test_a_member_that_is_no_plain_file_inside_is_refused(tmp_path, fields):
    (tmp_path / "outside").write_text("untouched")
    archive = tar_of(tmp_path / "a-1.tar.gz", ({"name": "a-1/setup.py"}, b""), (fields, b""))

    refused(archive, tmp_path)

    assert (tmp_path / "outside").read_text() == "untouched"


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path):
    archive = tar_of(
        tmp_path / "a-1.tar.gz",
        ({"name": "a-1/sub", "type": tarfile.SYMTYPE, "linkname": "other"}, b""),
        ({"name": "a-1/sub/file"}, b"content"),
        ({"name": "a-1/other/x"}, b""),
    )

    refused(archive, tmp_path)


def test_a_link_to_a_link_cannot_lead_out(tmp_path):
    (tmp_path / "outside").mkdir()
    archive = tar_of(
        tmp_path / "a-1.tar.gz",
        ({"name": "a-1/d/e/f"}, b""),
        ({"name": "a-1/up", "type": tarfile.SYMTYPE, "linkname": "d/e"}, b""),
        ({"name": "a-1/up/out", "type": tarfile.SYMTYPE, "linkname": "x"}, b""),
    )

    refused(archive, tmp_path)


def test_what_unpacks_to_more_than_the_bound_is_refused_before_it_is_written(tmp_path):
    small = dataclasses.replace(SETTINGS, unpacked_max_bytes=1 << 20)
    archive = tar_of(tmp_path / "a-1.tar.gz", ({"name": "a-1/zeros"}, bytes(50 << 20)))

    error = refused(archive, tmp_path, small)

    assert "more than 1048576 bytes" in str(error)
    assert (tmp_path / "out" / "zeros").stat().st_size <= 1 << 20


def test_more_members_than_the_bound_are_refused(tmp_path):
    few = dataclasses.replace(SETTINGS, unpacked_max_members=100)
    archive = tar_of(tmp_path / "a-1.tar.gz", *(({"name": f"a-1/{n}"}, b"") for n in range(200)))

    assert "more than 100 members" in str(refused(archive, tmp_path, few))


def test_a_header_that_claims_gigabytes_is_not_kept_in_memory(tmp_path):
    header = tarfile.TarInfo("a-1/pax")
    header.type, header.size = tarfile.XHDTYPE, 3 << 30
    archive = tmp_path / "a-1.tar.gz"
    with gzip.open(archive, "wb") as file:
        file.write(header.tobuf(tarfile.PAX_FORMAT))
        file.write(bytes(20 << 20))  # more than is read into memory at once

    assert "header of 3221225472 bytes" in str(refused(archive, tmp_path))


def test_an_archive_that_ends_in_the_middle_of_a_file_is_refused(tmp_path):
    archive = tar_of(tmp_path / "whole.tar.gz", ({"name": "a-1/setup.py"}, b"x" * 5000))
    cut = tmp_path / "a-1.tar.gz"
    cut.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes())[:3000]))

    refused(cut, tmp_path)


def test_what_is_too_large_for_memory_is_unpacked_all_the_same(tmp_path):
    archive = tar_of(
        tmp_path / "a-1.tar.gz", ({"name": "a-1/big"}, bytes(20 << 20)), ({"name": "a-1/last"}, b"end")
    )

    unpack(archive, tmp_path / "out", SETTINGS)

    assert (tmp_path / "out" / "big").stat().st_size == 20 << 20
    assert (tmp_path / "out" / "last").read_bytes() == b"end"


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", gzip.compress(b"no tar at all" * 100), gzip.compress(bytes(10240))[:-20]],
    ids=["empty", "no gzip", "no tar", "cut short"],  # the bytes of gzip have the time in them
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    archive = tmp_path / "a-1.tar.gz"
    archive.write_bytes(content)

    refused(archive, tmp_path)


def test_a_broken_or_encrypted_zip_is_refused(tmp_path):
    archive = tmp_path / "a-1.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a-1/setup.py", "x")
    broken = bytearray(archive.read_bytes())
    broken[broken.index(b"PK\x01\x02") + 8] |= 1  # encrypted, says the directory
    archive.write_bytes(bytes(broken))

    refused(archive, tmp_path)


def source_of(tmp_path, pyproject, **files):
    """A source tree with this pyproject.toml."""
    (tmp_path / "pyproject.toml").write_text(pyproject)
    for name, content in files.items():
        (tmp_path / name).mkdir() if content is None else (tmp_path / name).write_text(content)
    return tmp_path


def test_a_source_without_a_build_system_is_built_by_setuptools(tmp_path):
    (tmp_path / "setup.py").write_text("")

    system = build_system(tmp_path)

    assert (system.backend, system.requires) == (
        "setuptools.build_meta:__legacy__",
        ("setuptools>=40.8.0",),
    )


def test_the_build_system_is_read_from_pyproject(tmp_path):
    source = source_of(
        tmp_path,
        '[build-system]\nrequires = ["flit_core<4"]\nbuild-backend = "b:api"\nbackend-path = ["back"]',
        back=None,
    )

    system = build_system(source)

    assert (system.backend, system.backend_path, system.requires) == ("b:api", ("back",), ("flit_core<4",))


@pytest.mark.parametrize(
    "pyproject",
    [
        "not toml",
        "[build-system]\nbuild-backend = 'b'",
        "[build-system]\nrequires = 'text'",
        "[build-system]\nrequires = [1]",
        "[build-system]\nrequires = []\nbuild-backend = 1",
        "[build-system]\nrequires = []\nbackend-path = ['..']",
        "[build-system]\nrequires = []\nbackend-path = ['/etc']",
        "[build-system]\nrequires = []\nbackend-path = ['missing']",
        "[build-system]\nrequires = ['--index-url=http://127.0.0.1']",
        "[build-system]\nrequires = ['not a requirement!']",
        "x = " + "[" * 5000,
    ],
)
def test_a_build_system_that_cannot_be_used_is_bad_metadata(tmp_path, pyproject):
    with pytest.raises(BuildError) as caught:
        build_system(source_of(tmp_path, pyproject))

    assert caught.value.reason is FailureReason.BAD_METADATA


def test_pyproject_as_a_link_is_not_followed(tmp_path):
    (tmp_path / "pyproject.toml").symlink_to("/etc/passwd")

    with pytest.raises(BuildError) as caught:
        build_system(tmp_path)

    assert caught.value.reason is FailureReason.BAD_METADATA


def test_a_source_with_neither_file_is_bad_metadata(tmp_path):
    with pytest.raises(BuildError) as caught:
        build_system(tmp_path)

    assert caught.value.reason is FailureReason.BAD_METADATA


def test_a_requirement_by_url_is_refused():
    with pytest.raises(BuildError) as caught:
        check_requirement("x @ http://127.0.0.1/x.whl")

    assert (caught.value.reason, caught.value.captured) == (
        FailureReason.REQUIREMENT_MISSING,
        "x @ http://127.0.0.1/x.whl",
    )
