# SPDX-License-Identifier: BSD-3-Clause
"""Where wheels lie on the disk, and how one gets there without ever being seen half.

    incoming/JOB-DIGEST.part      grows while a builder uploads (`incoming`, `write_at`)
    incoming/JOB-DIGEST.sealed    whole, and nobody writes it any more (`seal`); the master checks it
    wheels/PROJECT/FILE.whl.metadata, then wheels/PROJECT/FILE.whl     (`publish`)

A wheel counts only once the database names it, so a file that a crash left here is no harm: it is
completed or replaced when its name comes again. All of it lies on one file system, for the renames.

Several masters may share one store, on one machine or over a network file system that has `flock`:

    an upload       is locked itself while a part is added, while it is sealed or thrown away
    a publication   holds one of the files in locks/, which its project falls to (`publishing`)

The kernel lets go of both where a process dies. This module knows neither the database nor HTTP, and
imports only `core` and `master.locks`.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import hashlib
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from packaging.utils import is_normalized_name

from piwheels_node.core.errors import NodeError, StorageError, WheelError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.wheels import WheelName
from piwheels_node.master.wheels.locks import locked, open_locked

STALE_AFTER_S = 6 * 3600.0
"""An upload that has not grown for so long is given up; its lease is over since long."""

_STRIPES = 64
"""So many publications may be under way at a time; it must be the same in all masters of a store."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


class WrongOffsetError(NodeError):
    """A part of an upload does not begin where the file ends. `offset` is where the next must begin."""

    def __init__(self, offset: int, *, where: str) -> None:
        super().__init__(f"the next part of this upload begins at {offset}", where=where)
        self.offset = offset


