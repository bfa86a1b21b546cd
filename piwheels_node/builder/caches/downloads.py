# SPDX-License-Identifier: BSD-3-Clause
"""Files from the network, kept by their SHA-256: source archives, and the wheels of build environments.

A file is read through and hashed each time it is taken out, not only when it arrives: a power cut may have
emptied it since, and it is about to be read anyway. Nothing that is fetched is run.

What arrives is written to `.partial`, with the server's validator (ETag, or Last-Modified) in a note beside
it. Where the connection or the builder ends early, the rest is asked for (RFC 9110: Range, and If-Range, so
that a file which has changed is sent whole), at once or by whoever wants the file next. The hash of the
whole decides; parts that do not belong together are thrown away and fetched once more.

A server that says nothing for half a minute cannot be hurried; so each download has a thread, which is left
alone when the builder is to stop. It writes nothing after that.
"""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import json
import logging
import os
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from piwheels_node import __version__
from piwheels_node.builder.caches.shelves import Held, Shelf
from piwheels_node.builder.confine.written import count, measured
from piwheels_node.builder.files import sha256_of
from piwheels_node.builder.halt import Halt
from piwheels_node.core.errors import BuildError
from piwheels_node.core.failure import FailureReason

_log = logging.getLogger(__name__)
_FAILURES = 3  # in a row, with not a byte between them
_TRIES = 50
_RETRY_S = 0.5
_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_WAKE_S = 0.1
_PARTIAL = ".partial"
_NOTE = ".partial.json"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PARTIAL_CONTENT = 206
_UNSATISFIABLE = 416


class _SpoiltError(Exception):
    """What was there of the file does not go with what came; it is gone, and the whole must come anew."""


@dataclass(frozen=True)
class _Wanted:
    """A file to be fetched. Without `sha256` the bytes are believed: only for indexes that give no hashes."""

    url: str
    sha256: str | None
    filename: str
    max_bytes: int

    @property
    def entry(self) -> str:
        """Where it is kept."""
        return self.sha256 or f"url-{hashlib.sha256(self.url.encode()).hexdigest()}"


class Downloads:
    """A cache of files below `root`, one directory per hash. Several threads and processes may share it."""

    def __init__(self, root: Path, stop: threading.Event, certificates: Path | None = None) -> None:
        """`stop` makes every `get` end at once."""
        self.stop = stop
        self.certificates = certificates
        self.shelf = Shelf(root)

    def get(
        self,
        url: str,
        sha256: str | None,
        filename: str,
        max_bytes: int,
        *,
        stop: threading.Event | None = None,
    ) -> Held:
        """The file at `url`, kept until it is closed.

        Without `sha256` it is asked for each time. `stop` makes this one end at once. Raises BuildError:
        fetch-failed, hash-mismatch, bad-archive where it is too large, out-of-disk.
        """
        halt = Halt(stop, self.stop)
        wanted = _Wanted(url, sha256, os.path.basename(filename), max_bytes)
        try:
            return self.shelf.get(
                wanted.entry,
                ready=lambda entry: _is_whole(entry / wanted.filename, sha256),
                make=lambda entry: self._insist(wanted, entry, halt),
                inside=wanted.filename,
                halt=halt,
            )
        except OSError as error:
            if error.errno in _FULL:
                raise BuildError(
                    FailureReason.OUT_OF_DISK, f"{wanted.filename} does not fit: {error}"
                ) from error
            raise

    def close(self) -> None:
        """Close the connections."""
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(
            verify=ssl.create_default_context(cafile=self.certificates),
            timeout=_TIMEOUT_S,
            follow_redirects=True,
            headers={"User-Agent": f"piwheels-node/{__version__}", "Accept-Encoding": "identity"},
        )

    def _insist(self, wanted: _Wanted, entry: Path, halt: Halt) -> None:
        """Fetch until it is all there; give up where nothing more comes."""
        failures = 0
        for _ in range(_TRIES):
            had = _size(entry / _PARTIAL)
            try:
                _in_thread(lambda: self._fetch(wanted, entry, halt), halt)
            except _SpoiltError as error:
                _log.info("%s: %s; fetching it whole", wanted.url, error)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                refused = isinstance(error, httpx.HTTPStatusError) and not error.response.is_server_error
                failures = 1 if _size(entry / _PARTIAL) > had else failures + 1
                if refused or failures == _FAILURES:
                    raise _failed(wanted, error) from error
                _log.info("%s: %s; trying again", wanted.url, error)
                halt.wait(_RETRY_S * failures)
            except OSError:
                _forget(entry)
                raise
            else:
                return
        raise _failed(wanted, f"the connection was cut {_TRIES} times")

    def _fetch(self, wanted: _Wanted, entry: Path, halt: Halt) -> None:
        """One try; raises httpx.HTTPError, and _SpoiltError where what was there was of no use."""
        arrival = _Arrival(wanted, entry, halt)
        parts = urlsplit(wanted.url)
        if parts.scheme == "file":
            with open(unquote(parts.path), "rb") as file:
                arrival.begin_anew({})
                arrival.take(iter(lambda: file.read(_CHUNK), b""))
        elif not arrival.is_whole():
            with self._client.stream("GET", wanted.url, headers=arrival.headers()) as response:
                if response.status_code == _UNSATISFIABLE and arrival.had:
                    raise arrival.spoilt("the server has not that much of it")
                response.raise_for_status()
                if response.status_code != _PARTIAL_CONTENT:
                    arrival.begin_anew(response.headers)
                elif not arrival.goes_on(response.headers):
                    raise arrival.spoilt("the server sent another part of it")
                arrival.take(response.iter_bytes())  # as it comes: a chunk that is cut would be lost
        arrival.finish()


