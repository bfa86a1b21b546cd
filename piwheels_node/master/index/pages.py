# SPDX-License-Identifier: BSD-3-Clause
"""The pages of the Simple API: read from the database, written as JSON or HTML, compressed once, kept.

    read_project -> Listing -> render -> Page -> PageCache

PEP 691 (JSON), 503 and 629 (HTML), 592 (yanked), 658 and 714 (metadata beside the wheel), 700 (size,
upload time, versions); in `_libraries`, a name that PEP 691 leaves to indexes, the shared libraries that a
wheel needs from Debian packages. The form of the HTML is frozen by PEP 833; there is no `tracks` (PEP 708 was
rejected), and the status of a project (PEP 792) is PyPI's, where it is followed. This module knows the
tables, and no HTTP beyond the names of content types.
"""

from __future__ import annotations

import gzip
import html
import json
import re
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from piwheels_node.master.database.models import (
    Build,
    Job,
    Project,
    PypiFile,
    PypiProject,
    Release,
    Wheel,
    WheelLibrary,
)
from piwheels_node.master.index.negotiation import FORMS, JSON

API_VERSION = "1.4"
_C_LIBRARY = "libc6"
"""Everybody has it."""

_HASH = "([0-9a-f]{64})"
_HASHES_IN_JSON = rf'","hashes":{{"sha256":"{_HASH}"}},[^{{}}]*"core-metadata":{{"sha256":"{_HASH}"}}'
_HASHES_IN_HTML = f'#sha256={_HASH}" data-core-metadata="sha256={_HASH}"'
_TOLD = frozenset({"archived", "deprecated", "quarantined"})
"""Statuses (PEP 792) that a page tells; all else is active."""

_PAGE_OVERHEAD_BYTES = 600
"""What a page costs in the cache beside its body, roughly."""


@dataclass(frozen=True)
class ListedWheel:
    """A published wheel, as a page shows it. `yanked` is None, or the reason that PyPI gives.

    `libraries`: soname -> Debian package, as on the machine that built it; without the C library's.
    """

    filename: str
    version: str
    sha256: str
    size_bytes: int
    metadata_sha256: str
    requires_python: str | None
    published_at: datetime
    yanked: str | None
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A project's wheels at one moment; `serial` names the moment."""

    name: str
    serial: int
    wheels: tuple[ListedWheel, ...]
    status: str = "active"


@dataclass(frozen=True)
class Page:
    """A finished page; `body` is None where there is nothing to show (404)."""

    serial: int
    body: bytes | None


def read_project(session: Session, name: str) -> Listing:
    """All wheels of a project that are not withdrawn; none, where the project is not known."""
    serial = session.scalar(select(Project.serial).where(Project.name == name))
    rows = session.execute(
        select(
            Wheel.filename,
            Release.version,
            Wheel.sha256,
            Wheel.size_bytes,
            Wheel.metadata_sha256,
            Wheel.requires_python,
            Wheel.published_at,
            PypiFile.yanked,
        )
        .join_from(Wheel, Release, Wheel.release_id == Release.id)
        .join(Project, Release.project_id == Project.id)
        .join(Build, Wheel.build_id == Build.id)
        .join(Job, Build.job_id == Job.id)
        .join(PypiFile, Job.sdist_id == PypiFile.id)
        .where(Project.name == name, Wheel.withdrawn_at.is_(None))
        .order_by(Wheel.filename)
    )
    libraries = _libraries(session, name)
    wheels = (ListedWheel(*row, libraries.get(row.filename, {})) for row in rows)
    status = session.scalar(select(PypiProject.status).where(PypiProject.name == name))
    return Listing(name, serial or 0, tuple(wheels), status or "active")


def _libraries(session: Session, name: str) -> dict[str, dict[str, str]]:
    """What the wheels of a project need: file name -> soname -> Debian package."""
    rows = session.execute(
        select(Wheel.filename, WheelLibrary.soname, WheelLibrary.debian_package)
        .join_from(WheelLibrary, Wheel, WheelLibrary.wheel_id == Wheel.id)
        .join(Release, Wheel.release_id == Release.id)
        .join(Project, Release.project_id == Project.id)
        .where(Project.name == name, Wheel.withdrawn_at.is_(None), WheelLibrary.debian_package.is_not(None))
        .order_by(WheelLibrary.soname)
    )
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for filename, soname, package in rows:
        if package is not None and package != _C_LIBRARY:
            found[filename][soname] = package
    return found


def read_names(session: Session) -> list[str]:
    """The projects that have a wheel."""
    has_wheel = exists().where(
        Release.project_id == Project.id, Wheel.release_id == Release.id, Wheel.withdrawn_at.is_(None)
    )
    return list(
        session.scalars(select(Project.name).where(Project.serial > 0, has_wheel).order_by(Project.name))
    )


def render_project(listing: Listing, content_type: str, *, compress: bool) -> Page:
    """The page of a project; takes 0.1 s for thousands of wheels, so it belongs in a thread."""
    if not listing.wheels:
        return Page(listing.serial, None)
    text = _project_json(listing) if content_type == JSON else _project_html(listing)
    return Page(listing.serial, _finished(text, compress=compress))


