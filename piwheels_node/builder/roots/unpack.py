# SPDX-License-Identifier: BSD-3-Clause
"""Archives of Debian's as plain files: a package, or a whole root, of which nothing is run.

`dpkg-deb --fsys-tarfile` gives a package's files as a tar stream, which is read here as hostile input: who
can offer us a package shall get no file outside its directory, no device, no set-id bit, no endless disk.
dpkg-deb's own `-x` gives it to tar with all the rights that the builder has.

- Only what is below `usr` is taken, and what a merged Debian has there: `lib`, `bin`, `sbin`. Documentation,
  translations and manuals are left out: a build needs none, and on an SD card each file costs.
- A path never leads through a link, whoever made it, `..` and devices end it, modes are 0644 and 0755.
- Links are kept as they are: nobody but a sandbox follows them. A hard link becomes one only to a plain file
  that came before it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from piwheels_node.builder.halt import Halt
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_MERGED = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32"})
_LEFT_OUT = tuple(
    ("usr", "share", name) for name in ("doc", "doc-base", "info", "lintian", "locale", "man", "bug")
)
_SAID_BYTES = 2000
_PATH_BYTES = 1000
_NAME_BYTES = 255
_LATEST_TIME = 1 << 32


@dataclass(frozen=True)
class Bounds:
    """How much an archive may hold."""

    size_bytes: int = 2 << 30
    members: int = 200_000


def unpack_package(package: Path, directory: Path, halt: Halt, bounds: Bounds | None = None) -> None:
    """Unpack the files of a `.deb` below `directory`, which exists; raises BuildError (layer-failed)."""
    bounds = bounds or Bounds()
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            unpack(process.stdout, directory, halt=halt, bounds=bounds, only=("usr",))
            code = process.wait()
        except BuildError as error:
            raise unsafe(f"{package.name}: {error.what}") from error
        finally:
            process.kill()
        if code != 0:
            said.seek(0)
            why = said.read(_SAID_BYTES).decode(errors="replace").strip()
            raise unsafe(f"{package.name} cannot be unpacked: {why or f'dpkg-deb ended with {code}'}")


def unpack(
    stream: IO[bytes], directory: Path, *, halt: Halt, bounds: Bounds, only: Iterable[str] = ()
) -> None:
    """Unpack what is below the directories of `only` (all: none given); raises BuildError (layer-failed)."""
    wanted = [PurePosixPath(name).parts for name in only]
    left = bounds.size_bytes
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for number, member in enumerate(archive):
                halt.check()
                parts = _parts(member.name)
                if not parts or not _is_wanted(parts, wanted) or _is_top(parts, member):
                    continue
                left -= max(0, member.size)
                if left < 0 or number >= bounds.members:
                    raise unsafe("it is larger than a package may be")
                _Place(directory, parts).fill(archive, member)
        while stream.read(1 << 16):  # what writes to the pipe must come to its end
            halt.check()
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise unsafe(f"it is no archive of files: {error}") from error


def link_tops(directory: Path) -> None:
    """Make the links of a merged system, as lib -> usr/lib, in a root that was unpacked here."""
    for name in sorted(_MERGED):
        if (directory / "usr" / name).is_dir() and not (directory / name).exists():
            (directory / name).symlink_to(f"usr/{name}")


def add_link(directory: Path, name: str, target: str) -> None:
    """Make one more link below `directory`, by the rules for a package's own; raises BuildError."""
    place = _Place(directory, _parts(name.lstrip("/")))
    place.point(target)


def unsafe(what: str) -> BuildError:
    """The error for a package that is not what a package should be."""
    return BuildError(FailureReason.LAYER_FAILED, what)


def _is_wanted(parts: tuple[str, ...], wanted: list[tuple[str, ...]]) -> bool:
    if any(parts[: len(out)] == out for out in _LEFT_OUT):
        return False
    return not wanted or any(parts[: len(one)] == one[: len(parts)] for one in wanted)


def _is_top(parts: tuple[str, ...], member: tarfile.TarInfo) -> bool:
    """True for the links of a merged system, as lib -> usr/lib: they are there anyway."""
    return len(parts) == len(("usr", "lib")) and parts[1] in _MERGED and member.issym()


def _parts(name: str) -> tuple[str, ...]:
    """The path of a member, on a merged system; raises BuildError for one that leads outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise unsafe(f"a file lies outside it: {name[:200]}")
    parts = path.parts
    if len(os.fsencode(name)) > _PATH_BYTES or any(len(os.fsencode(one)) > _NAME_BYTES for one in parts):
        raise unsafe(f"a name is too long: {name[:200]}")
    return ("usr", *parts) if parts and parts[0] in _MERGED else parts


class _Place:
    """Where a member goes."""

    def __init__(self, directory: Path, parts: tuple[str, ...]) -> None:
        self.directory = directory
        self.path = directory.joinpath(*parts)
        above = directory
        for part in parts[:-1]:
            above = above / part
            _make_directory(above)
            if not stat.S_ISDIR(os.lstat(above).st_mode):
                raise unsafe(f"a path leads through a file: {above.relative_to(directory)}")

    def fill(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Put the member there; what was there before goes, directories stay."""
        if member.isdir():
            _make_directory(self.path)
            if not stat.S_ISDIR(os.lstat(self.path).st_mode):
                raise unsafe(f"a directory has the name of a file: {self.path.relative_to(self.directory)}")
        elif member.issym():
            self.point(member.linkname)
        elif member.islnk():
            self._link(member)
        elif member.isreg():
            self._copy(archive, member)
        else:  # to an overlay, a device can also say that a file of the root is not there
            raise unsafe(f"it has a device: {member.name[:200]}")

    def point(self, target: str) -> None:
        """Put a link there."""
        if not 0 < len(os.fsencode(target)) <= _PATH_BYTES:
            raise unsafe(f"a link is too long: {self.path.relative_to(self.directory)}")
        self._clear()
        self.path.symlink_to(target)

    def _copy(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        source = archive.extractfile(member)
        assert source is not None  # noqa: S101 - it is a regular file
        self._clear()
        with self.path.open("xb") as copy:
            shutil.copyfileobj(source, copy, 1 << 18)
        self.path.chmod(0o755 if member.mode & 0o111 else 0o644)
        written_at = min(max(0.0, member.mtime), _LATEST_TIME)
        os.utime(self.path, (written_at, written_at))

    def _link(self, member: tarfile.TarInfo) -> None:
        source = _Place(self.directory, _parts(member.linkname)).path
        try:
            if not stat.S_ISREG(os.lstat(source).st_mode):
                raise unsafe(f"a hard link leads to what is no file: {member.name[:200]}")
            self._clear()
            os.link(source, self.path, follow_symlinks=False)
        except FileNotFoundError as error:
            raise unsafe(f"a hard link leads nowhere: {member.name[:200]}") from error

    def _clear(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.lstat(self.path).st_mode):
                raise unsafe(f"a file has the name of a directory: {self.path.relative_to(self.directory)}")
            self.path.unlink()


def _make_directory(path: Path) -> None:
    """Make a directory that everybody may read, whatever our umask; one that is there will do."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)
