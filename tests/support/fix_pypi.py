# SPDX-License-Identifier: BSD-3-Clause
"""A home-made PyPI on loopback: the Simple API in JSON and HTML, files with Range, and faults on demand.

It serves whatever files a test adds, lies about their hashes where told, and remembers what it was asked.
It knows nothing of the rest of this repository.
"""

from __future__ import annotations

import contextlib
import hashlib
import html
import http.server
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
UPLOAD_TIME = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True)
class File:
    """A file as the index lists it; `sha256` may be a lie."""

    path: Path
    sha256: str
    requires_python: str | None
    yanked: str | None
    upload_time: datetime

    def as_json(self, url: str) -> dict[str, object]:
        listed: dict[str, object] = {
            "filename": self.path.name,
            "url": url,
            "hashes": {"sha256": self.sha256},
            "size": self.path.stat().st_size,
            "upload-time": self.upload_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "yanked": self.yanked if self.yanked is not None else False,
        }
        if self.requires_python is not None:
            listed["requires-python"] = self.requires_python
        return listed

    def as_html(self, url: str) -> str:
        extra = ""
        if self.requires_python is not None:
            extra += f' data-requires-python="{html.escape(self.requires_python)}"'
        if self.yanked is not None:
            extra += f' data-yanked="{html.escape(self.yanked)}"'
        return f'<a href="{url}#sha256={self.sha256}"{extra}>{self.path.name}</a><br>'


class HomeMadePyPI:
    """Serves until `close()`; add files with `add`, break it with `fail`. `host` is where it listens."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.projects: dict[str, dict[str, File]] = {}
        self.requests: list[str] = []
        self._faults: dict[str, int | str] = {}
        self._closing = threading.Event()
        self._server = _Server(self, host)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="pypi")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._server.server_address[1]}"

    @property
    def index_url(self) -> str:
        """What pip calls an index-url."""
        return f"{self.url}/simple/"

    def add(
        self,
        path: Path,
        *,
        project: str,
        sha256: str | None = None,
        requires_python: str | None = None,
        yanked: str | None = None,
        upload_time: datetime = UPLOAD_TIME,
    ) -> None:
        """List a file; `sha256` in place of the true one is a lie, `yanked=""` is a yank without a reason."""
        sha256 = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
        listed = File(path, sha256, requires_python, yanked, upload_time)
        self.projects.setdefault(_normal(project), {})[path.name] = listed

    def fail(self, path_prefix: str, status: int | str | None = 503) -> None:
        """Answer paths that begin so with a status, cut short, slowly, or not at all.

        That is a number, 'truncate', 'trickle' (a byte each quarter of a second), or 'hang'.

        None ends the fault.
        """
        if status is None:
            self._faults.pop(path_prefix, None)
        else:
            self._faults[path_prefix] = status

    def fault_of(self, path: str) -> int | str | None:
        fitting = [prefix for prefix in self._faults if path.startswith(prefix)]
        return self._faults[max(fitting, key=len)] if fitting else None

    def hang(self) -> None:
        """Wait as long as the server lives."""
        self._closing.wait()

    def is_closing(self, within_s: float) -> bool:
        """True where the server ends within so many seconds."""
        return self._closing.wait(within_s)

    def close_hanging(self) -> None:
        """End the requests that hang."""
        self._closing.set()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def page(self, path: str, *, as_json: bool) -> tuple[str, bytes] | None:
        """Content type and body of a page of the Simple API; None where there is no such page."""
        if path == "/simple/":
            names = sorted(self.projects)
            if as_json:
                return _json({"projects": [{"name": name} for name in names]})
            return _html(f'<a href="/simple/{name}/">{name}</a><br>' for name in names)
        found = re.fullmatch(r"/simple/([^/]+)/", path)
        if not found or found[1] not in self.projects:
            return None
        name = found[1]
        listed = [
            (file, f"{self.url}/files/{name}/{file.path.name}") for file in self.projects[name].values()
        ]
        if as_json:
            versions = sorted({_version(file.path.name) for file, _ in listed})
            files = [file.as_json(url) for file, url in listed]
            return _json({"name": name, "versions": versions, "files": files})
        return _html(file.as_html(url) for file, url in listed)

    def file(self, path: str) -> Path | None:
        found = re.fullmatch(r"/files/([^/]+)/([^/]+)", path)
        listed = self.projects.get(found[1], {}).get(found[2]) if found else None
        return listed.path if listed else None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(filename: str) -> str:
    if filename.endswith(".whl"):
        return filename.split("-")[1]
    return re.sub(r"\.(tar\.\w+|zip|tgz)$", "", filename).rpartition("-")[2]


def _json(document: dict[str, object]) -> tuple[str, bytes]:
    body = json.dumps({"meta": {"api-version": "1.4"}, **document})
    return JSON_TYPE, body.encode()


def _html(lines: Iterator[str]) -> tuple[str, bytes]:
    head = '<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.4"></head><body>'
    return "text/html; charset=utf-8", "\n".join([head, *lines, "</body></html>"]).encode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pypi: HomeMadePyPI, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.pypi = pypi


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """A test reads `requests` in place of a log."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.pypi.requests.append(path)
        fault = self.server.pypi.fault_of(path)
        if fault == "hang":
            self.server.pypi.hang()
            self.close_connection = True
        elif isinstance(fault, int):
            self._answer(fault, "text/plain", b"")
        elif (stored := self.server.pypi.file(path)) is not None:
            if fault == "trickle":
                self._trickle(stored)
            else:
                self._send_file(stored, cut=fault == "truncate")
        else:
            page = self.server.pypi.page(path, as_json=JSON_TYPE in self.headers.get("Accept", ""))
            kind, body = page or ("text/plain", b"not here")
            self._answer(200 if page else 404, kind, body, cut=fault == "truncate")

    def _trickle(self, stored: Path) -> None:
        """The headers, and a byte each quarter of a second."""
        body = stored.read_bytes()
        self._answer(200, "application/octet-stream", b"", announced=len(body))
        with contextlib.suppress(OSError):  # nobody listens any more
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.server.pypi.is_closing(0.25):
                    break
        self.close_connection = True

    def _send_file(self, stored: Path, *, cut: bool) -> None:
        body = stored.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self._answer(200, "application/octet-stream", body, cut=cut)
            return
        first, last = int(asked[1]), int(asked[2]) if asked[2] else len(body) - 1
        part = body[first : last + 1]
        span = f"bytes {first}-{first + len(part) - 1}/{len(body)}" if part else f"bytes */{len(body)}"
        self._answer(206 if part else 416, "application/octet-stream", part, span=span, cut=cut)

    def _answer(
        self,
        status: int,
        kind: str,
        body: bytes,
        *,
        span: str | None = None,
        cut: bool = False,
        announced: int = 0,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(announced or len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut


@pytest.fixture
def pypi() -> Iterator[HomeMadePyPI]:
    """A PyPI with nothing on it."""
    server = HomeMadePyPI()
    yield server
    server.close()
