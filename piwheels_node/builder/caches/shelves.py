# SPDX-License-Identifier: BSD-3-Clause
"""What builds share and need not keep: entries on shelves, bounded together; the longest unused go first.

An entry is a directory `SHELF/NAME/`, and the lock of an entry is a flock of that very directory:

    shared      in use: nobody removes it            `Shelf.get` gives it so, until `Held.close`
    exclusive   being made, or being removed         whoever comes second waits, and then finds it made
    none        kept; its own mtime says when it was used last

The kernel lets go of a lock when its holder dies, so a killed builder leaves nothing locked, and there are
no lock files to outlive their entries. A lock is believed only while the name still leads to the directory
that was locked. Threads and processes exclude each other alike. Package code sees only what is *below* an
entry, never the entry itself: what it could open, it could lock.

What an entry holds is written under names that nobody reads, and renamed when it is whole; so being killed
at any moment costs what was being made, and nothing else. Whether an entry is whole is for its owner to say
at each use: `ready`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from piwheels_node.builder.files import remove_tree
from piwheels_node.builder.halt import Halt

_POLL_S = 0.05
_BLOCK_BYTES = 4096
_SIZE = ".size"
_EVICTED = "evicted-"
_PART = ".part-"
_PASS_OVER = 100
_SPARE_PART = 10


class Held:
    """Something on a shelf that stays where it is until `close`; also a context manager."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        """Let go of it; more than once is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, order=True)
class _Entry:
    """An entry as `shrink` sees it; the one used least recently is the smallest."""

    used_at: float
    path: Path
    size_bytes: int


