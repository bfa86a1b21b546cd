# SPDX-License-Identifier: BSD-3-Clause
"""One ELF file, read as hostile input: what it is for, what it needs, and whether an ARMv6 could run it.

    header -> program headers -> dynamic section -> its strings -> names of the exported functions
           -> section headers -> .ARM.attributes

Only what the dynamic loader itself reads is believed, save for the size of the symbol table and the ARM
attributes, which only section headers tell. Every table is bounded before it is read, and no loop is longer
than a bound: pyelftools decodes the structures, but its own iterators are not used, because they follow
lengths of the file (a subsection of length 0 never ends, a hash table is read whole).
Nothing of the file is run, and `ldd`, which may run it, is not used.
This module imports only the standard library, pyelftools and `core`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason

MAGIC = b"\x7fELF"

_MAX_SEGMENTS = 1024
_MAX_SECTIONS = 4096
_MAX_DYNAMIC_TAGS = 4096
_MAX_TABLE_BYTES = 64 << 20  # the largest symbol table met, that of libtorch_cpu.so, has 30 MB
_MAX_ATTRIBUTES_BYTES = 64 << 10
_MAX_STRING_BYTES = 4096

_ARCHITECTURE = {
    ("EM_386", 32, True): "i686",
    ("EM_X86_64", 64, True): "x86_64",
    ("EM_AARCH64", 64, True): "aarch64",
    ("EM_RISCV", 64, True): "riscv64",
    ("EM_PPC64", 64, True): "ppc64le",
    ("EM_S390", 64, False): "s390x",
    ("EM_LOONGARCH", 64, True): "loongarch64",
}
_EF_ARM_SOFT_FLOAT = 0x200
_EF_ARM_HARD_FLOAT = 0x400
_ARMV6_CPUS = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 9})  # up to v6, v6KZ (7), v6K (9); v6T2 (8) has Thumb-2
_ARMV6_FLOATS = frozenset({0, 1, 2})  # none, VFPv1, VFPv2
_TEXT_TAGS = frozenset({4, 5})  # Tag_CPU_raw_name, Tag_CPU_name
_TAG_COMPATIBILITY = 32
_MAX_NUMBER_BITS = 64
_ELFCLASS32 = 32
_INIT_PREFIXES = (b"PyInit_", b"PyInitU_", b"PyModExport_", b"PyModExportU_")  # PEP 3121, 489, 793


@dataclass(frozen=True)
class ArmAttributes:
    """The build attributes of an ARM file: the greatest value of each (ARM IHI 0045, "Addenda")."""

    cpu_arch: int
    "Tag_CPU_arch: 6 is v6, 10 is v7."
    float_arch: int
    "Tag_FP_arch: 2 is VFPv2, 3 and more are VFPv3 and later."
    simd_arch: int
    "Tag_Advanced_SIMD_arch: 0 is none, more is NEON."


@dataclass(frozen=True)
class ElfFacts:
    """What one ELF file says of itself."""

    machine: str
    "As the ELF standard names it, `EM_ARM`; a number where pyelftools knows no name."
    bits: int
    little_endian: bool
    kind: str
    "`ET_DYN`, `ET_EXEC`, `ET_REL`, `ET_CORE`."
    architectures: frozenset[str]
    "Processors as `uname -m` says them; ARM with ARMv7 code is `armv7l` and `armv8l`, not `armv6l`."
    is_loadable: bool
    "True where the dynamic loader would take it; firmware and object files are data."
    is_extension: bool
    "True where it exports the start of a Python module."
    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    "Directories of DT_RPATH and DT_RUNPATH."
    arm: ArmAttributes | None
    armv6_safe: bool
    "True where an ARMv6 with VFPv2 (Raspberry Pi 1 and Zero) can run it; False where the file does not say."


def read_elf(file: BinaryIO, where: str) -> ElfFacts:
    """Read an ELF file that is seekable; raises WheelError(WHEEL_INVALID) for one that is broken.

    `where` names it in the error.
    """
    try:
        return _Elf(file).facts()
    except (
        ELFError,
        ConstructError,
        struct.error,
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        # All that pyelftools raises on files it does not expect; OSError is the disk's and passes through.
        what = f"a broken ELF file: {str(error)[:200] or type(error).__name__}"
        raise WheelError(FailureReason.WHEEL_INVALID, what, where=where) from error


class _Elf:
    """The file, its size, and its tables."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.elf = ELFFile(file)
        self.header: Any = self.elf.header
        self.is_32_bit: bool = self.elf.elfclass == _ELFCLASS32
        self.segments: list[Any] = []
        self.sections: list[Any] = []
        if self.header["e_type"] in {"ET_DYN", "ET_EXEC"}:  # all others are data: object files, core dumps
            self.segments = self._table("Elf_Phdr", "e_phoff", "e_phentsize", "e_phnum", _MAX_SEGMENTS)
            self.sections = self._table("Elf_Shdr", "e_shoff", "e_shentsize", "e_shnum", _MAX_SECTIONS)

    def facts(self) -> ElfFacts:
        machine, kind = str(self.header["e_machine"]), str(self.header["e_type"])
        types = {str(segment["p_type"]) for segment in self.segments}
        loadable = kind == "ET_DYN" or (kind == "ET_EXEC" and "PT_INTERP" in types)
        soname: list[str] = []
        needed: list[str] = []
        rpath: list[str] = []
        tags = self._dynamic_tags() if loadable else []
        strings = self._strings(tags)
        into = {"DT_SONAME": soname, "DT_NEEDED": needed, "DT_RPATH": rpath, "DT_RUNPATH": rpath}
        for tag, value in tags:
            if tag in into:
                into[tag].append(_string(strings, value))
        arm = self._arm_attributes() if machine == "EM_ARM" else None
        armv6_safe = arm is not None and self._is_armv6_safe(arm)
        return ElfFacts(
            machine=machine,
            bits=self.elf.elfclass,
            little_endian=self.elf.little_endian,
            kind=kind,
            architectures=self._architectures(machine, armv6_safe=armv6_safe),
            is_loadable=loadable,
            is_extension=self._is_extension(tags, strings),
            soname=soname[0] if soname else None,
            needed=tuple(needed),
            rpath=tuple(directory for path in rpath for directory in path.split(":") if directory),
            arm=arm,
            armv6_safe=armv6_safe,
        )

    def _architectures(self, machine: str, *, armv6_safe: bool) -> frozenset[str]:
        little_endian = self.elf.little_endian
        if machine == "EM_ARM" and self.is_32_bit and little_endian:
            if self.header["e_flags"] & _EF_ARM_SOFT_FLOAT:
                return frozenset({"armv5tel"})
            return frozenset({"armv7l", "armv8l"}) | ({"armv6l"} if armv6_safe else set())
        name = _ARCHITECTURE.get((machine, self.elf.elfclass, little_endian))
        return frozenset({name} if name else ())

    def _is_armv6_safe(self, arm: ArmAttributes) -> bool:
        return (
            self.is_32_bit
            and self.elf.little_endian
            and bool(self.header["e_flags"] & _EF_ARM_HARD_FLOAT)
            and arm.cpu_arch in _ARMV6_CPUS
            and arm.float_arch in _ARMV6_FLOATS
            and arm.simd_arch == 0
        )

    def _read(self, offset: int, size: int, bound: int = _MAX_TABLE_BYTES) -> bytes:
        if size > bound:
            raise ValueError(f"a table of {size} bytes")
        if offset + size > self.size:
            raise ValueError("a table behind the end of the file")
        self.file.seek(offset)
        return self.file.read(size)

    def _table(self, struct_name: str, offset: str, entry: str, count: str, bound: int) -> list[Any]:
        """The program headers or the section headers."""
        start, size, number = self.header[offset], self.header[entry], self.header[count]
        if start == 0 or number == 0:
            return []
        decoder = getattr(self.elf.structs, struct_name)
        if number > bound or size < decoder.sizeof() or start + size * number > self.size:
            raise ValueError(f"{number} headers at {start}")
        return [struct_parse(decoder, self.file, start + n * size) for n in range(number)]

    def _dynamic_tags(self) -> list[tuple[str, int]]:
        dynamic = [segment for segment in self.segments if segment["p_type"] == "PT_DYNAMIC"]
        if not dynamic:
            return []
        (segment,) = dynamic
        decoder: Any = self.elf.structs.Elf_Dyn
        count = segment["p_filesz"] // decoder.sizeof()
        if count > _MAX_DYNAMIC_TAGS:
            raise ValueError(f"{count} dynamic tags")
        found: list[tuple[str, int]] = []
        for number in range(count):
            tag = struct_parse(decoder, self.file, segment["p_offset"] + number * decoder.sizeof())
            if tag["d_tag"] == "DT_NULL":
                break
            found.append((str(tag["d_tag"]), tag["d_val"]))
        return found

    def _offset_of(self, address: int) -> int:
        """Where in the file the loader finds a virtual address."""
        for segment in self.segments:
            start = segment["p_vaddr"]
            if segment["p_type"] == "PT_LOAD" and start <= address < start + segment["p_filesz"]:
                return int(address - start + segment["p_offset"])
        raise ValueError(f"address {address:#x} is in no segment")

    def _strings(self, tags: list[tuple[str, int]]) -> bytes:
        values = dict(tags)
        if "DT_STRTAB" not in values:
            return b""
        return self._read(self._offset_of(values["DT_STRTAB"]), values.get("DT_STRSZ", 0))

    def _is_extension(self, tags: list[tuple[str, int]], strings: bytes) -> bool:
        """True where a symbol that is defined here has the name of a module's start."""
        values = dict(tags)
        if "DT_SYMTAB" not in values or not any(prefix in strings for prefix in _INIT_PREFIXES):
            return False
        offset = self._offset_of(values["DT_SYMTAB"])
        layout = ("<" if self.elf.little_endian else ">") + ("IIIBBH" if self.is_32_bit else "IBBHQQ")
        size = struct.calcsize(layout)
        length = next(
            (
                section["sh_size"]
                for section in self.sections
                if section["sh_type"] == "SHT_DYNSYM" and section["sh_offset"] == offset
            ),
            max(self._offset_of(values["DT_STRTAB"]) - offset, 0),  # linkers put the strings behind it
        )
        table = self._read(offset, length - length % size)
        where = 5 if self.is_32_bit else 3
        return any(
            symbol[where] != 0 and strings.startswith(_INIT_PREFIXES, symbol[0])
            for symbol in struct.iter_unpack(layout, table)
        )

    def _arm_attributes(self) -> ArmAttributes | None:
        for section in self.sections:
            if section["sh_type"] in {"SHT_ARM_ATTRIBUTES", 0x70000003}:
                content = self._read(section["sh_offset"], section["sh_size"], _MAX_ATTRIBUTES_BYTES)
                try:
                    return _arm_attributes(content, "<" if self.elf.little_endian else ">")
                except (ValueError, LookupError, struct.error):
                    return None  # not understood is not safe, and no reason to refuse the file
        return None