class _Arrival:
    """The part of a file that is here, and what is added to it."""

    def __init__(self, wanted: _Wanted, entry: Path, halt: Halt) -> None:
        self.wanted = wanted
        self.entry = entry
        self.halt = halt
        self.partial = entry / _PARTIAL
        self.digest = hashlib.sha256()
        self.had = 0
        self.validator = self._noted()
        if self.validator is not None and self.partial.exists():
            self.had = _feed(self.digest, self.partial)

    def _noted(self) -> str | None:
        """What the server called the version of which we have a part; None: there is none to go on with."""
        try:
            note = json.loads((self.entry / _NOTE).read_text())
            same_place = note["url"] == self.wanted.url
            validator = str(note["validator"]) if same_place else ""
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return validator if validator or self.wanted.sha256 else None

    def is_whole(self) -> bool:
        """True where all of it had come before somebody was killed."""
        return self.had > 0 and self.digest.hexdigest() == self.wanted.sha256

    def headers(self) -> dict[str, str]:
        """What to ask for: what is not here yet."""
        if not self.had:
            return {}
        asked = {"Range": f"bytes={self.had}-"}
        return {**asked, "If-Range": self.validator} if self.validator else asked

    def begin_anew(self, headers: Any) -> None:
        """The whole is coming: what is here is of no use."""
        self.digest, self.had = hashlib.sha256(), 0
        _forget(self.entry)
        tag = headers.get("ETag", "")
        validator = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        if "Content-Encoding" not in headers:  # else what arrives is not counted as the server counts
            (self.entry / _NOTE).write_text(json.dumps({"url": self.wanted.url, "validator": validator}))

    def goes_on(self, headers: Any) -> bool:
        """True where the part that is coming begins where ours ends."""
        found = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
        return found is not None and int(found[1]) == self.had and "Content-Encoding" not in headers

    def take(self, chunks: Any) -> None:
        """Write down what comes; raises BuildError where it is too much, or where we are to stop."""
        size = self.had
        with self.partial.open("ab") as file:
            for chunk in chunks:
                self.halt.check()
                size += len(chunk)
                if size > self.wanted.max_bytes:
                    _forget(self.entry)
                    raise BuildError(
                        FailureReason.BAD_ARCHIVE,
                        f"{self.wanted.filename} is larger than {self.wanted.max_bytes} bytes",
                        evidence=self.wanted.url,
                    )
                self.digest.update(chunk)
                file.write(chunk)

    def finish(self) -> None:
        """Give the file its name; raises BuildError where it is not what was promised."""
        found = self.digest.hexdigest()
        if self.wanted.sha256 and found != self.wanted.sha256:
            if self.had:
                raise self.spoilt("the parts do not go together")
            _forget(self.entry)
            raise BuildError(
                FailureReason.HASH_MISMATCH,
                f"{self.wanted.filename} has SHA-256 {found}, not {self.wanted.sha256}",
                evidence=self.wanted.url,
            )
        self.partial.replace(self.entry / self.wanted.filename)
        _forget(self.entry)

    def spoilt(self, why: str) -> _SpoiltError:
        """Throw the part away that is here."""
        _forget(self.entry)
        return _SpoiltError(why)


def _in_thread(fetch: Callable[[], None], halt: Halt) -> None:
    """Do it in a thread of its own; raises BuildError at once where we are to stop, whatever it waits for."""
    outcome: concurrent.futures.Future[int] = concurrent.futures.Future()

    def work() -> None:
        try:
            _, written_bytes = measured(fetch)
        except BaseException as error:  # noqa: BLE001 - the boundary of the thread: the caller gets it
            outcome.set_exception(error)
        else:
            outcome.set_result(written_bytes)

    threading.Thread(target=work, name="download", daemon=True).start()
    while not concurrent.futures.wait([outcome], _WAKE_S).done:
        halt.check()
    count(outcome.result())


def _is_whole(path: Path, sha256: str | None) -> bool:
    if sha256 is None:
        return False
    try:
        return sha256_of(path) == sha256
    except FileNotFoundError:
        return False


def _forget(entry: Path) -> None:
    for name in (_PARTIAL, _NOTE):
        (entry / name).unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _feed(digest: Any, path: Path) -> int:
    """Hash what is there of a file; gives its size."""
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size


def _failed(wanted: _Wanted, error: Exception | str) -> BuildError:
    what = f"{wanted.filename} could not be downloaded: {error}"
    return BuildError(FailureReason.FETCH_FAILED, what, evidence=wanted.url)
