# SPDX-License-Identifier: BSD-3-Clause
"""Wheels as hostile input: what a wheel is, read from its bytes alone, and the same wheel under another name.

    file name -> zip layer (`wheelzip`) -> METADATA, WHEEL, RECORD -> every member once: hash, size, ELF

A wheel is taken only if everything in it agrees: file name, dist-info, METADATA, WHEEL, RECORD, the job and
its target (design, rule 7). Members are streamed; of the wheel only its list of members, its metadata and
its RECORD are ever in memory, and an ELF file is copied to a temporary file while it is hashed.

Native code in a wheel that says it fits every platform is WHEEL_WRONG_ARCH. Only what a loader would load is
native code: object files and the firmware of microcontrollers are data.
Builder, master and consumer use this. It imports only the standard library, packaging and `core`, and our
`elf`, `linking` and `wheelzip`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import tempfile
import threading
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import BinaryIO, cast

from packaging.tags import Tag, parse_tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.namespaces import MAX_BYTES, only_joins_namespaces
from piwheels_node.core.targets import Target
from piwheels_node.core.wheels import WheelName
from piwheels_node.elf import MAGIC, ElfFacts, read_elf
from piwheels_node.linking import Linking, is_falsely_stable, link
from piwheels_node.wheelzip import invalid, open_zip, zip_errors

_CHUNK_BYTES = 1 << 20
_ELF_IN_MEMORY_BYTES = 4 << 20
_MAX_METADATA_BYTES = 16 << 20
_MAX_HEADER_BYTES = 1 << 20
_MAX_WHEEL_BYTES = 1 << 20
_MAX_RECORD_BYTES = 32 << 20
_RECORD_COLUMNS = 3
_RECORD_HASHES = frozenset({"sha256", "sha384", "sha512"})  # PEP 427 wants sha256 or better
_SCHEMES = frozenset({"purelib", "platlib", "scripts", "headers", "data"})
_PLATFORM = re.compile(r"(?:linux|manylinux\d+|manylinux_\d+_\d+|musllinux_\d+_\d+)_(?P<arch>\w+)")
_SCRIPT = re.compile(r"[^/]+\.data/scripts/")
_PTH = re.compile(
    r"(?:[^/]+\.data/(?:purelib|platlib)/|[^/]+\.data/data/(?:.+/)?(?:site|dist)-packages/)?[^/]+\.pth"
)


@dataclass(frozen=True)
class WheelFacts:
    """What a wheel is, once it has been read and believed."""

    name: WheelName
    metadata: bytes
    "The METADATA file, byte for byte: what the index serves as core metadata (PEP 658)."
    requires_python: str | None
    extensions: tuple[str, ...]
    "Member paths of the extension modules."
    linking: Linking
    stable_abi: bool
    "False where its tags say that it fits many Pythons, and the name of an extension says one."
    armv6_safe: bool
    "True where no ELF file in it keeps an ARMv6 from running it; so it is where there is none."
    unpacked_bytes: int

    @property
    def libraries(self) -> frozenset[str]:
        """Sonames that its ELF files need and that are not in it, the C library's own among them."""
        return self.linking.outside


def read_wheel(
    file: BinaryIO,
    filename: str,
    *,
    project: str,
    version: str,
    target: Target,
    max_unpacked_bytes: int,
    as_built: bool = False,
) -> WheelFacts:
    """Read a wheel for a job on a project, a version and a target; `file` is seekable and stays open.

    `as_built` takes one whose tags promise a stable ABI and should not: it gets another name.

    Raises WheelError: WHEEL_WRONG_NAME where it is of another project or version, WHEEL_WRONG_ARCH where it
    is for another Python or processor, WHEEL_TOO_BIG, and WHEEL_INVALID where it contradicts itself.
    """
    name = WheelName.parse(filename)
    _check_identity(name.project, str(name.version), project, version, filename)
    if not target.accepts(name.tags):
        what = f"the target {target} does not accept its tags"
        raise WheelError(FailureReason.WHEEL_WRONG_ARCH, what, where=filename)
    with open_zip(file, filename, max_unpacked_bytes) as archive, zip_errors(filename):
        wheel = _Wheel(archive, name)
        metadata, requires_python = wheel.metadata(project, version)
        wheel.check_wheel_file()
        elves = wheel.read_members()
        _check_elves(elves, name)
        stable_abi = not is_falsely_stable(elves, name.tags)
        if not stable_abi and not as_built:
            what = "its tags are for many Pythons, and the name of an extension is for one"
            raise WheelError(FailureReason.WHEEL_WRONG_ARCH, what, where=filename)
        return WheelFacts(
            name=name,
            metadata=metadata,
            requires_python=requires_python,
            extensions=tuple(path for path, elf in elves.items() if elf.is_extension),
            linking=link(elves),
            stable_abi=stable_abi,
            armv6_safe=all(elf.armv6_safe for elf in elves.values() if _is_native(elf)),
            unpacked_bytes=sum(member.file_size for member in archive.infolist()),
        )


