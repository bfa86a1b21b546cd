# SPDX-License-Identifier: BSD-3-Clause
"""Wheels as hostile input: every lie that a wheel can tell is refused with the reason that fits."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from elfs import ET_EXEC, ET_REL, arm_attributes, make_elf
from hypothesis import given, settings
from hypothesis import strategies as st
from sdists import make_backend_wheel, make_wheel, record_hash, symlink

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.targets import Target
from piwheels_node.wheelfile import WheelFacts, read_wheel, rename_wheel

PI = Target.parse("cp313-linux_armv7l-debian13")
ZERO = Target.parse("cp313-linux_armv6l-debian13")
SO = "tiny/_speed.cpython-313-arm-linux-gnueabihf.so"
PI_TAGS = "cp313-cp313-linux_armv7l"
BOTH_TAGS = "cp313-cp313-linux_armv6l.linux_armv7l"
INVALID = FailureReason.WHEEL_INVALID
ARMV7 = arm_attributes(cpu_arch=10, fp=4)


def read(path: Path, *, target: Target = PI, limit: int = 10 << 20, **job: str) -> WheelFacts:
    job = {"project": "tiny", "version": "1.0", **job}
    with path.open("rb") as file:
        return read_wheel(file, path.name, target=target, max_unpacked_bytes=limit, **job)


def refusal(path: Path, **how) -> WheelError:
    with pytest.raises(WheelError) as caught:
        read(path, **how)
    assert path.name in str(caught.value)
    return caught.value


@pytest.fixture
def wheel(tmp_path):
    """Makes a wheel of tiny 1.0 with these lies."""

    def make(*args, name="tiny", version="1.0", **lies) -> Path:
        return make_wheel(tmp_path, name, version, *args, **lies)

    return make


def extension(wheel, content: bytes, tags: str = PI_TAGS, path: str = SO, **more) -> Path:
    return wheel({path: content, "tiny/__init__.py": "", **more}, tags)


# --- honest wheels ---


def test_a_pure_wheel_is_what_it_says(wheel):
    facts = read(wheel(requires_python=">=3.9"))

    assert facts.name.project == "tiny"
    assert facts.metadata.startswith(b"Metadata-Version: 2.1\nName: tiny\n")
    assert facts.requires_python == ">=3.9"
    assert facts.extensions == ()
    assert facts.libraries == frozenset()
    assert facts.armv6_safe
    assert facts.unpacked_bytes > 100


def test_names_and_versions_are_compared_in_canonical_form(wheel):
    facts = read(
        wheel(name="Tiny.Thing", version="1.0.0", tags="py2.py3-none-any"), project="tiny-thing", version="1"
    )

    assert facts.requires_python is None


def test_the_extension_and_the_libraries_of_a_platform_wheel_are_found(wheel):
    module = make_elf(
        "EM_ARM", needed=["libffi.so.8", "libtiny-1.so", "libc.so.6"], exports=["PyInit__speed"]
    )
    bundled = make_elf("EM_ARM", soname="libtiny-1.so", needed=["libm.so.6"], arm=arm_attributes())

    facts = read(extension(wheel, module, **{"tiny.libs/libtiny-1.2.so": bundled}))

    assert facts.extensions == (SO,)
    assert facts.libraries == {"libffi.so.8", "libc.so.6", "libm.so.6"}
    assert not facts.armv6_safe


def test_a_wheel_for_both_arms_is_safe_on_armv6(wheel):
    path = extension(wheel, make_elf("EM_ARM", exports=["PyInit__speed"], arm=arm_attributes()), BOTH_TAGS)

    assert read(path, target=PI).armv6_safe
    assert read(path, target=ZERO).armv6_safe


@pytest.mark.parametrize(
    ("kind", "machine"), [(ET_REL, "EM_X86_64"), (ET_EXEC, "EM_AVR"), (ET_EXEC, "EM_RISCV")]
)
def test_firmware_and_object_files_are_data(wheel, kind, machine):
    facts = read(wheel({"tiny/firmware.elf": make_elf(machine, kind=kind)}))

    assert facts.extensions == ()


def test_a_model_named_pth_inside_a_package_is_data(wheel):
    assert read(wheel({"tiny/weights/model.pth": b"\0" * 10}))


def test_files_for_the_schemes_that_installers_know_are_taken(wheel):
    files = {
        f"tiny-1.0.data/{scheme}/thing": "x"
        for scheme in ("purelib", "platlib", "scripts", "headers", "data")
    }

    assert read(wheel(files)).unpacked_bytes


def test_an_empty_wheel_with_directories_is_taken(wheel):
    assert read(wheel({}, members=[("tiny/", b"")]))


def test_the_wheel_of_a_real_backend_is_taken(tmp_path):
    here = f"{sys.version_info[0]}{sys.version_info[1]}"
    path = make_backend_wheel(tmp_path)

    facts = read(path, target=Target.parse(f"cp{here}-linux_x86_64-debian13"), project="tinybuild")

    assert facts.name.is_pure


# --- names, versions, tags ---


@pytest.mark.parametrize(
    "lie",
    [
        {"metadata_name": "other"},
        {"metadata_version": "1.1"},
        {"metadata_version": "nonsense"},
        {"dist_info": "other-1.0.dist-info"},
        {"dist_info": "tiny-2.dist-info"},
        {"filename": "other-1.0-py3-none-any.whl"},
        {"filename": "tiny-1.0.post1-py3-none-any.whl"},
        {"filename": "tiny-1.0+local-py3-none-any.whl"},
        {"files": {"other-1.0.data/data/x": ""}},
    ],
)
def test_a_wheel_of_another_project_or_version_is_refused(wheel, lie):
    assert refusal(wheel(**lie)).reason is FailureReason.WHEEL_WRONG_NAME


@pytest.mark.parametrize("job", [{"project": "other"}, {"version": "1.0.1"}, {"version": "not a version"}])
def test_an_honest_wheel_of_another_job_is_refused(wheel, job):
    assert refusal(wheel(), **job).reason is FailureReason.WHEEL_WRONG_NAME


@pytest.mark.parametrize(
    "tags",
    [
        "cp311-cp311-linux_armv7l",
        "cp313-cp313-linux_aarch64",
        "cp313-cp313-linux_armv6l",
        "cp313-cp313-manylinux_2_99_armv7l",
        "py2-none-any",
    ],
)
def test_tags_that_the_target_refuses_are_refused(wheel, tags):
    assert refusal(wheel({}, tags)).reason is FailureReason.WHEEL_WRONG_ARCH


@pytest.mark.parametrize(
    "lie",
    [
        {"wheel_tags": ["py3-none-linux_armv7l"]},
        {"wheel_tags": ["py3-none-any", "py2-none-any"]},
        {"wheel_tags": []},
        {"wheel_tags": ["nonsense"]},
        {"wheel_build": "2"},
        {"build": "1", "wheel_build": "2"},
        {"wheel": "Wheel-Version: 2.0\nTag: py3-none-any\n"},
        {"wheel": "Tag: py3-none-any\n"},
        {"metadata": "Metadata-Version: 2.1\nName: tiny\n"},
        {"metadata": "Name: tiny\nName: other\nVersion: 1.0\n"},
        {"metadata": "\nName: tiny\nVersion: 1.0\n"},
        {"metadata": b"Name: tiny\nVersion: 1.0\nLicense: " + b"x" * (1 << 20) + b"\n"},
        {"metadata": b"\xff\xfe"},
        {"filename": "nonsense.whl"},
        {"filename": "tiny-1.0.zip"},
    ],
)
def test_metadata_that_contradicts_the_file_name_is_refused(wheel, lie):
    assert refusal(wheel(**lie)).reason is INVALID


def test_a_compressed_tag_in_one_line_of_wheel_is_understood(wheel):
    assert read(wheel(tags="py2.py3-none-any", wheel_tags=["py2.py3-none-any"]))


@pytest.mark.parametrize(
    ("dist_info", "more"),
    [
        ("tiny", {}),
        ("tiny-1.0.dist-info", {"Tiny-1.0.dist-info/METADATA": ""}),
        ("tiny-1.0.dist-info", {"tiny-1.0.0.dist-info/x": ""}),
        ("tiny-1.0.dist-info", {"tiny-1.0.data/data/x": "", "tiny-1.0.0.data/data/x": ""}),
    ],
)
def test_a_wheel_has_one_dist_info_and_at_most_one_data_directory(wheel, dist_info, more):
    assert refusal(wheel(more, dist_info=dist_info)).reason is INVALID


# --- RECORD ---


@pytest.mark.parametrize(
    "lie",
    [
        {"bad_hash": "tiny.py"},
        {"bad_size": "tiny.py"},
        {"not_recorded": "tiny.py"},
        {"not_recorded": "tiny-1.0.dist-info/METADATA"},
        {"only_recorded": "absent.py"},
        {"only_recorded": "../outside"},
        {"members": [("unlisted.py", "")]},
        {"record": ""},
        {"record": "tiny.py,sha256=x\n"},
        {"record": b"\xff,,\n"},
        {"record": "tiny.py,md5=x,1\ntiny-1.0.dist-info/RECORD,,\n"},
        {"record": '"' + "x" * 200_000 + '",,\n'},
    ],
)
def test_a_record_that_is_not_true_is_refused(wheel, lie):
    assert refusal(wheel(**lie)).reason is INVALID


def test_a_record_that_lists_a_file_twice_is_refused(wheel):
    content = b"VERSION = '1.0'\n"
    line = f"tiny.py,{record_hash(content)},{len(content)}\n"

    assert refusal(wheel(record=line * 2)).what == "RECORD lists a file twice"


# --- the zip layer ---


@pytest.mark.parametrize(
    "member",
    [
        "../evil.py",
        "tiny/../../evil.py",
        "/etc/evil.py",
        "C:/evil.py",
        "tiny\\evil.py",
        "./evil.py",
        "tiny//evil.py",
        "evil\n.py",
        "tiny.py",  # a second one
        "TINY.PY",
        "tiny.py/evil.py",  # a file that is a directory too
        "a" * 256,
        "/".join(["a" * 200] * 6),
    ],
)
def test_a_member_with_a_name_that_is_not_plain_is_refused(wheel, member):
    error = refusal(wheel(members=[(member, "")]))

    assert error.reason is INVALID
    assert "RECORD" not in error.what  # it is refused for its name, not because nobody lists it


def test_a_name_that_is_cut_at_a_nul_is_refused(wheel):
    path = wheel(members=[("evil_py.txt", "")])
    path.write_bytes(path.read_bytes().replace(b"evil_py.txt", b"evil.py\0txt"))

    assert refusal(path).what == "a member's name is not a plain relative path"


def test_links_and_devices_are_refused(wheel):
    device = symlink("tiny/null")
    device.external_attr = 0o020666 << 16

    for member in (symlink("tiny/link"), device):
        error = refusal(wheel(members=[(member, "/etc/passwd")]))

        assert error.reason is INVALID
        assert error.what == "a member is neither a file nor a directory"


def test_encrypted_members_are_refused(wheel):
    path = wheel()
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)

    assert refusal(path).what == "a member is encrypted"


def test_packing_that_not_every_installer_knows_is_refused(wheel):
    assert refusal(wheel(compression=zipfile.ZIP_LZMA)).reason is INVALID


def test_a_wheel_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(wheel):
    path = wheel({"zeros": bytes(5 << 20)})

    assert path.stat().st_size < 1 << 16
    assert refusal(path, limit=1 << 20).reason is FailureReason.WHEEL_TOO_BIG


def test_a_member_that_inflates_to_more_than_it_declares_is_refused(wheel):
    path = wheel({"zeros": bytes(5 << 20)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 5 << 20), struct.pack("<I", 100)))

    assert refusal(path, limit=1 << 20).reason is INVALID


def test_two_members_of_the_same_bytes_are_refused(wheel):
    path = wheel({"tiny/a.py": "", "tiny/b.py": ""})
    with zipfile.ZipFile(path) as archive:
        a, b = (archive.getinfo(f"tiny/{name}.py").header_offset for name in "ab")
    content = path.read_bytes()
    entry = content.rindex(b"tiny/b.py") - 4  # the offset stands before the name, in the list at the end
    assert content[entry : entry + 4] == struct.pack("<I", b)
    path.write_bytes(content[:entry] + struct.pack("<I", a) + content[entry + 4 :])

    assert "the same bytes" in str(refusal(path))


def test_too_many_members_are_refused_before_their_list_is_read(wheel, monkeypatch):
    monkeypatch.setattr("piwheels_node.wheelzip.MAX_MEMBERS", 50)
    path = wheel({f"tiny/m{number}.py": "" for number in range(60)})

    assert refusal(path).reason is FailureReason.WHEEL_TOO_BIG


@pytest.mark.parametrize("cut", [0, 10, 60, 200])
def test_a_wheel_that_is_cut_short_is_refused(wheel, cut):
    path = wheel()
    path.write_bytes(path.read_bytes()[:cut])

    assert refusal(path).reason is INVALID


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"#!/bin/sh\n" + content,
        lambda content: content + b"more",
        lambda content: content[:-2] + b"\x04\0more",
        lambda content: content.replace(b"PK\x03\x04", b"PK\x03\x05"),
        lambda content: b"not a zip file at all, but long enough to be one",
    ],
)
def test_bytes_that_are_no_part_of_the_zip_are_refused(wheel, change):
    path = wheel()
    path.write_bytes(change(path.read_bytes()))

    assert refusal(path).reason is INVALID


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_bytes_are_changed_the_wheel_is_read_or_refused(changes):
    content = bytearray(_SAMPLE)
    for offset, value in changes:
        content[offset % len(content)] = value
    try:
        facts = read_wheel(
            io.BytesIO(content),
            "tiny-1.0-cp313-cp313-linux_armv7l.whl",
            project="tiny",
            version="1.0",
            target=PI,
            max_unpacked_bytes=1 << 20,
        )
    except WheelError:
        return
    assert facts.metadata == b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"


def _sample() -> bytes:
    import tempfile  # noqa: PLC0415 - a fixture of a function does not go with hypothesis

    with tempfile.TemporaryDirectory() as directory:
        files = {SO: make_elf("EM_ARM", exports=["PyInit__speed"], arm=ARMV7), "tiny/__init__.py": ""}
        return make_wheel(Path(directory), "tiny", "1.0", files, PI_TAGS).read_bytes()


_SAMPLE = _sample()


# --- what runs where ---


@pytest.mark.parametrize(
    "path",
    [
        "evil.pth",
        "tiny-1.0.data/purelib/evil.pth",
        "tiny-1.0.data/platlib/evil.pth",
        "tiny-1.0.data/data/lib/python3.13/site-packages/evil.pth",
        "tiny-1.0.data/data/lib/python3/dist-packages/evil.pth",
    ],
)
def test_code_that_would_run_at_every_start_of_python_is_refused(wheel, path):
    assert refusal(wheel({path: "import os"})).reason is INVALID


LUMA = (
    "import sys, types, os;p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('luma',));"
    "importlib = __import__('importlib.util');__import__('importlib.machinery');"
    "m = sys.modules.setdefault('luma', importlib.util.module_from_spec("
    "importlib.machinery.PathFinder.find_spec('luma', [os.path.dirname(p)])));"
    "m = m or sys.modules.setdefault('luma', types.ModuleType('luma'));"
    "mp = (m or []) and m.__dict__.setdefault('__path__',[]);(p not in mp) and mp.append(p)\n"
)
"""What setuptools 78.1.1 writes for a namespace."""

ZOPE_APP = (
    "import sys, types, os;has_mfs = sys.version_info > (3, 5);"
    "p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('zope', 'app'));"
    "importlib = has_mfs and __import__('importlib.util');has_mfs and __import__('importlib.machinery');"
    "m = has_mfs and sys.modules.setdefault('zope.app', importlib.util.module_from_spec("
    "importlib.machinery.PathFinder.find_spec('zope.app', [os.path.dirname(p)])));"
    "m = m or sys.modules.setdefault('zope.app', types.ModuleType('zope.app'));"
    "mp = (m or []) and m.__dict__.setdefault('__path__',[]);(p not in mp) and mp.append(p);"
    "m and setattr(sys.modules['zope'], 'app', m)\n"
)
"""What setuptools 65.5.0 writes for one in another."""


@pytest.mark.parametrize("content", [LUMA, ZOPE_APP, LUMA + ZOPE_APP, LUMA.rstrip()])
def test_what_only_joins_namespaces_is_let_through(wheel, content):
    assert read(wheel({"tiny-1.0-nspkg.pth": content, "luma/tiny.py": ""}))


@pytest.mark.parametrize(
    "content",
    [
        "",
        LUMA + "import os\n",
        LUMA + "/usr/lib/elsewhere\n",
        LUMA.rstrip() + ";import tiny\n",
        LUMA.replace("'luma'", "f()"),
        LUMA.replace("*('luma',)", "*('lima',)"),
        LUMA.replace("os.path.dirname(p)", "p"),
        LUMA.replace("luma", "lu'ma"),
        LUMA + "\n" * (64 << 10),
    ],
)
def test_what_does_more_than_join_namespaces_is_refused(wheel, content):
    assert refusal(wheel({"tiny-1.0-nspkg.pth": content})).reason is INVALID


@pytest.mark.parametrize("path", ["tiny-1.0.data/evil/x", "tiny-1.0.data/x"])
def test_files_for_unknown_places_are_refused(wheel, path):
    assert refusal(wheel({path: ""})).reason is INVALID


@pytest.mark.parametrize("machine", ["EM_X86_64", "EM_AARCH64"])
def test_native_code_for_another_processor_is_refused(wheel, machine):
    assert refusal(extension(wheel, make_elf(machine))).reason is FailureReason.WHEEL_WRONG_ARCH


def test_native_code_in_a_wheel_for_every_platform_is_refused(wheel):
    path = extension(wheel, make_elf("EM_ARM"), "py3-none-any")

    assert refusal(path).reason is FailureReason.WHEEL_WRONG_ARCH


def test_a_program_for_another_processor_is_refused_even_where_it_is_static(wheel):
    program = {"tiny-1.0.data/scripts/tiny": make_elf("EM_X86_64", kind=ET_EXEC)}

    assert refusal(wheel(program, PI_TAGS)).reason is FailureReason.WHEEL_WRONG_ARCH


@pytest.mark.parametrize("tags", [BOTH_TAGS, "cp313-cp313-linux_armv6l"])
@pytest.mark.parametrize("attributes", [ARMV7, None])
def test_armv7_code_is_never_called_armv6(wheel, tags, attributes):
    path = extension(wheel, make_elf("EM_ARM", arm=attributes), tags)

    error = refusal(path, target=ZERO)

    assert error.reason is FailureReason.WHEEL_WRONG_ARCH
    assert error.where == f"{path.name}: {SO}"


def test_a_broken_elf_file_is_refused(wheel):
    assert refusal(extension(wheel, make_elf("EM_ARM")[:100])).reason is INVALID


def test_a_large_wheel_is_read_without_having_it_in_memory(wheel):
    path = wheel({"noise": bytes(64 << 20)}, compression=zipfile.ZIP_STORED)
    tracemalloc.start()
    try:
        read(path, limit=100 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 8 << 20


# --- the same wheel under another name ---


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {member.filename: archive.read(member) for member in archive.infolist()}


def test_a_wheel_gets_a_build_tag(wheel):
    path = wheel(requires_python=">=3.9")

    renamed = rename_wheel(path, "tiny-1.0-2-py3-none-any.whl")

    assert renamed == path.with_name("tiny-1.0-2-py3-none-any.whl")
    assert b"\nBuild: 2\n" in contents(renamed)["tiny-1.0.dist-info/WHEEL"]
    assert read(renamed).name.build == (2, "")
    assert path.exists()
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, renamed.name])


def test_a_build_tag_is_replaced_and_taken_away(wheel):
    path = wheel(build="1local")

    assert read(rename_wheel(path, "tiny-1.0-3-py3-none-any.whl")).name.build == (3, "")
    assert read(rename_wheel(path, "tiny-1.0-py3-none-any.whl")).name.build == ()


def test_a_wheel_gets_other_platform_tags(wheel):
    path = extension(wheel, make_elf("EM_ARM", exports=["PyInit__speed"], arm=arm_attributes()))

    renamed = rename_wheel(path, f"tiny-1.0-{BOTH_TAGS}.whl")

    assert read(renamed, target=ZERO).extensions == (SO,)
    assert read(renamed, target=PI).extensions == (SO,)


def test_all_but_two_files_of_a_renamed_wheel_are_the_same(wheel):
    path = wheel(
        {"tiny/__init__.py": "x = 1\n" * 1000, "tiny/ä.txt": "umlaut", "tiny-1.0.data/scripts/t": "#!python"}
    )

    renamed = rename_wheel(path, "tiny-1.0-2-py3-none-any.whl")

    old, new = contents(path), contents(renamed)
    assert list(old) == list(new)
    changed = {"tiny-1.0.dist-info/WHEEL", "tiny-1.0.dist-info/RECORD"}
    assert {name for name in old if old[name] != new[name]} == changed
    with zipfile.ZipFile(path) as one, zipfile.ZipFile(renamed) as other:
        for before, after in zip(one.infolist(), other.infolist(), strict=True):
            assert (before.date_time, before.external_attr) == (after.date_time, after.external_attr)


def test_the_same_wheel_and_name_give_the_same_bytes(wheel):
    path = wheel()

    first = rename_wheel(path, "tiny-1.0-2-py3-none-any.whl").read_bytes()

    assert rename_wheel(path, "tiny-1.0-2-py3-none-any.whl").read_bytes() == first


def test_a_wheel_may_be_renamed_to_its_own_name(wheel):
    path = wheel()
    before = contents(path)

    assert contents(rename_wheel(path, path.name)) == before


def test_a_wheel_written_as_a_stream_is_renamed(tmp_path, wheel):
    path = wheel()
    members = contents(path)

    class Pipe(io.RawIOBase):  # no seeking: zipfile then writes sizes behind each member
        def __init__(self, output):
            self.output = output

        def writable(self):
            return True

        def write(self, data):
            return self.output.write(data)

    with path.open("wb") as output, zipfile.ZipFile(Pipe(output), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    assert read(path)
    assert read(rename_wheel(path, "tiny-1.0-2-py3-none-any.whl"))


@pytest.mark.parametrize("filename", ["other-1.0-py3-none-any.whl", "tiny-1.1-py3-none-any.whl"])
def test_a_wheel_does_not_become_another_projects(wheel, filename):
    path = wheel()

    with pytest.raises(WheelError) as caught:
        rename_wheel(path, filename)

    assert caught.value.reason is FailureReason.WHEEL_WRONG_NAME
    assert list(path.parent.iterdir()) == [path]


def test_a_renamed_wheel_is_installed_by_pip(tmp_path, wheel):
    renamed = rename_wheel(wheel(), "tiny-1.0-2-py3-none-any.whl")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--isolated",
        "--disable-pip-version-check",
        "install",
        "--no-deps",
    ]

    done = subprocess.run(
        [*command, "--no-index", "--no-compile", "--target", str(tmp_path / "here"), str(renamed)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "tiny.py").exists()
