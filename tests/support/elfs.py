# SPDX-License-Identifier: BSD-3-Clause
"""ELF files made by hand, as small as a loader's reading needs, for any processor and with any lie.

make_elf("EM_ARM", needed=["libc.so.6"], exports=["PyInit_x"], arm=arm_attributes(cpu_arch=6, fp=2))

header | program headers | symbols | strings | dynamic section | ARM attributes | section headers
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

MACHINES = {
    "EM_386": (3, 32, "<"),
    "EM_S390": (22, 64, ">"),
    "EM_ARM": (40, 32, "<"),
    "EM_X86_64": (62, 64, "<"),
    "EM_AVR": (83, 32, "<"),
    "EM_AARCH64": (183, 64, "<"),
    "EM_RISCV": (243, 64, "<"),
}
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
ARM_HARD_FLOAT, ARM_SOFT_FLOAT = 0x05000400, 0x05000200


def arm_attributes(*, cpu_arch: int = 6, fp: int = 2, simd: int = 0, more: bytes = b"") -> bytes:
    """The content of .ARM.attributes as gcc writes it; `more` are further tags and values."""
    values = b"\x05ARM1176JZF-S\x00" + bytes([6, cpu_arch, 8, 1, 10, fp, 12, simd]) + more
    scope = b"\x01" + struct.pack("<I", 5 + len(values)) + values
    vendor = b"aeabi\x00" + scope
    return b"A" + struct.pack("<I", 4 + len(vendor)) + vendor


def make_elf(
    machine: str = "EM_X86_64",
    *,
    kind: int = ET_DYN,
    needed: Sequence[str] = ("libc.so.6",),
    soname: str | None = None,
    runpath: str | None = None,
    exports: Sequence[str] = (),
    imports: Sequence[str] = (),
    interpreter: bool = False,
    flags: int | None = None,
    arm: bytes | None = None,
    sections: bool = True,
) -> bytes:
    """The bytes of an ELF file; `sections=False` leaves out the section headers, as `sstrip` does."""
    number, bits, order = MACHINES[machine]
    word = "I" if bits == 32 else "Q"
    strings = b"\0"
    offsets: dict[str, int] = {}
    for text in filter(None, [*needed, soname, runpath, *exports, *imports]):
        offsets[text] = len(strings)
        strings += text.encode() + b"\0"
    header_size, segment_size, section_size = (52, 32, 40) if bits == 32 else (64, 56, 64)
    segments = 3 if interpreter else 2
    symbols = _symbols(offsets, exports, imports, bits, order)
    symbols_at = header_size + segments * segment_size
    strings_at = symbols_at + len(symbols)
    tags = [(5, strings_at), (10, len(strings)), (6, symbols_at)]
    tags += [(1, offsets[name]) for name in needed]
    tags += [(14, offsets[soname])] if soname else []
    tags += [(29, offsets[runpath])] if runpath else []
    dynamic = b"".join(struct.pack(f"{order}2{word}", *tag) for tag in [*tags, (0, 0)])
    dynamic_at = strings_at + len(strings)
    attributes_at = dynamic_at + len(dynamic)
    attributes = arm or b""
    sections_at = attributes_at + len(attributes)
    size = sections_at + 4 * section_size
    if flags is None:
        flags = ARM_HARD_FLOAT if machine == "EM_ARM" else 0
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    header = ident + struct.pack(
        f"{order}HHI3{word}I6H",
        *(kind, number, 1, 0, header_size, sections_at if sections else 0),
        *(
            flags,
            header_size,
            segment_size,
            segments,
            section_size,
            4 if sections else 0,
            1 if sections else 0,
        ),
    )
    table = _segment(1, 0, size, bits, order) + _segment(2, dynamic_at, len(dynamic), bits, order)
    if interpreter:
        table += _segment(3, strings_at, 1, bits, order)
    content = header + table + symbols + strings + dynamic + attributes
    if sections:
        layout = f"{order}II4{word}II2{word}"
        content += struct.pack(layout, *([0] * 10))
        content += struct.pack(layout, 0, 3, 0, 0, strings_at, 1, 0, 0, 1, 0)
        content += struct.pack(layout, 0, 11, 0, symbols_at, symbols_at, len(symbols), 1, 0, 1, bits // 8 * 3)
        kind_of_attributes = 0x70000003 if arm is not None else 0
        content += struct.pack(
            layout, 0, kind_of_attributes, 0, 0, attributes_at, len(attributes), 0, 0, 1, 0
        )
    return content


def _symbols(
    offsets: dict[str, int], exports: Sequence[str], imports: Sequence[str], bits: int, order: str
) -> bytes:
    made = bytes(16 if bits == 32 else 24)
    for names, section in ((exports, 7), (imports, 0)):
        for name in names:
            if bits == 32:
                made += struct.pack(f"{order}IIIBBH", offsets[name], 0, 0, 0x12, 0, section)
            else:
                made += struct.pack(f"{order}IBBHQQ", offsets[name], 0x12, 0, section, 0, 0)
    return made


def _segment(kind: int, offset: int, size: int, bits: int, order: str) -> bytes:
    if bits == 32:
        return struct.pack(f"{order}8I", kind, offset, offset, offset, size, size, 5, 1)
    return struct.pack(f"{order}2I6Q", kind, 5, offset, offset, offset, size, size, 1)
