# SPDX-License-Identifier: BSD-3-Clause
"""A PyPI on loopback that changes: it plays a change log back, and is as awkward as the real one.

`LivingPyPI` has projects, each with a serial, and lets things happen to them: files appear, are yanked and
deleted, projects are renamed, quarantined, archived, deleted and made anew. It serves all that as the Simple
API in JSON (with ETag and `_last-serial`) and as XML-RPC. `trouble` is the share of requests that fail, each
in another way; `lateness` the share of events that become visible after later ones; `is_behind` makes pages
lag. `faults` says by path what always fails, and how.
It knows nothing of the rest of this repository.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import random
import re
import threading
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

ROWS = 50_000
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
WHEELS = (
    "py3-none-any",
    "py2.py3-none-any",
    "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "cp311-cp311-win_amd64",
    "cp38-abi3-manylinux_2_28_x86_64",
    "cp312-cp312-macosx_11_0_arm64",
)
MALFORMED = ("1.0-dev-r5", "not a version", "1.0.0.0-x-y", "2004d!!")
NAMES = ("", "-", "a" * 201, "bad name", "<b>bold</b>")


@dataclass
class Project:
    """A project: files by name, each the JSON that PyPI gives of it."""

    shown: str
    serial: int = 0
    status: str = "active"
    files: dict[str, dict[str, object]] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    before: bytes | None = None


class LivingPyPI:
    """Serves until `close`. `happen(n)` makes n things happen, the same ones for the same seed."""

    def __init__(self, seed: int = 1, most_projects: int = 200) -> None:
        self.projects: dict[str, Project] = {}
        self.log: list[tuple[str, str | None, int, str, int]] = []
        self.hidden: list[tuple[str, str | None, int, str, int]] = []
        self.serial = 1000
        self.trouble = 0.0
        self.lateness = 0.0
        self.is_behind = 0.0
        self.serial_shown: int | None = None
        self.faults: dict[str, str] = {}
        self.closed = threading.Event()
        self.requests: list[str] = []
        self.has_changelog = True
        self._chance = random.Random(seed)
        self._faults = random.Random(seed + 1)
        self._most = most_projects
        self._made = 0
        self._lock = threading.RLock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="pypi")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def index_url(self) -> str:
        return f"{self.url}/simple/"

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- what happens --------------------------------------------------------------------------------------

    def happen(self, times: int) -> None:
        """Let so many things happen."""
        with self._lock:
            for _ in range(times):
                self._one()

    def settle(self) -> None:
        """Everything is visible now, and nothing fails any more."""
        with self._lock:
            self.trouble = self.lateness = self.is_behind = 0.0
            self.serial_shown = None
            self._show(len(self.hidden))

    def tell(self, name: str, action: str, version: str | None = None) -> int:
        """Write a line of the change log; gives its serial."""
        self.serial += self._chance.choice((1, 1, 1, 2, 7))
        line = (name, version, 1_790_000_000 + self.serial, action, self.serial)
        if self._chance.random() < self.lateness:
            self.hidden.append(line)
        else:
            self.log.append(line)
            if self._chance.random() < self.lateness / 4:
                self.log.append(line)  # twice
        if self.hidden and self._chance.random() < 0.3:
            self._show(1)
        return self.serial

    def add(self, name: str, filename: str, **more: object) -> None:
        """List a file, as an upload does."""
        with self._lock:
            project = self._project(name)
            sha = hashlib.sha256(f"{filename}{self.serial}".encode()).hexdigest()
            uploaded = BEGIN + timedelta(seconds=self.serial)
            project.files[filename] = {
                "filename": filename,
                "url": f"{self.url}/files/{sha[:2]}/{sha[2:]}/{filename}",
                "hashes": {"sha256": sha},
                "size": 1000 + self.serial,
                "yanked": False,
                "upload-time": uploaded.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                **more,
            }
            self.touch(name, f"add source file {filename}")

    def change(self, name: str, filename: str, **more: object) -> None:
        """Yank a file, for example."""
        with self._lock:
            self._remember(name)
            self.projects[name].files[filename].update(more)
            self.touch(name, f"change {filename}")

    def remove(self, name: str, filename: str | None = None) -> None:
        """Delete a file, or the project."""
        with self._lock:
            self._remember(name)
            if filename is None:
                del self.projects[name]
                self.tell(name, "remove project")
            else:
                del self.projects[name].files[filename]
                self.touch(name, f"remove file {filename}")

    def set_status(self, name: str, status: str) -> None:
        """PEP 792; a project in quarantine lists no files."""
        with self._lock:
            self._remember(name)
            self.projects[name].status = status
            self.touch(name, f"project status {status}")

    def touch(self, name: str, action: str, version: str | None = None) -> None:
        """Something happened to a project."""
        self._project(name).serial = self.tell(self._project(name).shown, action, version)

    def _project(self, name: str) -> Project:
        if name not in self.projects:
            self.projects[name] = Project(name)
            self.projects[name].serial = self.tell(name, "create")
        return self.projects[name]

    def _remember(self, name: str) -> None:
        self.projects[name].before = self._page(name)

    def _show(self, number: int) -> None:
        shown, self.hidden = self.hidden[:number], self.hidden[number:]
        self.log.extend(shown)

    def _one(self) -> None:
        chance = self._chance
        kinds = ("new", "sdist", "wheel", "yank", "unyank", "file", "release", "whole", "status", "rename")
        weights = (4, 30, 30, 8, 4, 6, 4, 2, 5, 2)
        kind = chance.choices((*kinds, "strange"), (*weights, 3))[0]
        if kind == "new" or not self.projects:
            if len(self.projects) < self._most:
                self._made += 1
                name = f"thing-{self._made % (self._most * 2)}"  # names come again
                self.add(name, f"{name.replace('-', '_')}-0.1.tar.gz")
            return
        name = chance.choice(sorted(self.projects)) if len(self.projects) < 500 else self._any()
        project = self.projects[name]
        self._remember(name)
        getattr(self, f"_{kind}")(name, project)

    def _any(self) -> str:
        while True:
            name = f"thing-{self._chance.randrange(self._most * 2)}"
            if name in self.projects:
                return name

    def _sdist(self, name: str, project: Project) -> None:
        version = f"{self._chance.randrange(4)}.{self._chance.randrange(6)}"
        pre = self._chance.choice(("", "", "", "rc1", ".dev3", ".post1"))
        kind = self._chance.choice(("tar.gz", "tar.gz", "zip"))
        needs = self._chance.choice((None, None, ">=3.8", ">=3.12", "<3", ">=three"))
        more = {} if needs is None else {"requires-python": needs}
        self.add(name, f"{name.replace('-', '_')}-{version}{pre}.{kind}", **more)

    def _wheel(self, name: str, project: Project) -> None:
        stem = self._stem(project)
        if stem:
            self.add(name, f"{stem}-{self._chance.choice(WHEELS)}.whl")

    def _stem(self, project: Project) -> str | None:
        sdists = sorted(one for one in project.files if not one.endswith(".whl"))
        return re.sub(r"\.(tar\.gz|zip)$", "", self._chance.choice(sdists)) if sdists else None

    def _yank(self, name: str, project: Project, yanked: object = "broken") -> None:
        stem = self._stem(project)
        for filename, file in project.files.items():
            if stem and filename.startswith(stem):
                file["yanked"] = yanked
        self.touch(name, "yank release", stem)

    def _unyank(self, name: str, project: Project) -> None:
        self._yank(name, project, yanked=False)

    def _file(self, name: str, project: Project) -> None:
        if project.files:
            self.remove(name, self._chance.choice(sorted(project.files)))

    def _release(self, name: str, project: Project) -> None:
        stem = self._stem(project)
        if stem:
            project.files = {one: file for one, file in project.files.items() if not one.startswith(stem)}
        self.touch(name, "remove release", stem)

    def _whole(self, name: str, project: Project) -> None:
        self.remove(name)

    def _status(self, name: str, project: Project) -> None:
        self.set_status(
            name, self._chance.choice(("active", "active", "archived", "quarantined", "deprecated"))
        )

    def _rename(self, name: str, project: Project) -> None:
        project.shown = self._chance.choice((name.title(), name.replace("-", "."), name.upper()))
        self.touch(name, f"rename to {project.shown}")

    def _strange(self, name: str, project: Project) -> None:
        what = self._chance.choice(MALFORMED)
        project.strange.append(what)
        project.files[f"{name}-{what}.tar.gz"] = {
            "filename": f"{name}-{what}.tar.gz",
            "url": "x:y",
            "hashes": 7,
        }
        project.files[f"{name}.egg"] = {"filename": f"{name}.egg", "url": "../x", "hashes": {}}
        self.touch(name, "new release", what)
        self.tell(self._chance.choice(NAMES), "create")

    # --- what is served ------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, body: bytes, etag: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        with self._lock:
            self.requests.append(path)
            if method == "POST":
                return self._changelog(body)
            if path == "/simple/":
                return 200, {"Content-Type": "application/vnd.pypi.simple.v1+json"}, self._list()
            found = re.fullmatch(r"/simple/([^/]+)/", path)
            if not found or found[1] not in self.projects:
                return 404, {}, b""
            page = self._page(found[1])
            if self._faults.random() < self.is_behind:
                page = self.projects[found[1]].before or page
            tag = f'"{hashlib.sha256(page).hexdigest()[:16]}"'
            if tag == etag:
                return 304, {"ETag": tag}, b""
            return 200, {"ETag": tag, "Content-Type": "application/vnd.pypi.simple.v1+json"}, page

    def fault(self, path: str) -> str | None:
        """What goes wrong with a request, if anything."""
        with self._lock:
            if path in self.faults:
                return self.faults[path]
            if self._faults.random() >= self.trouble:
                return None
            return self._faults.choice(("429", "500", "503", "truncate", "cut", "close", "garbage"))

    def _list(self) -> bytes:
        projects = [{"_last-serial": one.serial, "name": one.shown} for one in self.projects.values()]
        serial = self.serial if self.serial_shown is None else self.serial_shown
        meta = {"_last-serial": serial, "api-version": "1.4"}
        return json.dumps({"meta": meta, "projects": projects}).encode()

    def _page(self, name: str) -> bytes:
        project = self.projects[name]
        files = [] if project.status == "quarantined" else list(project.files.values())
        document = {
            "meta": {"_last-serial": project.serial, "api-version": "1.4"},
            "name": project.shown,
            "project-status": {"status": project.status},
            "versions": project.strange,
            "files": files,
        }
        return json.dumps(document).encode()

    def _changelog(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if not self.has_changelog:
            return 404, {}, b""
        (since,), _ = xmlrpc.client.loads(body)
        rows = [list(line) for line in self.log if line[4] > since]
        if self.lateness:
            self._faults.shuffle(rows)
        else:
            rows.sort(key=lambda row: row[4])
        text = xmlrpc.client.dumps((rows[:ROWS],), methodresponse=True, allow_none=True)
        return 200, {"Content-Type": "text/xml"}, text.encode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pypi: LivingPyPI) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pypi = pypi

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """A test reads `requests` in place of a log."""

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.pypi.fault(self.path)
        if fault == "hang":
            self.server.pypi.closed.wait()
            fault = "close"
        status, headers, answer = self.server.pypi.answer(
            self.command, self.path, body, self.headers.get("If-None-Match", "")
        )
        if fault == "close":
            self.close_connection = True
            return
        if fault in {"429", "500", "503"}:
            status, headers, answer = int(fault), {"Retry-After": "0"}, b"<html>later</html>"
        if fault == "truncate" and status == 200:  # cut off, though all of it seems to be there
            answer = answer[: len(answer) // 2]
        if fault == "garbage" and status == 200:
            answer = b"<!DOCTYPE html><p>maintenance</p>"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(answer[: len(answer) // 3] if fault == "cut" else answer)
        self.close_connection = fault == "cut"


@pytest.fixture
def living() -> Iterator[LivingPyPI]:
    """A PyPI on which nothing has happened yet."""
    server = LivingPyPI()
    yield server
    server.close()