class Shelf:
    """A directory of entries. Several threads and processes may share it."""

    def __init__(self, root: Path, *, deep: bool = False) -> None:
        """The size of `deep` entries, which are whole trees, is noted beside them."""
        self.root = root
        self.deep = deep
        self.added_bytes = 0
        "What was made here by this process, since its start; nothing is taken off for what is evicted."
        root.mkdir(parents=True, exist_ok=True)

    def get(
        self,
        name: str,
        *,
        ready: Callable[[Path], bool],
        make: Callable[[Path], None],
        inside: str = "",
        halt: Halt,
    ) -> Held:
        """The entry, or what is `inside` it; in use until it is closed.

        `make` fills the entry's directory where `ready` says that it is not whole; it may find there what
        somebody left who was killed at it. Raises what `make` raises, and BuildError where `halt` is set.
        """
        while True:
            shared = self._lock(name, fcntl.LOCK_SH, halt)
            try:
                if ready(shared.path):
                    os.utime(shared.path)
                    return self._inside(shared, inside)
            except BaseException:
                shared.close()
                raise
            shared.close()
            alone = self._lock_alone(name, halt)
            if alone is None:  # somebody makes it, or has made it by now and uses it: look again
                continue
            try:
                if not ready(alone.path):
                    make(alone.path)
                    self.measure(alone.path)
                os.utime(alone.path)
                # Letting others in again is two steps to the kernel; in between it may have been evicted.
                if _wait(alone, fcntl.LOCK_SH, halt):
                    return self._inside(alone, inside)
            except BaseException:
                with contextlib.suppress(OSError):
                    alone.path.rmdir()  # an empty one: nothing was made
                alone.close()
                raise
            alone.close()

    def measure(self, entry: Path) -> None:
        """Count what was added; the size of a deep entry is written down, since counting is slow."""
        size_bytes = _bytes_below(entry)
        self.added_bytes += size_bytes
        if self.deep:
            part = entry / f"{_SIZE}-{os.getpid()}-{threading.get_ident()}"
            part.write_text(str(size_bytes))
            part.replace(entry / _SIZE)

    def entries(self) -> list[_Entry]:
        """All entries that are there now."""
        found = []
        with os.scandir(self.root) as listed:
            for one in listed:
                with contextlib.suppress(FileNotFoundError):  # evicted just now
                    if one.is_dir(follow_symlinks=False) and not one.name.startswith(_EVICTED):
                        path = Path(one.path)
                        found.append(_Entry(one.stat().st_mtime, path, self._size_bytes(path)))
        return found

    def evict(self, entry: Path) -> bool:
        """Remove an entry, unless somebody uses it."""
        try:
            held = self._open(entry.name)
        except FileNotFoundError:
            return False
        with held:
            try:
                fcntl.flock(_fileno(held), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if not _is_at(held, entry):
                return False
            doomed = entry.with_name(f"{_EVICTED}{entry.name}")
            remove_tree(doomed) if doomed.exists() else None
            entry.rename(doomed)
        remove_tree(doomed)
        return True

    def sweep(self) -> None:
        """Remove what somebody was removing who was killed at it."""
        for left in self.root.glob(f"{_EVICTED}*"):
            remove_tree(left)

    def _size_bytes(self, entry: Path) -> int:
        if self.deep:
            with contextlib.suppress(OSError, ValueError):
                return int((entry / _SIZE).read_text())
        return _bytes_below(entry)

    def _inside(self, held: Held, inside: str) -> Held:
        held.path /= inside
        return held

    def _open(self, name: str) -> Held:
        path = self.root / name
        return Held(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _lock_alone(self, name: str, halt: Halt) -> Held | None:
        """The entry for oneself; None, after a moment, where it is not to be had now."""
        try:
            held = self._open(name)
        except FileNotFoundError:  # evicted just now
            return None
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(_fileno(held), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(held, held.path):
                return held
        held.close()
        halt.wait(_POLL_S)
        return None

    def _lock(self, name: str, kind: int, halt: Halt) -> Held:
        """The entry, locked, and made where there was none."""
        path = self.root / name
        while True:
            with contextlib.suppress(
                FileExistsError
            ):  # `exist_ok` would look again, and it may be gone by then
                path.mkdir()
            try:
                held = self._open(name)
            except FileNotFoundError:  # evicted just now
                continue
            try:
                if _wait(held, kind, halt):
                    return held
            except BaseException:
                held.close()
                raise
            held.close()


class Bound:
    """The bound of several shelves together.

    Counting all entries takes seconds on a Pi, so it is done when what was added since the last time may be
    too much; and now and then all the same, for what other processes add.
    """

    def __init__(self, *shelves: Shelf) -> None:
        self.shelves = shelves
        self._guard = threading.Lock()
        self._counted: int | None = None
        self._added_then = 0
        self._passed_over = 0

    def shrink(self, max_bytes: int) -> int:
        """Remove entries until no more than `max_bytes` are left, and a tenth less; gives the bytes freed.

        The least recently used go first, and none that is in use: where those alone are too many, they stay.
        """
        with self._guard:
            added = sum(shelf.added_bytes for shelf in self.shelves)
            if self._counted is not None and self._passed_over < _PASS_OVER:
                self._passed_over += 1
                if self._counted + added - self._added_then <= max_bytes:
                    return 0
            self._passed_over, self._added_then = 0, added
            return self._count_and_shrink(max_bytes)

    def _count_and_shrink(self, max_bytes: int) -> int:
        """One process does this at a time; one that comes while another is at it does nothing."""
        with self.shelves[0]._open("") as guard:  # noqa: SLF001 - a shelf is a directory like its entries
            try:
                fcntl.flock(_fileno(guard), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
            for shelf in self.shelves:
                shelf.sweep()
            kept = sorted((entry, shelf) for shelf in self.shelves for entry in shelf.entries())
            total, freed = sum(entry.size_bytes for entry, _ in kept), 0
            goal = total if total <= max_bytes else max_bytes - max_bytes // _SPARE_PART
            for entry, shelf in kept:
                if total - freed <= goal:
                    break
                freed += entry.size_bytes if shelf.evict(entry.path) else 0
            self._counted = total - freed
            return freed


def _wait(held: Held, kind: int, halt: Halt) -> bool:
    """Wait for the lock; False where the entry has been evicted meanwhile. Raises BuildError."""
    while True:
        try:
            fcntl.flock(_fileno(held), kind | fcntl.LOCK_NB)
        except BlockingIOError:
            halt.wait(_POLL_S)
        else:
            return _is_at(held, held.path)


def _fileno(held: Held) -> int:
    assert held._descriptor is not None  # noqa: S101, SLF001 - it is open while this module works with it
    return held._descriptor  # noqa: SLF001 - of this module


def _is_at(held: Held, path: Path) -> bool:
    """True where the name still leads to the directory that is held."""
    try:
        return os.path.samestat(os.fstat(_fileno(held)), os.stat(path))
    except FileNotFoundError:
        return False


def _bytes_below(directory: Path) -> int:
    """What the files below a directory take on a disk of 4 KiB blocks."""
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed or renamed just now
                size = os.lstat(os.path.join(root, name)).st_size
                total += -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
    return total


def workplace(entry: Path) -> Path:
    """A new directory in an entry, to make things in; what killed builders left there goes.

    What they had started may still be at work in theirs, and end after they do: so each has its own.
    """
    for left in entry.glob(f"{_PART}*"):
        with contextlib.suppress(OSError):
            remove_tree(left)
    return Path(tempfile.mkdtemp(prefix=_PART, dir=entry))
