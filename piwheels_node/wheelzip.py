# SPDX-License-Identifier: BSD-3-Clause
"""The zip layer of a wheel as hostile input: opened only when its list of members is bounded and plain.

    end record (how many members, how long is the list) -> the list -> each member's name, kind and size

zipfile reads the whole list of members into memory, so the end record is checked before it may. A name that
two programs could understand in two ways is refused: a wheel must be the same for pip, uv and us.
`piwheels_node.wheelfile` is what others call. This module imports only the standard library and `core`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason

MAX_MEMBERS = 100_000
"""The largest wheels met have some 20,000 files; the list of this many takes 60 MB of memory."""

_MAX_LIST_BYTES = 32 << 20
_MAX_NAME_BYTES = 1024
_MAX_PART_BYTES = 255  # NAME_MAX of ext4: a longer one cannot be installed
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|^[A-Za-z]:|^/")
_FLAG_ENCRYPTED = 0x1 | 0x40
_FLAG_PATCH = 0x20


def invalid(what: str, where: str) -> WheelError:
    """The error for a wheel that contradicts itself or is no wheel."""
    return WheelError(FailureReason.WHEEL_INVALID, what, where=where)


@contextmanager
def zip_errors(where: str) -> Iterator[None]:
    """Turn what zipfile and zlib raise on a broken archive into WheelError(WHEEL_INVALID)."""
    try:
        yield
    except WheelError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        LookupError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
    ) as error:
        raise invalid(f"a broken zip file: {str(error)[:200] or type(error).__name__}", where) from error
    except OSError as error:
        if (
            error.errno != errno.EINVAL
        ):  # a seek to where no file can be is the archive's lie, all else the disk's
            raise
        raise invalid("a broken zip file: an offset of its own is no place in it", where) from error


def open_zip(file: BinaryIO, where: str, max_unpacked_bytes: int) -> zipfile.ZipFile:
    """Open a seekable file as a zip whose members are bounded, regular, and plainly named.

    Raises WheelError: WHEEL_TOO_BIG beyond a bound, WHEEL_INVALID for everything else. Sizes are those that
    the list declares: `zipfile` never inflates more than that, and checks the CRC of what it inflated.
    """
    with zip_errors(where):
        _check_end(file, where)
        archive = zipfile.ZipFile(file)
        try:
            members = archive.infolist()
            _check_names(members, where)
            if len({member.header_offset for member in members}) < len(members):  # a zip bomb is made so
                raise invalid("two members are the same bytes of the archive", where)
            unpacked = 0
            for member in members:
                _check_member(member, f"{where}: {member.filename[:200]!r}")
                unpacked += member.file_size
            if unpacked > max_unpacked_bytes:
                what = f"it unpacks to {unpacked} bytes, and {max_unpacked_bytes} are allowed"
                raise WheelError(FailureReason.WHEEL_TOO_BIG, what, where=where)
        except BaseException:
            archive.close()
            raise
        return archive


def _check_end(file: BinaryIO, where: str) -> None:
    """Read the end records as zipfile will, and bound what they announce."""
    size = file.seek(0, os.SEEK_END)
    end_at = size - _END.size
    if end_at < 0:
        raise invalid("too short for a zip file", where)
    end = _END.unpack(_read_at(file, end_at, _END.size))
    if end[0] != b"PK\x05\x06" or end[7] != 0:
        raise invalid("it does not end as a zip file without a comment does", where)
    members, list_bytes, list_at = end[4], end[5], end[6]
    list_end = end_at
    locator_at = end_at - _LOCATOR64.size
    if locator_at >= 0:
        locator = _LOCATOR64.unpack(_read_at(file, locator_at, _LOCATOR64.size))
        if locator[0] == b"PK\x06\x07":
            list_end = locator_at - _END64.size
            if locator[2] != list_end:
                raise invalid("its zip64 records contradict each other", where)
            end64 = _END64.unpack(_read_at(file, list_end, _END64.size))
            members, list_bytes, list_at = end64[7], end64[8], end64[9]
    if members > MAX_MEMBERS or list_bytes > _MAX_LIST_BYTES:
        what = f"it has {members} members, listed in {list_bytes} bytes"
        raise WheelError(FailureReason.WHEEL_TOO_BIG, what, where=where)
    if list_at + list_bytes != list_end:
        raise invalid("there are bytes in it that are no part of the zip file", where)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _check_names(members: list[zipfile.ZipInfo], where: str) -> None:
    """Every path once, also for a file system that knows no upper case, and no file is also a directory."""
    seen: dict[str, str] = {}
    files: set[str] = set()
    directories: set[str] = set()
    for member in members:
        name = member.filename
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in seen:
            raise invalid(f"two members have the names {seen[plain][:200]!r} and {name[:200]!r}", where)
        seen[plain] = name
        if not name.endswith("/"):
            files.add(plain)
        directories.update(_parents(plain))
    both = files & directories
    if both:
        raise invalid(f"{min(both)[:200]!r} is a file and a directory", where)


def _parents(path: str) -> Iterator[str]:
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    name = member.filename
    path = name.removesuffix("/")
    if member.orig_filename != name or _BAD_CHARACTERS.search(name):
        raise invalid("a member's name is not a plain relative path", where)
    parts = path.split("/")
    encoded = [len(part.encode()) for part in parts]
    if any(part in {"", ".", ".."} for part in parts):
        raise invalid("a member's name leads out of the wheel, or around in it", where)
    if max(encoded) > _MAX_PART_BYTES or sum(encoded) + len(parts) > _MAX_NAME_BYTES:
        raise invalid("a member's name is too long to be installed", where)
    if member.flag_bits & (_FLAG_ENCRYPTED | _FLAG_PATCH):
        raise invalid("a member is encrypted", where)
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise invalid("a member is packed in a way that not every installer knows", where)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG}:
        raise invalid("a member is neither a file nor a directory", where)
    if name.endswith("/") and member.file_size:
        raise invalid("a directory has a content", where)
