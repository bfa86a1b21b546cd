# SPDX-License-Identifier: BSD-3-Clause
"""PyPI, or another index with the Simple API in JSON (PEP 691): which files a project has.

    PyPI.project(name) -> cache (short) -> GET index_url/NAME/ -> listing.read_listing
    PyPI.look(name, etag)      the same, past the cache, and only where it has changed
    PyPI.names()               the list of all projects, as it arrives
    PyPI.call(url, body)       an XML-RPC call, as bytes

Which index that is: the one that pip on this machine uses, unless a setting names another; no registry's
host is spelled in this source. Bytes of files are no concern of this module: builders fetch them.
It blocks, so the master calls it from a thread.
"""

from __future__ import annotations

import json
import random
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from packaging.utils import canonicalize_name

from piwheels_node import __version__
from piwheels_node.core.errors import NotOnPyPIError, PyPIError
from piwheels_node.master.pypi.listing import ProjectFiles, read_listing

ACCEPT = "application/vnd.pypi.simple.v1+json"
MAX_PAGE_BYTES = 64 << 20
"""The largest page measured on PyPI has 3 MB (7,253 files); more than this is an attack or an accident."""

MAX_ANSWER_BYTES = 256 << 20
"""The largest answer that is not about one project: 50,000 rows of the change log are 30 MB of XML."""

_LONGEST_REST_S = 3600.0
_TRIES = 3
_CACHED_PROJECTS = 256
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_ASK_PIP = (
    "from pip._internal.commands import create_command\n"
    "print(create_command('install').parser.get_default_values().index_url)"
)


def default_index_url() -> str:
    """The index that pip itself would use: from its variables and configuration, else its built-in one.

    pip's own code is asked, in a process of its own (0.4 s), because only that knows in which order its
    many sources count. Raises PyPIError.
    """
    command = [sys.executable, "-I", "-c", _ASK_PIP]
    hint = "install pip, or set pypi.index_url"
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise PyPIError("pip could not be asked which index it uses", where=str(error), hint=hint) from error
    url = answer.stdout.strip()
    if answer.returncode or not url.startswith(("http://", "https://")):
        last = (answer.stderr.strip() or url).rpartition("\n")[2]
        raise PyPIError("pip does not say which index it uses", where=last, hint=hint)
    return url


@dataclass(frozen=True)
class Looked:
    """A project as it is now; `etag` is what PyPI calls this state of its page."""

    project: ProjectFiles
    etag: str | None


@dataclass(frozen=True)
class _Answer:
    status: int
    url: str
    body: bytes
    etag: str | None


