# SPDX-License-Identifier: BSD-3-Clause
"""ELF files as hostile input; the files are made by hand, one is this machine's own."""

from __future__ import annotations

import base64
import io
import struct
import sys
import time
import zlib
from pathlib import Path

import pytest
from elfs import ARM_SOFT_FLOAT, ET_EXEC, ET_REL, arm_attributes, make_elf
from hypothesis import given, settings
from hypothesis import strategies as st

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.elf import ArmAttributes, ElfFacts, read_elf

RECORDED_ARMV6 = (  # zlib, base 85; see the test that reads it
    r"c-rk)UuzRV5TCguXPOq3&|)Ln9#SDv+$JRm`XaUd1qIEcFU_U7_6~Y?CAWo!3i>U4v>(7P;dkf<Fo=)(rubx>$<ApA5%hh3@"
    r"Y~&)`R(rPzRkRT@bn=fLXHB|A-7t@_ZMj>La7BFlqgn#IryVC2+^>_2I)C|dV#oVcmRg3#GR>l2MpcuRRAwO>mJO2Yqmq1;<"
    r"NViUcTFrnaMff8|Sxw_~GrVW;KYX&*u1J8kT9U(n)+*hwQT05c&su@O<zjiS*7+b{GUbh*g&6`<;__U(U^YUspyOL&|DsydU"
    r"o(oPIJs3kwSi3kwSi3kwSi3yZ(wJaLiu?dK>xlX|v}rWXD|tPpF&d8v*67hFH*c(lEJ$E)8Dx{;rF%}uqb8aJD*8?uBgMH)Z"
    r"wyAj|Tr*aEiw~TXGajL~dT*6C*Wvt<4=L)XiH3XG~neJ=93u-?(QlX!Ppn8KO8^mVTeNZ|$)?>?$qg@iFWbLML93-^ZYCluH"
    r"*8Qk^q=W3A-^73MeKbnB-aiwrN&OGfCtxm#){(ztHpV>=(+?=hpI#N8BY)4VP4x~K*JbTWFM;Vz=*lv$i>4s|&%KO}*m-_s>"
    r"Azs^_e?Si6X)gcxGlPd_!mgGI+Y*uo;m9<_pg&~W5zphA{WL>(zR#kegO$SWsC"
)


def read(content: bytes) -> ElfFacts:
    return read_elf(io.BytesIO(content), "x.so")


def test_the_running_interpreter_is_read_as_it_is():
    import _ctypes  # noqa: PLC0415 - only here, for its file

    with Path(_ctypes.__file__).open("rb") as file:
        facts = read_elf(file, "_ctypes")

    assert facts.is_extension
    assert facts.is_loadable
    assert any(name.startswith("libc.so") for name in facts.needed)
    assert facts.bits == (64 if sys.maxsize > 2**32 else 32)


@pytest.mark.parametrize(
    ("machine", "architectures"),
    [
        ("EM_X86_64", {"x86_64"}),
        ("EM_386", {"i686"}),
        ("EM_AARCH64", {"aarch64"}),
        ("EM_RISCV", {"riscv64"}),
        ("EM_S390", {"s390x"}),
        ("EM_ARM", {"armv7l", "armv8l"}),
        ("EM_AVR", set()),
    ],
)
def test_the_architecture_comes_from_machine_class_and_endianness(machine, architectures):
    assert read(make_elf(machine)).architectures == architectures


def test_names_come_from_the_dynamic_section():
    facts = read(
        make_elf(
            needed=["libfoo.so.1", "libc.so.6"], soname="libme.so.2", runpath="$ORIGIN/../libs:/build/lib"
        )
    )

    assert facts.needed == ("libfoo.so.1", "libc.so.6")
    assert facts.soname == "libme.so.2"
    assert facts.rpath == ("$ORIGIN/../libs", "/build/lib")


