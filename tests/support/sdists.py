# SPDX-License-Identifier: BSD-3-Clause
"""Source distributions and wheels made on the fly, honest ones and lying ones.

    make_sdist(directory, "tiny", "1.0")                          an honest package with one module, `tiny`
    make_sdist(..., c_source=c_extension("_tiny"))                one with an extension module, `_tiny`
    make_sdist(..., setup="import socket; ...")                   one that misbehaves while it is built
    make_sdist(..., backend="tinybuild", requires=["tinybuild"])  one that needs an installed backend:
    make_backend_wheel(directory)                                 this one
    make_wheel(directory, "tiny", "1.0", metadata_name="other")   a wheel without a build, and its lies

All of it is deterministic and needs no network. It knows nothing of the package under test.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

MADE_AT = 1704164645
"""Time of all members of the sdists: 2024-01-02 03:04:05 UTC, that of `fix_pypi.UPLOAD_TIME`."""

BACKEND = Path(__file__).with_name("tinybuild.py")

_C_EXTENSION = """\
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "MODULE", NULL, -1, methods};
PyMODINIT_FUNC PyInit_MODULE(void) { return PyModule_Create(&module); }
"""


def c_extension(module: str, *, prelude: str = "") -> str:
    """C source of an extension module whose `answer()` is 42; `prelude` comes first: `#include <no.h>`."""
    return f"{prelude}\n{_C_EXTENSION.replace('MODULE', module)}"


def make_sdist(
    directory: Path,
    name: str,
    version: str,
    *,
    setup: str = "",
    ask: str = "",
    files: Mapping[str, str | bytes] | None = None,
    requires: Sequence[str] = (),
    install_requires: Sequence[str] = (),
    backend: str = "inline",
    c_source: str | None = None,
    c_module: str | None = None,
    requires_python: str | None = None,
    pyproject: str | None = None,
    extra: Mapping[str, str | bytes] | None = None,
    members: Iterable[tuple[tarfile.TarInfo, bytes]] = (),
) -> Path:
    """Write `NAME-VERSION.tar.gz` (PEP 625) into the directory and return its path.

    `files` are the modules, by path (default: one, with `VERSION` in it). `setup` is code that runs at the
    start of build_wheel, with `config` (the table below, to change) and `wheel_directory`; `ask` is code that
    runs in get_requires_for_build_wheel and may fill `requires`. `requires` is build-system.requires;
    `backend` is "inline" (in the sdist) or "tinybuild" (to be installed: name it in `requires`).
    `c_source` is compiled into `c_module`, by default the module's name with an underscore before it.
    `pyproject` stands in place of the pyproject.toml; `extra` are further files of the sdist by path;
    `members` are put into the archive as they are, at the end.
    """
    module = _module(name)
    config: dict[str, str | list[str]] = {"name": name, "version": version}
    if requires_python is not None:
        config["requires_python"] = requires_python
    if install_requires:
        config["install_requires"] = list(install_requires)
    sources = files if files is not None else {f"{module}.py": f"VERSION = {version!r}\n"}
    content: dict[str, str | bytes] = {f"src/{path}": text for path, text in sources.items()}
    if c_source is not None:
        config["c_module"] = c_module or f"_{module}"
        content[f"src/{config['c_module']}.c"] = c_source
    if setup:
        content["tiny_setup.py"] = setup
    if ask:
        content["tiny_ask.py"] = ask
    if backend == "inline":
        content["tinybuild.py"] = BACKEND.read_bytes()
    content["pyproject.toml"] = pyproject or _pyproject(config, requires, inline=backend == "inline")
    content["PKG-INFO"] = _metadata(name, version, requires_python, install_requires)
    content.update(extra or {})
    stem = f"{module.lower()}-{version}"
    path = directory / f"{stem}.tar.gz"
    _write_tar(path, {f"{stem}/{member}": _bytes(text) for member, text in sorted(content.items())}, members)
    return path


def make_backend_wheel(directory: Path) -> Path:
    """Write the backend of `make_sdist(backend="tinybuild")` as an installable wheel, `tinybuild` 1.0."""
    return make_wheel(directory, "tinybuild", "1.0", {"tinybuild.py": BACKEND.read_bytes()})


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    tags: str = "py3-none-any",
    *,
    build: str = "",
    requires_python: str | None = None,
    install_requires: Sequence[str] = (),
    filename: str | None = None,
    dist_info: str | None = None,
    metadata_name: str | None = None,
    metadata_version: str | None = None,
    metadata: str | bytes | None = None,
    wheel: str | bytes | None = None,
    wheel_tags: Sequence[str] | None = None,
    wheel_build: str | None = None,
    bad_hash: str | None = None,
    bad_size: str | None = None,
    not_recorded: str | None = None,
    only_recorded: str | None = None,
    record: str | bytes | None = None,
    members: Iterable[tuple[str | zipfile.ZipInfo, str | bytes]] = (),
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a wheel of these modules and return its path; `tags` is the last part of its name.

    Everything after `install_requires` is a lie: another file name, dist-info directory, METADATA (whole, or
    its Name or Version), WHEEL (whole, or its tags or build tag), a member with a wrong hash or size in
    RECORD, one that RECORD leaves out, one that only RECORD has, a whole RECORD, and members that are added
    to the zip as they are after all others and recorded nowhere (`symlink` makes one).
    """
    module = _module(name)
    sources = files if files is not None else {f"{module}.py": f"VERSION = {version!r}\n"}
    content = {path: _bytes(text) for path, text in sources.items()}
    info = dist_info or f"{module.lower()}-{version}.dist-info"
    content[f"{info}/METADATA"] = _bytes(
        metadata
        if metadata is not None
        else _metadata(metadata_name or name, metadata_version or version, requires_python, install_requires)
    )
    build_tag = build if wheel_build is None else wheel_build
    stated = wheel_tags if wheel_tags is not None else expand_tags(tags)
    content[f"{info}/WHEEL"] = _bytes(wheel if wheel is not None else _wheel(stated, build_tag))
    if record is None:
        record = _record(
            content,
            f"{info}/RECORD",
            bad_hash=bad_hash,
            bad_size=bad_size,
            not_recorded=not_recorded,
            only_recorded=only_recorded,
        )
    stem = "-".join(filter(None, [module.lower(), version, build, tags]))
    path = directory / (filename or f"{stem}.whl")
    listed = [*content.items(), (f"{info}/RECORD", record), *members]
    with zipfile.ZipFile(path, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the same name twice, which is meant
        for member, text in listed:
            archive.writestr(_zip_info(member, compression), _bytes(text))
    return path


def symlink(path: str) -> zipfile.ZipInfo:
    """A member that is a symbolic link; its content is where it leads."""
    info = zipfile.ZipInfo(path)
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    return info


def expand_tags(tags: str) -> list[str]:
    """The single tags of a compressed set (PEP 425): `cp39-abi3-a.b` is two."""
    pythons, abis, platforms = (part.split(".") for part in tags.split("-"))
    return [f"{python}-{abi}-{platform}" for python in pythons for abi in abis for platform in platforms]


def record_hash(content: bytes) -> str:
    """The hash of a file as RECORD writes it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def _module(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _pyproject(config: Mapping[str, str | list[str]], requires: Sequence[str], *, inline: bool) -> str:
    lines = ["[build-system]", f"requires = {json.dumps(list(requires))}", 'build-backend = "tinybuild"']
    if inline:
        lines.append('backend-path = ["."]')
    lines += ["", "[tool.tinybuild]", *(f"{key} = {json.dumps(value)}" for key, value in config.items())]
    return "\n".join([*lines, ""])


def _metadata(name: str, version: str, requires_python: str | None, requires: Sequence[str]) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if requires_python is not None:
        lines.append(f"Requires-Python: {requires_python}")
    return "\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires), ""])


def _wheel(tags: Sequence[str], build: str) -> str:
    pure = str(all(tag.endswith("-any") for tag in tags)).lower()
    lines = ["Wheel-Version: 1.0", "Generator: tests", f"Root-Is-Purelib: {pure}"]
    lines += [f"Tag: {tag}" for tag in tags]
    if build:
        lines.append(f"Build: {build}")
    return "\n".join([*lines, ""])


def _record(
    content: Mapping[str, bytes],
    own_path: str,
    *,
    bad_hash: str | None,
    bad_size: str | None,
    not_recorded: str | None,
    only_recorded: str | None,
) -> str:
    lines = []
    for path, text in content.items():
        if path != not_recorded:
            digest = record_hash(b"something else" if path == bad_hash else text)
            lines.append(f"{path},{digest},{len(text) + (path == bad_size)}")
    if only_recorded:
        lines.append(f"{only_recorded},{record_hash(b'')},0")
    return "\n".join([*lines, f"{own_path},,", ""])


def _zip_info(member: str | zipfile.ZipInfo, compression: int) -> zipfile.ZipInfo:
    if isinstance(member, zipfile.ZipInfo):
        return member
    info = zipfile.ZipInfo(member)
    info.compress_type = compression
    info.create_system = 3
    info.external_attr = (0o040755 if member.endswith("/") else 0o100644) << 16
    return info


def _write_tar(
    path: Path, content: Mapping[str, bytes], members: Iterable[tuple[tarfile.TarInfo, bytes]]
) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, text in content.items():
            info = tarfile.TarInfo(member)
            info.size, info.mtime, info.mode = len(text), MADE_AT, 0o644
            archive.addfile(info, io.BytesIO(text))
        for info, text in members:
            archive.addfile(info, io.BytesIO(text))
    path.write_bytes(gzip.compress(made.getvalue(), mtime=0))