class PyPI:
    """Asks one index. An empty `index_url` means the one that pip uses, looked up when first needed.

    `timeout_s` bounds one question with all its tries; an answer is believed for `max_age_s`.
    Safe for use by several threads.
    """

    def __init__(
        self, index_url: str = "", *, timeout_s: float = 30, max_age_s: float = 60, retry_delay_s: float = 0.5
    ) -> None:
        self._index_url = index_url
        self._timeout_s = timeout_s
        self._max_age_s = max_age_s
        self._retry_delay_s = retry_delay_s
        self._rest_until = 0.0
        self._cache: dict[str, tuple[float, ProjectFiles]] = {}
        self._lock = threading.Lock()
        self._client = httpx.Client(
            headers={
                "Accept": ACCEPT,
                "User-Agent": f"piwheels-node/{__version__} (a farm of wheels for small computers)",
            },
            verify=ssl.create_default_context(),
            timeout=timeout_s,
            follow_redirects=True,
        )

    @property
    def index_url(self) -> str:
        """Where the Simple API is, with a slash at the end; raises PyPIError."""
        with self._lock:
            if not self._index_url:
                self._index_url = default_index_url()
            return self._index_url.rstrip("/") + "/"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def project(self, name: str) -> ProjectFiles:
        """All files of a project; raises NotOnPyPIError, or PyPIError where there is no usable answer."""
        key = canonicalize_name(name)
        if not _NAME.fullmatch(key):
            raise NotOnPyPIError(
                f"'{name}' is not the name of a project", hint="letters, digits, '-', '_' and '.' only"
            )
        kept = self._cache.get(key)
        if kept and time.monotonic() - kept[0] < self._max_age_s:
            return kept[1]
        asked_at = time.monotonic()
        found = _read(key, self._fetch(key, f"{self.index_url}{key}/"))
        with self._lock:
            while len(self._cache) >= _CACHED_PROJECTS:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = asked_at, found
        return found

    def look(self, name: str, etag: str | None = None) -> Looked | None:
        """A project as it is now, None where it is what `etag` names; `name` is normalised.

        Raises NotOnPyPIError and PyPIError. One try: who follows PyPI asks again later by itself.
        """
        answer = self._fetch(name, f"{self.index_url}{name}/", etag=etag, tries=1)
        if answer.status == httpx.codes.NOT_MODIFIED:
            return None
        return Looked(_read(name, answer), answer.etag)

    @contextmanager
    def names(self) -> Iterator[Iterator[bytes]]:
        """The list of all projects in JSON, piece by piece (43 MB in 2026); raises PyPIError."""
        with self._streaming("GET", self.index_url, None, self._timeout_s) as pieces:
            yield pieces

    def call(self, url: str, body: bytes) -> bytes:
        """The answer to a POST of XML, whole; raises PyPIError."""
        with self._streaming("POST", url, body, self._timeout_s) as pieces:
            return b"".join(pieces)

    def rest_s(self) -> float:
        """How long PyPI has asked us to be silent from now on."""
        return max(0.0, self._rest_until - time.monotonic())

    @contextmanager
    def _streaming(
        self, method: str, url: str, body: bytes | None, timeout_s: float
    ) -> Iterator[Iterator[bytes]]:
        headers = {"Content-Type": "text/xml", "Accept": "text/xml"} if body is not None else {}
        try:
            with self._client.stream(method, url, content=body, headers=headers, timeout=timeout_s) as answer:
                self._heed(answer.status_code, answer.headers)
                if answer.status_code != httpx.codes.OK:
                    raise PyPIError(f"PyPI answers {answer.status_code}", where=_shown(url))
                yield _bounded(answer.iter_bytes(1 << 16), url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            what = str(error) or type(error).__name__
            raise PyPIError(f"PyPI could not be asked: {what}", where=_shown(url)) from error

    def _heed(self, status: int, headers: Mapping[str, str]) -> None:
        """Remember for how long PyPI wants us to be silent, where it says so."""
        if status not in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
            return
        told = headers.get("Retry-After", "")
        rest_s = float(told) if told.isdecimal() else 1.0
        rest_s = min(rest_s, _LONGEST_REST_S) * random.uniform(1.0, 1.1)  # noqa: S311 - masters shall part
        self._rest_until = max(self._rest_until, time.monotonic() + rest_s)

    def _fetch(self, name: str, url: str, *, etag: str | None = None, tries: int = _TRIES) -> _Answer:
        """What was answered in the end, 200 or 304."""
        deadline = time.monotonic() + self._timeout_s
        last = ""
        for number in range(tries):
            if number:
                time.sleep(self._retry_delay_s * 2 ** (number - 1))
            try:
                answer = self._get(url, deadline, etag)
            except (httpx.TransportError, TimeoutError) as error:
                last = str(error) or type(error).__name__
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise PyPIError(f"PyPI cannot be asked: {error}", where=_shown(url)) from error
            else:
                status = answer.status
                if status == httpx.codes.OK or (etag and status == httpx.codes.NOT_MODIFIED):
                    return answer
                if status == httpx.codes.NOT_FOUND:
                    raise NotOnPyPIError(
                        f"PyPI has no project {name}", where=_shown(url), hint="is the name right?"
                    )
                last = f"it answers {status}"
                if status != httpx.codes.TOO_MANY_REQUESTS and status < httpx.codes.INTERNAL_SERVER_ERROR:
                    break
            if time.monotonic() >= deadline:
                break
        raise PyPIError(
            f"PyPI could not be asked about {name}: {last}",
            where=_shown(url),
            hint="is the network up? pypi.index_url names the index",
        )

    def _get(self, url: str, deadline: float, etag: str | None) -> _Answer:
        left_s = max(0.001, deadline - time.monotonic())
        headers = {"If-None-Match": etag} if etag else {}
        with self._client.stream("GET", url, timeout=left_s, headers=headers) as answer:
            self._heed(answer.status_code, answer.headers)
            if url.startswith("https:") and answer.url.scheme != "https":
                raise PyPIError("PyPI sends us away from https", where=_shown(str(answer.url)))
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise PyPIError(f"PyPI's answer is larger than {MAX_PAGE_BYTES} bytes", where=_shown(url))
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no whole answer within {self._timeout_s:g} s")
            return _Answer(answer.status_code, str(answer.url), bytes(body), answer.headers.get("ETag"))


def _read(name: str, answer: _Answer) -> ProjectFiles:
    try:
        return read_listing(name, answer.url, _document(answer.body))
    except ValueError as error:
        raise PyPIError(
            f"PyPI's answer about {name} cannot be read: {error}", where=_shown(answer.url)
        ) from error


def _bounded(pieces: Iterator[bytes], url: str) -> Iterator[bytes]:
    """The pieces, up to `MAX_ANSWER_BYTES`."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise PyPIError(f"PyPI's answer is larger than {MAX_ANSWER_BYTES} bytes", where=_shown(url))
        yield piece


def _document(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; raises ValueError."""
    try:
        document = json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    meta = document.get("meta")
    version = str(meta.get("api-version", "1.0")) if isinstance(meta, dict) else "1.0"
    if not version.startswith("1."):
        raise ValueError(f"version {version} of the Simple API is not known")
    return document


def _shown(url: str) -> str:
    """The URL without a password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