@pytest.mark.parametrize("machine", ["EM_X86_64", "EM_ARM", "EM_S390"])
@pytest.mark.parametrize("sections", [True, False])
def test_names_and_exports_are_found_with_and_without_section_headers(machine, sections):
    facts = read(make_elf(machine, exports=["helper", "PyInit__speed"], sections=sections))

    assert facts.needed == ("libc.so.6",)
    assert facts.is_extension


def test_a_library_that_only_imports_a_module_start_is_no_extension():
    assert not read(make_elf(imports=["PyInit_other"], exports=["helper"])).is_extension


def test_a_library_is_no_extension():
    assert not read(make_elf(exports=["foo"])).is_extension


def test_object_files_and_firmware_are_data():
    assert not read(make_elf(kind=ET_REL)).is_loadable
    assert not read(make_elf("EM_AVR", kind=ET_EXEC)).is_loadable
    assert read(make_elf(kind=ET_EXEC, interpreter=True)).is_loadable


@pytest.mark.parametrize(
    ("attributes", "safe"),
    [
        ({"cpu_arch": 6, "fp": 2}, True),
        ({"cpu_arch": 4, "fp": 0}, True),
        ({"cpu_arch": 7, "fp": 2}, True),  # v6KZ: the ARM1176 of the first Raspberry Pi
        ({"cpu_arch": 9, "fp": 2}, True),  # v6K
        ({"cpu_arch": 8, "fp": 2}, False),  # v6T2 has Thumb-2
        ({"cpu_arch": 10, "fp": 2}, False),  # v7
        ({"cpu_arch": 6, "fp": 3}, False),  # VFPv3
        ({"cpu_arch": 6, "fp": 6}, False),  # VFPv4-D16
        ({"cpu_arch": 6, "fp": 2, "simd": 1}, False),  # NEON
    ],
)
def test_armv6_is_what_the_attributes_of_an_arm_file_say(attributes, safe):
    facts = read(make_elf("EM_ARM", arm=arm_attributes(**attributes)))

    assert facts.armv6_safe is safe
    assert ("armv6l" in facts.architectures) is safe
    assert {"armv7l", "armv8l"} <= facts.architectures


def test_an_arm_file_that_does_not_say_is_not_safe():
    assert not read(make_elf("EM_ARM")).armv6_safe
    assert not read(make_elf("EM_ARM", arm=b"A")).armv6_safe
    assert not read(make_elf("EM_ARM", arm=b"B" + arm_attributes()[1:])).armv6_safe
    assert not read(make_elf("EM_ARM", arm=arm_attributes(), sections=False)).armv6_safe


def test_a_soft_float_file_is_for_another_debian():
    facts = read(make_elf("EM_ARM", arm=arm_attributes(), flags=ARM_SOFT_FLOAT))

    assert facts.architectures == {"armv5tel"}
    assert not facts.armv6_safe


def test_a_second_value_of_an_attribute_cannot_hide_the_first():
    facts = read(make_elf("EM_ARM", arm=arm_attributes(cpu_arch=10, fp=3, more=bytes([6, 6, 10, 2]))))

    assert facts.arm == ArmAttributes(cpu_arch=10, float_arch=3, simd_arch=0)


def test_attributes_that_nobody_knows_yet_are_passed_over():
    number, text, compatibility = b"\x8a\x01\x85\x02", b"\x8b\x01some text\x00", b"\x20\x01gnu\x00"

    facts = read(make_elf("EM_ARM", arm=arm_attributes(more=number + text + compatibility + bytes([12, 1]))))

    assert facts.arm == ArmAttributes(cpu_arch=6, float_arch=2, simd_arch=1)


