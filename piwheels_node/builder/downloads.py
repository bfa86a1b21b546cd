# SPDX-License-Identifier: BSD-3-Clause
"""Files from the network, kept by their SHA-256: source archives, and the wheels of build environments.

A file is stored under the hash of the bytes that arrived, so the cache cannot hold a wrong one: what is
taken out of it was checked when it was put in. Nothing that is fetched is run.

A server that says nothing for half a minute cannot be hurried; so each download has a thread, which is left
alone when the builder is to stop.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import logging
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from piwheels_node import __version__
from piwheels_node.builder.files import remove_tree
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_log = logging.getLogger(__name__)
_TRIES = 3
_RETRY_S = 0.5
_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_WAKE_S = 0.1
_PARTIAL = "partial-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Downloads:
    """A cache of files below `root`, one directory per hash. Safe to use from several threads."""

    def __init__(self, root: Path, stop: threading.Event, certificates: Path | None = None) -> None:
        """`stop` makes every `get` end at once. What a killed builder had begun to fetch is removed."""
        self.root = root
        self.stop = stop
        self.certificates = certificates
        root.mkdir(parents=True, exist_ok=True)
        for partial in root.glob(f"{_PARTIAL}*"):
            partial.unlink(missing_ok=True)

    def get(
        self,
        url: str,
        sha256: str | None,
        filename: str,
        max_bytes: int,
        *,
        stop: threading.Event | None = None,
    ) -> Path:
        """The file at `url`; raises BuildError: fetch-failed, hash-mismatch, out-of-disk.

        Without `sha256` the bytes are believed: only for indexes that give no hashes. `stop` makes this one
        end at once.
        """
        stop = stop or self.stop
        if sha256:
            path = self._path(sha256, filename)
            with contextlib.suppress(FileNotFoundError):
                os.utime(path.parent)
                if path.exists():
                    return path
        for tried in range(1, _TRIES + 1):
            try:
                return self._unless_stopped(lambda: self._fetch(url, sha256, filename, max_bytes, stop), stop)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500  # noqa: PLR2004
                if refused or tried == _TRIES or stop.wait(_RETRY_S * tried):
                    raise BuildError(
                        FailureReason.FETCH_FAILED,
                        f"{filename} could not be downloaded: {error}",
                        evidence=url,
                    ) from error
                _log.info("%s: %s; trying again", url, error)
            except OSError as error:
                if error.errno in _FULL:
                    raise BuildError(
                        FailureReason.OUT_OF_DISK, f"{filename} does not fit: {error}"
                    ) from error
                raise
        raise AssertionError("unreachable")

    def _unless_stopped(self, fetch: Callable[[], Path], stop: threading.Event) -> Path:
        """What `fetch` gives; raises BuildError at once where we are to stop, whatever it waits for."""
        outcome: concurrent.futures.Future[Path] = concurrent.futures.Future()

        def work() -> None:
            try:
                outcome.set_result(fetch())
            except BaseException as error:  # noqa: BLE001 - the boundary of the thread: the caller gets it
                outcome.set_exception(error)

        threading.Thread(target=work, name="download", daemon=True).start()
        while not concurrent.futures.wait([outcome], _WAKE_S).done:
            if stop.is_set() or self.stop.is_set():
                raise _stopped()
        return outcome.result()

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            verify=ssl.create_default_context(cafile=self.certificates),
            timeout=_TIMEOUT_S,
            follow_redirects=True,
            headers={"User-Agent": f"piwheels-node/{__version__}", "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Close the connections."""
        if "_client" in self.__dict__:
            self._client.close()

    def _path(self, sha256: str, filename: str) -> Path:
        return self.root / sha256 / os.path.basename(filename)

    def _fetch(
        self, url: str, sha256: str | None, filename: str, max_bytes: int, stop: threading.Event
    ) -> Path:
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=_PARTIAL) as partial:
            for chunk in self._stream(url, stop):
                size += len(chunk)
                if size > max_bytes:
                    raise BuildError(
                        FailureReason.BAD_ARCHIVE,
                        f"{filename} is larger than {max_bytes} bytes",
                        evidence=url,
                    )
                digest.update(chunk)
                partial.write(chunk)
            partial.flush()
            found = digest.hexdigest()
            if sha256 and found != sha256:
                raise BuildError(
                    FailureReason.HASH_MISMATCH,
                    f"{filename} has SHA-256 {found}, not {sha256}",
                    evidence=url,
                )
            path = self._path(found, filename)
            path.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another thread was first, with the same bytes
                os.link(partial.name, path)
        return path

    def _stream(self, url: str, stop: threading.Event) -> Iterator[bytes]:
        parts = urlsplit(url)
        if parts.scheme == "file":
            with open(unquote(parts.path), "rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
            return
        with self._client.stream("GET", url) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes(_CHUNK):
                if stop.is_set() or self.stop.is_set():
                    raise _stopped()
                yield chunk


def _stopped() -> BuildError:
    return BuildError(FailureReason.BUILDER_FAILED, "the builder was asked to stop")


def evict(directories: list[Path], max_bytes: int, *, spare_s: float = 4 * 3600) -> int:
    """Remove the entries used least recently until the rest fits; gives the bytes freed.

    An entry is a directory right below one of `directories`; its time of use is its own mtime. What was
    used within `spare_s` seconds stays, since a build (three hours at most by default) may have it open.
    """
    entries = []
    for directory in directories:
        with os.scandir(directory) as found:
            entries += [
                (one.stat().st_mtime, _entry_bytes(Path(one.path)), Path(one.path))
                for one in found
                if one.is_dir()
            ]
    total, freed = sum(size for _, size, _ in entries), 0
    for used_at, size, path in sorted(entries):
        if total - freed <= max_bytes or time.time() - used_at < spare_s:
            break
        doomed = path.with_name(f"evicted-{path.name}")
        path.rename(doomed)
        remove_tree(doomed)
        freed += size
    return freed


def _entry_bytes(directory: Path) -> int:
    return sum(
        os.lstat(os.path.join(root, name)).st_size for root, _, names in os.walk(directory) for name in names
    )