def rename_wheel(path: Path, filename: str) -> Path:
    """Write the same wheel under another file name beside it; the old one stays.

    Project and version must be the same; build tag and tags may differ. `Build:` and `Tag:` of WHEEL and the
    line of WHEEL in RECORD are rewritten; every other member keeps its packed bytes and its time, so that the
    same wheel and name give the same bytes. A file that has the new name already is replaced at once.
    Raises WheelError where the wheel cannot be read or the new name is of another project or version.
    """
    old, new = WheelName.parse(path.name), WheelName.parse(filename)
    _check_identity(new.project, str(new.version), old.project, str(old.version), filename)
    made = path.with_name(filename)
    part = path.with_name(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        with path.open("rb") as file, part.open("wb") as output:
            size = 1 << 62  # the bound was kept when the wheel was read; renaming inflates nothing large
            with open_zip(file, path.name, size) as archive, zip_errors(path.name):
                _write_renamed(archive, _Wheel(archive, old), new, output)
            output.flush()
            os.fsync(output.fileno())
        part.replace(made)
    finally:
        part.unlink(missing_ok=True)
    return made


class _Wheel:
    """An open archive and the one dist-info directory in it."""

    def __init__(self, archive: zipfile.ZipFile, name: WheelName) -> None:
        self.archive = archive
        self.name = name
        self.where = name.filename
        members = archive.infolist()
        self.files = {member.filename: member for member in members if not member.is_dir()}
        tops = {member.filename.partition("/")[0] for member in members}
        self.dist_info = self._only_directory(tops, ".dist-info") or ""
        if not self.dist_info:
            raise invalid("it has no dist-info directory", self.where)
        self.data = self._only_directory(tops, ".data")
        for path in self.files:
            self._check_place(path)

    def metadata(self, project: str, version: str) -> tuple[bytes, str | None]:
        """The METADATA file and its Requires-Python; raises WheelError where it is not the job's."""
        content = self._small_file("METADATA", _MAX_METADATA_BYTES)
        fields = _fields(content, self.where)
        names, versions = fields.get("name", []), fields.get("version", [])
        if len(names) != 1 or len(versions) != 1:
            raise invalid("METADATA must have one Name and one Version", self.where)
        _check_identity(names[0], versions[0], project, version, f"{self.where}: METADATA")
        requires = fields.get("requires-python", [])
        return content, requires[0] if requires else None

    def check_wheel_file(self) -> None:
        """WHEEL says the same tags, and the same build tag if it says one, as the file name."""
        fields = _fields(self._small_file("WHEEL", _MAX_WHEEL_BYTES), self.where)
        if fields.get("wheel-version", [""])[0].partition(".")[0] != "1":
            raise invalid("its Wheel-Version is not 1.x", self.where)
        stated: set[Tag] = set()
        for tag in fields.get("tag", []):
            try:
                stated |= parse_tag(tag)
            except ValueError as error:
                raise invalid(f"WHEEL has a tag {tag[:200]!r}", self.where) from error
        if stated != self.name.tags:
            raise invalid(
                f"the tags of WHEEL are {_texts(stated)}, those of the file name {_texts(self.name.tags)}",
                self.where,
            )
        build = "".join(map(str, self.name.build))
        if fields.get("build", [build])[0] != build:
            raise invalid(
                f"the build tag of WHEEL is {fields['build'][0][:200]!r}, not {build!r}", self.where
            )

    def read_members(self) -> dict[str, ElfFacts]:
        """Inflate every member once, check it against RECORD, and read those that are ELF files."""
        record = self._record()
        unsigned = {f"{self.dist_info}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s")}
        elves: dict[str, ElfFacts] = {}
        for path, member in self.files.items():
            stated, size = record.pop(path, ("", ""))
            if not stated and path not in unsigned:
                raise invalid("a member has no hash in RECORD", f"{self.where}: {path}")
            if size and size != str(member.file_size):
                raise invalid("a member has another size in RECORD", f"{self.where}: {path}")
            elf = self._read_member(member, stated)
            if elf is not None:
                elves[path] = elf
        if record:
            raise invalid("RECORD lists a file that is not there", f"{self.where}: {min(record)[:200]}")
        return elves

    def _read_member(self, member: zipfile.ZipInfo, stated: str) -> ElfFacts | None:
        where = f"{self.where}: {member.filename}"
        algorithm, _, digest = stated.partition("=")
        if stated and algorithm not in _RECORD_HASHES:
            raise invalid(f"RECORD uses the hash {algorithm[:20]!r}", where)
        hasher = hashlib.new(algorithm or "sha256")
        seen = 0
        with self.archive.open(member) as packed, tempfile.SpooledTemporaryFile(_ELF_IN_MEMORY_BYTES) as copy:
            is_elf = False
            while chunk := packed.read(_CHUNK_BYTES):
                is_elf = is_elf or (seen == 0 and chunk.startswith(MAGIC))
                hasher.update(chunk)
                seen += len(chunk)
                if is_elf:
                    copy.write(chunk)
            if seen != member.file_size:
                raise invalid("a member is shorter than the zip file says", where)
            if stated and urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode() != digest.rstrip("="):
                raise invalid("a member has another hash in RECORD", where)
            return read_elf(cast("BinaryIO", copy), where) if is_elf else None

    def _record(self) -> dict[str, tuple[str, str]]:
        """Hash and size of every path that RECORD lists."""
        content = self._small_file("RECORD", _MAX_RECORD_BYTES)
        record: dict[str, tuple[str, str]] = {}
        for row in _rows(content, self.where):
            path, digest, size = row
            if path in record:
                raise invalid("RECORD lists a file twice", f"{self.where}: {path[:200]}")
            record[path] = digest, size
        return record

    def small_file(self, name: str) -> bytes:
        """A file of the dist-info directory that may be rewritten."""
        return self._small_file(name, _MAX_RECORD_BYTES)

    def _small_file(self, name: str, bound: int) -> bytes:
        path = f"{self.dist_info}/{name}"
        member = self.files.get(path)
        if member is None:
            raise invalid(f"it has no {path}", self.where)
        if member.file_size > bound:
            raise invalid(f"{path} has {member.file_size} bytes", self.where)
        return self.archive.read(member)

    def _only_directory(self, tops: Iterable[str], suffix: str) -> str | None:
        found = [top for top in tops if top.lower().endswith(suffix)]  # one of `.Data` is refused below
        if not found:
            return None
        if len(found) > 1:
            raise invalid(f"it has several {suffix} directories", self.where)
        project, _, version = found[0].removesuffix(suffix).rpartition("-")
        _check_identity(
            project, version, self.name.project, str(self.name.version), f"{self.where}: {found[0]}"
        )
        return found[0]

    def _is_harmless(self, path: str) -> bool:
        member = self.files[path]
        return member.file_size <= MAX_BYTES and only_joins_namespaces(self.archive.read(member))

    def _check_place(self, path: str) -> None:
        if _PTH.fullmatch(path) and not self._is_harmless(path):
            raise invalid("a .pth file would run at every start of Python", f"{self.where}: {path}")
        top, _, rest = path.partition("/")
        if top == self.data and rest.partition("/")[0] not in _SCHEMES:
            raise invalid("a file is in no directory that installers know", f"{self.where}: {path}")