def test_a_library_that_gcc_made_for_armv6_is_read_as_readelf_reads_it():
    # Recorded: arm-linux-gnueabihf-gcc 12.2.0 -march=armv6+fp -marm -shared of `half` and `PyInit__speed`.
    facts = read(zlib.decompress(base64.b85decode(RECORDED_ARMV6)))

    assert facts.arm == ArmAttributes(cpu_arch=6, float_arch=2, simd_arch=0)
    assert facts.armv6_safe
    assert facts.architectures == {"armv6l", "armv7l", "armv8l"}
    assert facts.is_extension
    assert facts.soname == "m.so"


def test_attributes_that_gcc_writes_for_neon_are_read_as_readelf_reads_them():
    # Recorded as above, with -march=armv7-a+neon.
    section = bytes.fromhex(
        "4134000000616561626900012a00000005372d4100060a0741080109020a030c01"
        "1204140115011703180119011a021c011e012201"
    )

    assert read(make_elf("EM_ARM", arm=section)).arm == ArmAttributes(cpu_arch=10, float_arch=3, simd_arch=1)


@pytest.mark.parametrize(
    "arm",
    [
        b"A\x00\x00\x00\x00aeabi\x00",  # a part of length 0 would be read for ever
        b"A\xff\xff\xff\xffaeabi\x00",
        b"A\x0f\x00\x00\x00aeabi\x00\x01\x00\x00\x00\x00",
        arm_attributes(more=b"\x06" + b"\xff" * 200),
        arm_attributes(more=b"\x05no end"),
    ],
)
def test_broken_attributes_are_not_safe_and_end(arm):
    assert read(make_elf("EM_ARM", arm=arm)).arm is None


def _with(content: bytes, offset: int, layout: str, value: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(layout, changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    "content",
    [
        b"\x7fELF",
        make_elf()[:40],
        make_elf()[:200],
        _with(make_elf(), 32, "<Q", 1 << 63),  # program headers far away
        _with(make_elf(), 40, "<Q", (1 << 64) - 1),  # section headers likewise
        _with(make_elf(), 56, "<H", 0xFFFF),  # as many program headers as can be said
        _with(make_elf(), 60, "<H", 0xFFFF),  # as many section headers
        _with(make_elf(), 54, "<H", 0),  # program headers of no size
        _with(make_elf(), 64 + 56 + 32, "<Q", 1 << 40),  # an endless dynamic section
        _with(make_elf(), 64 + 56 + 8, "<Q", 1 << 62),  # a dynamic section behind the end
        _with(make_elf(), 64, "<I", 2),  # two dynamic sections
        _with(make_elf(), 4, "<B", 7),  # no known class
    ],
)
def test_a_broken_file_is_refused_with_its_name(content):
    with pytest.raises(WheelError) as caught:
        read(content)

    assert caught.value.reason is FailureReason.WHEEL_INVALID
    assert caught.value.where == "x.so"


def test_a_name_that_never_ends_costs_no_time():
    content = make_elf(needed=["a" * 5_000_000], exports=["PyInit_x"])
    started = time.monotonic()

    with pytest.raises(WheelError):
        read(content)

    assert time.monotonic() - started < 15


def is_read_or_refused(content: bytes) -> bool:
    try:
        return isinstance(read(content), ElfFacts)
    except WheelError as error:
        return error.reason is FailureReason.WHEEL_INVALID


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.sampled_from(["EM_X86_64", "EM_ARM", "EM_S390"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_whatever_bytes_are_changed_it_is_read_or_refused(machine, changes):
    content = bytearray(make_elf(machine, exports=["PyInit_x"], soname="x", arm=arm_attributes()))
    for offset, value in changes:
        content[offset % len(content)] = value
    content[:4] = b"\x7fELF"

    assert is_read_or_refused(bytes(content))


@settings(max_examples=200, deadline=None, database=None)
@given(st.binary(max_size=300))
def test_whatever_follows_the_magic_it_is_read_or_refused(content):
    assert is_read_or_refused(b"\x7fELF\x02\x01\x01" + content)


def test_the_error_of_the_disk_is_not_the_files():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        read_elf(Broken(zlib.compress(b"")), "x.so")
