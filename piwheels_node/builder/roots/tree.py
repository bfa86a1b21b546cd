# SPDX-License-Identifier: BSD-3-Clause
"""A Debian as a tree of files: the host's own, or one that was made below the builder's directory.

Package code sees a tree read-only, through the sandbox. Our own helpers (pip that resolves, the compiler of
bytecode, the question which Python there is) run with `enter`: the tree's `/usr` in place of the host's,
everything else as it is. What they run is Debian's and ours, so they may have the network; package code is
never run that way.

This module imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_ETC = ("alternatives", "debian_version", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "os-release")
_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Tree:
    """A Debian's files. `name` is what people call it; `path` is its top directory, `/` for the host."""

    name: str
    path: Path

    @property
    def is_host(self) -> bool:
        """True for the machine's own."""
        return self.path == Path("/")

    @property
    def usr(self) -> Path:
        """Where its `/usr` is."""
        return self.path / "usr"

    @property
    def dpkg(self) -> Path:
        """Where dpkg keeps what it knows of it."""
        return self.path / "var" / "lib" / "dpkg"

    @property
    def loader_cache(self) -> Path:
        """The cache of its dynamic loader."""
        return self.path / "etc" / "ld.so.cache"

    def mounts(self, usr: Path | None = None) -> list[str]:
        """Options of bubblewrap that show it to package code; `usr` stands in for its own `/usr`."""
        return ["--ro-bind", str(usr or self.usr), "/usr", *_tops(self.path)]

    def settings(self) -> list[str]:
        """Options of bubblewrap that show what of its `/etc` tools and the loader need."""
        options: list[str] = []
        for name in _ETC:
            options += ["--ro-bind-try", str(self.path / "etc" / name), f"/etc/{name}"]
        return options

    def enter(
        self,
        command: Sequence[str],
        *,
        writable: Path | None = None,
        readable: Mapping[Path, Path] | None = None,
        network: bool = False,
    ) -> list[str]:
        """The command as it is called to run with this tree's programs; as it is for the host.

        `writable` is a directory that it may write to; `readable` has places inside that, and what is to be
        seen there.
        """
        if self.is_host:
            return list(command)
        options = ["bwrap", "--die-with-parent", "--ro-bind", "/", "/", "--ro-bind", str(self.usr), "/usr"]
        options += ["--ro-bind-try", str(self.loader_cache), "/etc/ld.so.cache"]
        options += ["--dev", "/dev", "--proc", "/proc", "--unshare-pid"]
        options += [] if network else ["--unshare-net"]
        options += ["--bind", str(writable), str(writable)] if writable else []
        for place, what in (readable or {}).items():
            options += ["--ro-bind", str(what), str(place)]
        return [*options, "--", *command]

    def os_release(self) -> dict[str, str]:
        """What it calls itself: the fields of os-release."""
        return os_release(self.path)

    def identity(self) -> str:
        """A name of all that is installed in it: the packages with their versions, release, architecture."""
        try:
            about = (self.dpkg / "status").stat()
        except OSError:
            return ""
        return _identity(self.path, about.st_mtime_ns, about.st_size)


HOST = Tree("host", Path("/"))
"""The machine's own Debian."""


@lru_cache(maxsize=16)
def _tops(path: Path) -> tuple[str, ...]:
    """The old top directories: links into /usr on a merged system, mounts on others."""
    options: list[str] = []
    for name in _TOP:
        place = path / name
        if place.is_symlink():
            options += ["--symlink", os.readlink(place), f"/{name}"]
        elif place.is_dir():
            options += ["--ro-bind", str(place), f"/{name}"]
    return tuple(options)


def os_release(path: Path) -> dict[str, str]:
    """The fields of the os-release of the Debian below `path`; none where it has none."""
    try:
        lines = (path / "etc" / "os-release").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key: value.strip('"') for key, value in pairs}


@lru_cache(maxsize=16)
def _identity(path: Path, _written_at: int, _size_bytes: int) -> str:
    """The same until dpkg writes its status file again."""
    digest = hashlib.sha256(os_release(path).get("VERSION_ID", "").encode() + b"\n")
    status = path / "var" / "lib" / "dpkg" / "status"
    for package in sorted(_installed(status.read_text(errors="replace"))):
        digest.update(f"{package}\n".encode())
    return digest.hexdigest()


def _installed(status: str) -> Iterator[str]:
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version|Architecture): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            yield f"{fields['Package']}:{fields.get('Architecture')} {fields.get('Version')}"