def _check_identity(project: str, version: str, wanted: str, wanted_version: str, where: str) -> None:
    try:
        same = Version(version) == Version(wanted_version)
    except InvalidVersion:
        same = version == wanted_version
    if not same or canonicalize_name(project) != canonicalize_name(wanted):
        what = f"it is of {project[:200]} {version[:200]}, not of {wanted} {wanted_version}"
        raise WheelError(FailureReason.WHEEL_WRONG_NAME, what, where=where)


def _fields(content: bytes, where: str) -> dict[str, list[str]]:
    """The fields of METADATA or WHEEL by lower-case name; the description is not looked at."""
    head = re.split(rb"\r?\n\r?\n", content[: _MAX_HEADER_BYTES + 1], maxsplit=1)[0]
    if len(head) > _MAX_HEADER_BYTES:
        raise invalid("its metadata has more than a megabyte of fields", where)
    try:
        message = HeaderParser().parsestr(head.decode("utf-8", "replace"))
    except (LookupError, ValueError) as error:
        raise invalid("its metadata cannot be read", where) from error
    fields: dict[str, list[str]] = {}
    for key, value in message.items():
        fields.setdefault(key.lower(), []).append(" ".join(str(value).split()))
    return fields


def _rows(content: bytes, where: str) -> list[tuple[str, str, str]]:
    try:
        rows = [tuple(row) for row in csv.reader(io.StringIO(content.decode("utf-8"), newline="")) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise invalid(f"RECORD cannot be read: {error}", where) from error
    if any(len(row) != _RECORD_COLUMNS for row in rows):
        raise invalid("a line of RECORD has not three parts", where)
    return cast("list[tuple[str, str, str]]", rows)


def _texts(tags: Iterable[Tag]) -> str:
    return " ".join(sorted(map(str, tags)))[:200] or "none"


def _is_native(elf: ElfFacts) -> bool:
    return elf.is_loadable or elf.machine == "EM_ARM"


def _check_elves(elves: dict[str, ElfFacts], name: WheelName) -> None:
    """Every file that would be loaded or run fits every platform that the wheel is tagged for."""
    for path, elf in elves.items():
        if not elf.is_loadable and not _SCRIPT.match(path):
            continue
        for tag in name.tags:
            found = _PLATFORM.fullmatch(tag.platform)
            if not found or found["arch"] not in elf.architectures:
                is_for = "/".join(sorted(elf.architectures)) or elf.machine
                what = f"a file is for {is_for}, and the wheel for {tag.platform}"
                raise WheelError(FailureReason.WHEEL_WRONG_ARCH, what, where=f"{name.filename}: {path}")


def _write_renamed(archive: zipfile.ZipFile, wheel: _Wheel, name: WheelName, output: BinaryIO) -> None:
    wheel_path, record_path = f"{wheel.dist_info}/WHEEL", f"{wheel.dist_info}/RECORD"
    stated = _renamed_wheel_file(wheel.small_file("WHEEL"), name)
    digest = urlsafe_b64encode(hashlib.sha256(stated).digest()).rstrip(b"=").decode()
    record = io.StringIO(newline="")
    writer = csv.writer(record, lineterminator="\n")
    for row in _rows(wheel.small_file("RECORD"), wheel.where):
        writer.writerow((wheel_path, f"sha256={digest}", len(stated)) if row[0] == wheel_path else row)
    rewritten = {wheel_path: stated, record_path: record.getvalue().encode()}
    source = cast("BinaryIO", archive.fp)
    with zipfile.ZipFile(output, "w") as made:
        for member in archive.infolist():
            if member.filename in rewritten:
                info = zipfile.ZipInfo(member.filename, member.date_time)
                info.compress_type, info.external_attr = member.compress_type, member.external_attr
                info.create_system = member.create_system
                made.writestr(info, rewritten[member.filename])
            else:
                _copy_packed(source, member, made)


def _renamed_wheel_file(content: bytes, name: WheelName) -> bytes:
    lines = content.decode("utf-8").split("\n\n", 1)[0].splitlines()
    kept = [line for line in lines if line and not line.lower().startswith(("tag:", "build:"))]
    kept += [f"Tag: {tag}" for tag in sorted(map(str, name.tags))]
    if name.build:
        kept.append("Build: " + "".join(map(str, name.build)))
    return "\n".join([*kept, ""]).encode()


def _copy_packed(source: BinaryIO, member: zipfile.ZipInfo, made: zipfile.ZipFile) -> None:
    """Append a member without unpacking it: faster, and its bytes do not depend on the zlib that is here."""
    source.seek(member.header_offset)
    header = source.read(30)
    if header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no member where {member.filename!r} should be")
    source.seek(
        int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR
    )
    copy = zipfile.ZipInfo(member.filename, member.date_time)
    for kept in ("compress_type", "external_attr", "create_system", "CRC", "compress_size", "file_size"):
        setattr(copy, kept, getattr(member, kept))
    output = cast("BinaryIO", made.fp)
    output.seek(made.start_dir)
    copy.header_offset = made.start_dir
    output.write(copy.FileHeader())
    left = member.compress_size
    while left:
        chunk = source.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise EOFError("the packed member ends early")
        output.write(chunk)
        left -= len(chunk)
    made.start_dir = output.tell()
    made.filelist.append(copy)
    made.NameToInfo[copy.filename] = copy