def _string(strings: bytes, offset: int) -> str:
    end = strings.index(b"\0", offset, offset + _MAX_STRING_BYTES)
    return strings[offset:end].decode("utf-8")


def _arm_attributes(content: bytes, order: str) -> ArmAttributes:
    """Read the section: 'A', then (length, vendor, then (scope, length, then tag and value))."""
    greatest = {6: 0, 10: 0, 12: 0}  # Tag_CPU_arch, Tag_FP_arch, Tag_Advanced_SIMD_arch
    found = False
    if content[:1] != b"A":
        raise ValueError("an unknown version of ARM attributes")
    for vendor in _parts(content[1:], 0, order):
        name, _, scopes = vendor.partition(b"\0")
        if name != b"aeabi":
            continue
        for scope in _parts(scopes, 1, order):
            found = True
            for tag, value in _attributes(scope):
                if tag in greatest:
                    greatest[tag] = max(greatest[tag], value)
    if not found:
        raise ValueError("no aeabi attributes")
    return ArmAttributes(greatest[6], greatest[10], greatest[12])


def _parts(content: bytes, head: int, order: str) -> Iterator[bytes]:
    """Split into parts that begin with `head` bytes and a length of the whole part; yields what follows."""
    while content:
        (length,) = struct.unpack_from(f"{order}I", content, head)
        if not head + 4 <= length <= len(content):
            raise ValueError("a part of a wrong length")
        yield content[head + 4 : length]
        content = content[length:]


def _attributes(content: bytes) -> Iterator[tuple[int, int]]:
    """Tags and numbers; texts (two tags, and the odd ones above 32) are left out."""
    position = 0
    while position < len(content):
        tag, position = _uleb128(content, position)
        if tag in _TEXT_TAGS or (tag > _TAG_COMPATIBILITY and tag % 2):
            position = content.index(b"\0", position) + 1
            continue
        value, position = _uleb128(content, position)
        if tag == _TAG_COMPATIBILITY:  # a number and a text
            position = content.index(b"\0", position) + 1
        yield tag, value


def _uleb128(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        shift, position = shift + 7, position + 1
        if not byte & 0x80:
            return value, position
        if shift > _MAX_NUMBER_BITS:
            raise ValueError("a number of too many bits")