def render_names(names: list[str], content_type: str, *, compress: bool) -> bytes:
    """The list of all projects."""
    if content_type == JSON:
        text = _as_json({"projects": [{"name": name} for name in names]})
    else:
        text = _as_html("Simple index", [f'<a href="{name}/">{name}</a><br>' for name in names])
    return _finished(text, compress=compress)


def listed_hashes(page: Page, name: str, filename: str, *, compressed: bool) -> tuple[str, str] | None:
    """The SHA-256 of a wheel and of its metadata, as a finished page says; None where it does not list it."""
    body = page.body or b""
    text = (gzip.decompress(body) if compressed and body else body).decode()
    url = re.escape(_url(name, filename))
    found = re.search(f"{url}{_HASHES_IN_JSON}", text) or re.search(f"{url}{_HASHES_IN_HTML}", text)
    return (found[1], found[2]) if found else None


def _project_json(listing: Listing) -> str:
    files = []
    for wheel in listing.wheels:
        file: dict[str, Any] = {
            "filename": wheel.filename,
            "url": _url(listing.name, wheel.filename),
            "hashes": {"sha256": wheel.sha256},
            "size": wheel.size_bytes,
            "upload-time": wheel.published_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "core-metadata": {"sha256": wheel.metadata_sha256},
            "yanked": False if wheel.yanked is None else wheel.yanked or True,
        }
        if wheel.requires_python:
            file["requires-python"] = wheel.requires_python
        if wheel.libraries:
            file["_libraries"] = dict(wheel.libraries)
        files.append(file)
    versions = sorted({wheel.version for wheel in listing.wheels})
    document: dict[str, Any] = {"name": listing.name, "versions": versions, "files": files}
    if listing.status in _TOLD:
        document["project-status"] = {"status": listing.status}
    return _as_json(document)


def _project_html(listing: Listing) -> str:
    lines = []
    for wheel in listing.wheels:
        hashed = f"sha256={wheel.metadata_sha256}"
        extra = f' data-core-metadata="{hashed}" data-dist-info-metadata="{hashed}"'
        if wheel.requires_python:
            extra += f' data-requires-python="{html.escape(wheel.requires_python)}"'
        if wheel.yanked is not None:
            extra += f' data-yanked="{html.escape(wheel.yanked)}"'
        url = f"{_url(listing.name, wheel.filename)}#sha256={wheel.sha256}"
        lines.append(f'<a href="{html.escape(url)}"{extra}>{html.escape(wheel.filename)}</a><br>')
    return _as_html(f"Links for {listing.name}", lines, listing.status)


def _url(name: str, filename: str) -> str:
    """Relative to the page, so that it is right behind any proxy; `+` of a local version is quoted."""
    return f"../../files/{name}/{quote(filename, safe='')}"


def _as_json(document: dict[str, Any]) -> str:
    return json.dumps({"meta": {"api-version": API_VERSION}, **document}, separators=(",", ":"))


def _as_html(title: str, lines: list[str], status: str = "active") -> str:
    told = f'<meta name="pypi:project-status" content="{status}">\n' if status in _TOLD else ""
    head = (
        f'<!DOCTYPE html>\n<html>\n<head>\n<meta name="pypi:repository-version" content="{API_VERSION}">\n'
        f"{told}<title>{html.escape(title)}</title>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>"
    )
    return "\n".join([head, *lines, "</body>\n</html>\n"])


def _finished(text: str, *, compress: bool) -> bytes:
    body = text.encode()
    return gzip.compress(body, compresslevel=6, mtime=0) if compress else body


PageKey = tuple[str, str, bool]
"""Project, content type, and whether it is compressed."""


class PageCache:
    """The pages asked for last, up to a number of bytes. Not safe for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pages: OrderedDict[PageKey, Page] = OrderedDict()

    def get(self, key: PageKey, serial: int) -> Page | None:
        """The page, where it is kept and not older than `serial`."""
        page = self._pages.get(key)
        if page is None or page.serial < serial:
            return None
        self._pages.move_to_end(key)
        return page

    def keys_of(self, name: str) -> list[PageKey]:
        """The forms in which the page of a project is kept."""
        forms = ((name, form, compress) for form in FORMS for compress in (True, False))
        return [key for key in forms if key in self._pages]

    def newest(self, name: str) -> int | None:
        """The newest serial of which a page of the project is kept."""
        return max((self._pages[key].serial for key in self.keys_of(name)), default=None)

    def put(self, key: PageKey, page: Page) -> None:
        """Keep a page, and drop those that were not asked for longest."""
        old = self._pages.pop(key, None)
        if old is not None:
            self._bytes -= _cost(old)
        self._pages[key] = page
        self._bytes += _cost(page)
        while self._bytes > self._max_bytes and self._pages:
            self._bytes -= _cost(self._pages.popitem(last=False)[1])


def _cost(page: Page) -> int:
    return _PAGE_OVERHEAD_BYTES + len(page.body or b"")