class WheelStore:
    """The files below `root`. `at_step` is called with the name of each step of `publish`, for tests."""

    def __init__(self, root: Path, at_step: Callable[[str], None] = lambda _step: None) -> None:
        self._wheels = root / "wheels"
        self._incoming = root / "incoming"
        self._locks = root / "locks"
        self._at_step = at_step
        with _as_storage_errors(root):
            self._wheels.mkdir(parents=True, exist_ok=True)
            for private in (self._incoming, self._locks):
                private.mkdir(mode=0o700, exist_ok=True)

    def path(self, project: str, filename: str) -> Path:
        """Where a wheel lies, or would. Raises WheelError where the names could lead elsewhere."""
        WheelName.parse(filename)
        if "/" in filename or "\0" in filename or not is_normalized_name(project):
            raise WheelError(FailureReason.WHEEL_INVALID, "this is no name of a wheel", where=filename)
        return self._wheels / project / filename

    def metadata_path(self, project: str, filename: str) -> Path:
        """Where a wheel's METADATA lies beside it (PEP 658)."""
        path = self.path(project, filename)
        return path.with_name(f"{path.name}.metadata")

    def incoming(self, job_id: int, token: str) -> Path:
        """The file for an upload of the wheel of a lease; without the token nobody can name it."""
        digest = hashlib.sha256(token.encode()).hexdigest()[:32]
        return self._incoming / f"{job_id}-{digest}.part"

    def write_at(self, path: Path, offset: int, data: bytes, limit: int) -> int:
        """Append a part of an upload; gives the size so far, which is the offset of the next part.

        Raises WrongOffsetError where the file does not end at `offset`, WheelError where it would grow
        beyond `limit` bytes, StorageError on a full disk; none of them changes the file.
        """
        with _as_storage_errors(path), open_locked(path, create=True) as descriptor:
            size = os.fstat(descriptor).st_size
            if offset != size:
                raise WrongOffsetError(size, where=path.name)
            if size + len(data) > limit:
                raise WheelError(
                    FailureReason.WHEEL_TOO_BIG, f"more than the {limit} bytes announced", where=path.name
                )
            try:
                _write_all(descriptor, data, offset)
            except OSError:
                os.ftruncate(descriptor, offset)  # the part comes again, as a whole
                raise
            return size + len(data)

    def seal(self, path: Path) -> Path:
        """Close an upload, so that what is checked is what gets published; gives its new path.

        What was sealed first stays, whatever is uploaded later: `discard` it only when the lease is over.
        Raises WheelError where nothing was uploaded.
        """
        sealed = path.with_suffix(".sealed")
        with _as_storage_errors(path):
            try:
                with open_locked(path):  # nobody is in the middle of a part
                    if not sealed.exists():
                        path.rename(sealed)
            except FileNotFoundError:
                if not sealed.exists():
                    raise WheelError(
                        FailureReason.BUILDER_FAILED, "the builder reported a wheel, but sent none"
                    ) from None
        return sealed

    def discard(self, path: Path) -> None:
        """Throw an upload away, sealed or not."""
        with _as_storage_errors(path):
            with contextlib.suppress(FileNotFoundError):
                _remove_upload(path)
            path.with_suffix(".sealed").unlink(missing_ok=True)

    @contextmanager
    def publishing(self, project: str) -> Iterator[None]:
        """One publication of a project at a time, over all masters: from the look whether a name is free to
        the commit that takes it. Not to be entered twice by one thread.
        """
        stripe = zlib.crc32(project.encode()) % _STRIPES
        with contextlib.ExitStack() as held:
            with _as_storage_errors(self._locks):  # but not what happens inside
                held.enter_context(locked(self._locks / f"publish-{stripe:02x}"))
            yield

    def is_leftover(self, path: Path, project: str, filename: str) -> bool:
        """True where other bytes than an upload's lie under a name: where it is free, a crash left them."""
        final = self.path(project, filename)
        with _as_storage_errors(final):
            return final.exists() and not _same_bytes(path, final)

    def publish(
        self, path: Path, project: str, filename: str, metadata: bytes, *, name_is_ours: bool = False
    ) -> Path:
        """Put an upload in its public place, the metadata first; gives the path of the wheel.

        To be called inside `publishing`. However this is cut short, each name has either nothing or a whole
        file. Doing it again completes it: the upload stays beside, as a second link, until it is discarded.
        A file that is there with other bytes is never touched (StorageError), unless `name_is_ours` says
        that the database has no such wheel, and cannot come to have one but this: then it is what a crash
        left.
        """
        final = self.path(project, filename)
        beside = self.metadata_path(project, filename)
        with _as_storage_errors(final):
            self._make_directory(final.parent)
            if final.exists() and not _same_bytes(path, final):
                if not name_is_ours:
                    raise StorageError("a published file never changes", where=str(final))
                final.unlink()
            self._at_step("begin")
            if not final.exists() or not beside.exists():
                self._put_metadata(metadata, beside)
            self._at_step("metadata")
            _sync_file(path)
            self._at_step("synced")
            if not final.exists():
                os.link(path, final)  # unlike a rename, this never takes the place of a file
            self._at_step("linked")
            _sync_directory(final.parent)
            self._at_step("end")
        return final

    def clean(self, now: datetime, max_age_s: float = STALE_AFTER_S) -> int:
        """Remove uploads that nobody continues and what crashes left; gives how many."""
        oldest = (now - timedelta(seconds=max_age_s)).timestamp()
        removed = 0
        with _as_storage_errors(self._incoming):
            for entry in list(os.scandir(self._incoming)):
                with contextlib.suppress(FileNotFoundError):  # another master was quicker
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        _remove_upload(Path(entry.path))
                        removed += 1
        return removed

    def free_bytes(self) -> int:
        """Free disk for wheels, for a process that is not root."""
        return self.disk_bytes()[0]

    def disk_bytes(self) -> tuple[int, int]:
        """How much of the wheels' disk is free for a process that is not root, and how large it is."""
        with _as_storage_errors(self._wheels):
            found = os.statvfs(self._wheels)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def _make_directory(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        with os.scandir(directory) as entries:
            is_new = next(entries, None) is None  # or a crash came between: its name may not be on the disk
        if is_new:
            _sync_directory(directory.parent)

    def _put_metadata(self, metadata: bytes, final: Path) -> None:
        temporary = self._incoming / f"{secrets.token_hex(8)}.tmp"
        try:
            temporary.write_bytes(metadata)
            _sync_file(temporary)
            self._at_step("metadata synced")
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(final.parent)


def _remove_upload(path: Path) -> None:
    """Remove a file of incoming/ when nobody is in the middle of a part of it; raises FileNotFoundError."""
    try:
        with open_locked(path):
            path.unlink()
    except OSError:
        if not path.is_symlink():
            raise
        path.unlink()


def _same_bytes(one: Path, other: Path) -> bool:
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _sync_file(path: Path) -> None:
    """Readable by the web server, and on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _as_storage_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                "the disk is full", where=str(where), hint="free some disk; the builder sends the file again"
            ) from error
        raise StorageError(
            f"the store cannot be used: {error.strerror or error}",
            where=str(error.filename or where),
            hint="check the directory's owner, and the disk",
        ) from error
