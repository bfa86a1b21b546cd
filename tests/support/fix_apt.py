# SPDX-License-Identifier: BSD-3-Clause
"""A home-made Debian archive of tiny packages, for layers of a build root: files on the disk, no server.

`apt_archive.add("libtiny-dev", {"usr/include/tiny.h": ...})` makes a package; `apt_archive.sources` is what
the setting `builder.apt_sources` takes.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

TINY_HEADER = "#define TINY 42\n"
TINY_PC = "Name: tiny\nDescription: tiny\nVersion: 1.0\nCflags: -DTINY_BY_PC=1\nLibs:\n"


class AptArchive:
    """A flat archive in a directory; each `add` is seen by who updates the lists afterwards."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sources = directory / "sources.list"
        self.arch = subprocess.run(
            ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
        ).stdout.strip()
        directory.mkdir()
        self.sources.write_text(f"deb [trusted=yes] file:{directory} ./\n")
        self._stanzas: dict[str, str] = {}
        self._write()

    def add(self, name, files=(), version="1.0", *, depends="", members=(), conflicts="", postinst=""):
        """A package of some files, by path; `members` are put into its archive of files as they are.

        `postinst` is what its script does besides telling that it was run.
        """
        control = f"Package: {name}\nVersion: {version}\nArchitecture: {self.arch}\nMaintainer: t <t@t>\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += f"Conflicts: {conflicts}\n" if conflicts else ""
        control += "Description: made by a test\n"
        held = [(tarfile.TarInfo("./control"), control.encode())]
        script = f"#!/bin/sh\ntouch /piwheels-node-postinst-ran\n{postinst}"
        held.append((_executable("./postinst"), script.encode()))
        data = [(tarfile.TarInfo(f"./{path}"), _bytes(content)) for path, content in dict(files).items()]
        for info, _ in data:
            info.mode = 0o755 if "bin/" in info.name else 0o644
        deb = _ar({"debian-binary": b"2.0\n", "control.tar": _tar(held), "data.tar": _tar([*data, *members])})
        path = self.directory / f"{name}_{version.rpartition(':')[2]}_{self.arch}.deb"
        path.write_bytes(deb)
        digest = hashlib.sha256(deb).hexdigest()
        place = f"Filename: ./{path.name}\nSize: {len(deb)}\nSHA256: {digest}\n"
        self._stanzas[name] = control + place
        self._write()
        return path

    def _write(self) -> None:
        (self.directory / "Packages").write_text("\n".join(self._stanzas.values()))


def _executable(name):
    info = tarfile.TarInfo(name)
    info.mode = 0o755
    return info


def _bytes(content):
    return content.encode() if isinstance(content, str) else content


def _tar(members):
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def _ar(members):
    whole = b"!<arch>\n"
    for name, content in members.items():
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    return whole


@pytest.fixture
def apt_archive(open_tmp_path):
    """An archive with `libtiny-dev`: a header, a pkg-config file and a program."""
    archive = AptArchive(open_tmp_path / "archive")
    archive.add(
        "libtiny-dev",
        {
            "usr/include/tiny.h": TINY_HEADER,
            f"usr/lib/{_triplet()}/pkgconfig/tiny.pc": TINY_PC,
            "usr/bin/tiny-config": "#!/bin/sh\necho tiny-says-hello\n",
            "usr/share/doc/libtiny-dev/copyright": "everybody's",
        },
        depends="libtiny1",
    )
    archive.add("libtiny1", {f"usr/lib/{_triplet()}/libtiny.so.1": "no library, but a file of that name"})
    return archive


def _triplet():
    return subprocess.run(
        ["gcc", "-print-multiarch"], check=True, capture_output=True, text=True
    ).stdout.strip()
