# SPDX-License-Identifier: BSD-3-Clause
"""ARM files as Debian's compiler makes them: which Raspberry Pi can run them, as readelf sees it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from sdists import make_wheel

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.targets import Target
from piwheels_node.elf import read_elf
from piwheels_node.wheelfile import read_wheel

GCC = "arm-linux-gnueabihf-gcc"
pytestmark = pytest.mark.skipif(
    not shutil.which(GCC), reason="sudo apt install gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
)

PI = Target.parse("cp313-linux_armv7l-debian13")
ZERO = Target.parse("cp313-linux_armv6l-debian13")
BOTH = "cp313-cp313-linux_armv6l.linux_armv7l"
SO = "tiny/_speed.cpython-313-arm-linux-gnueabihf.so"
SOURCE = """
void *PyInit__speed(void) { return 0; }
double dot(const double *a, const double *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}
void add(float *a, const float *b, int n) { for (int i = 0; i < n; i++) a[i] += b[i]; }
int divide(int a, int b) { return a / b; }
"""
ARMV6 = ("-march=armv6+fp", "-marm")
ARMV7 = ("-march=armv7-a+fp",)
# Debian's C runtime for armhf is ARMv7: an ARMv6 file is linked without it; Raspbian has one for ARMv6.
ALONE = ("-nostdlib", "-nostartfiles")
# How Tag_CPU_arch and Tag_FP_arch of ARMv6 with VFPv2 are written by `readelf -A`.
ARMV6_CPUS = {"v4", "v4T", "v5T", "v5TE", "v5TEJ", "v6", "v6K", "v6KZ"}
ARMV6_FLOATS = {None, "VFPv1", "VFPv2"}


@pytest.fixture
def compiled(tmp_path):
    """Compiles SOURCE to a shared library with these words for gcc; gives its path."""

    def make(*words, name="x.so", source=SOURCE):
        code, made = tmp_path / "x.c", tmp_path / name
        code.write_text(source)
        subprocess.run([GCC, "-shared", "-fPIC", "-O2", *words, "-o", made, code], check=True)
        return made

    return make


def read(path):
    with path.open("rb") as file:
        return read_elf(file, path.name)


def said_by_readelf(path):
    """The attributes as binutils print them, by name."""
    command = ["arm-linux-gnueabihf-readelf", "-A", path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^\s+Tag_(\w+): (\S+)", said, re.MULTILINE))


@pytest.mark.parametrize(
    ("words", "safe"),
    [
        ((*ARMV6, *ALONE), True),
        (("-march=armv6kz+fp", "-marm", *ALONE), True),
        (("-march=armv6k+fp", "-marm", *ALONE), True),
        (("-mcpu=arm1176jzf-s", "-marm", *ALONE), True),
        (("-march=armv6t2+fp", *ALONE), False),
        ((*ARMV7, *ALONE), False),
        ((*ARMV7, "-marm", *ALONE), False),
        (("-march=armv7-a+simd", "-O3", *ALONE), False),
        (("-mcpu=cortex-a53", "-mfpu=neon-fp-armv8", "-O3", *ALONE), False),
        (ARMV6, False),
        (ARMV7, False),
        ((), False),
    ],
    ids=lambda value: " ".join(value) or "default" if isinstance(value, tuple) else str(value),
)
def test_armv6_is_what_the_compiler_was_told_and_readelf_agrees(compiled, words, safe):
    path = compiled(*words)
    facts, said = read(path), said_by_readelf(path)

    assert facts.armv6_safe is safe
    assert facts.architectures >= {"armv7l", "armv8l"}
    assert facts.is_extension
    oracle = (
        said["CPU_arch"] in ARMV6_CPUS
        and said.get("FP_arch") in ARMV6_FLOATS
        and "Advanced_SIMD_arch" not in said
    )
    assert facts.armv6_safe is oracle, said


def test_one_armv7_object_in_an_armv6_library_is_enough(compiled, tmp_path):
    for name, words in (("six.o", ARMV6), ("seven.o", ARMV7)):
        (tmp_path / "y.c").write_text(f"int {name[:-2]}(int x) {{ return x + 1; }}")
        subprocess.run([GCC, "-c", "-fPIC", *words, "-o", tmp_path / name, tmp_path / "y.c"], check=True)

    assert read(compiled(*ARMV6, *ALONE, tmp_path / "six.o")).armv6_safe
    assert not read(compiled(*ARMV6, *ALONE, tmp_path / "seven.o")).armv6_safe


def test_stripped_files_still_say_what_they_are(compiled):
    path = compiled(*ARMV6, *ALONE, "-s")
    assert read(path).armv6_safe

    subprocess.run(["arm-linux-gnueabihf-strip", "-R", ".ARM.attributes", path], check=True)
    assert not read(path).armv6_safe, "what does not say is not safe"


def wheel_facts(path, target):
    with path.open("rb") as file:
        return read_wheel(
            file, path.name, project="tiny", version="1.0", target=target, max_unpacked_bytes=1 << 24
        )


def test_a_wheel_is_for_armv6_where_each_of_its_files_is(compiled, tmp_path):
    six = compiled(*ARMV6, *ALONE, name="six.so").read_bytes()
    seven = compiled(*ARMV7, *ALONE, name="seven.so").read_bytes()

    both = make_wheel(tmp_path, "tiny", "1.0", {SO: six, "tiny/libmore.so.1": six}, BOTH)
    assert wheel_facts(both, ZERO).armv6_safe
    assert wheel_facts(both, PI).armv6_safe

    mixed = make_wheel(tmp_path, "tiny", "1.0", {SO: six, "tiny/libmore.so.1": seven}, BOTH)
    for target in (ZERO, PI):
        with pytest.raises(WheelError) as caught:
            wheel_facts(mixed, target)
        assert caught.value.reason is FailureReason.WHEEL_WRONG_ARCH
        assert "libmore.so.1" in str(caught.value)


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"], ids=["RUNPATH", "RPATH"])
def test_the_layout_of_auditwheel_is_followed_by_both_kinds_of_path(compiled, tmp_path, tags):
    library = compiled(*ARMV7, "-Wl,-soname,libfoo-0a1b2c3d.so.1", "-lm", "-Wl,--no-as-needed", name="l.so")
    module = compiled(
        *ARMV7, f"-Wl,{tags}", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN/../tiny.libs", library, name="m.so"
    )
    assert read(module).rpath == ("$ORIGIN/../tiny.libs",)

    files = {SO: module.read_bytes(), "tiny.libs/libfoo-0a1b2c3d.so.1": library.read_bytes()}
    wheel = make_wheel(tmp_path, "tiny", "1.0", files, "cp313-cp313-linux_armv7l")
    found = wheel_facts(wheel, PI).linking

    assert "libfoo-0a1b2c3d.so.1" not in found.outside
    assert found.to_load >= {"libc.so.6"}
    assert found.directories == ()
