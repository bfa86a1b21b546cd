# SPDX-License-Identifier: BSD-3-Clause
"""What PyPI lists of a project: the PEP 691 document as values, files grouped by version.

Pure: `read_listing` takes the parsed JSON and gives a `ProjectFiles`; names that no tool could install
(PEP 427, PEP 625) are left out, as pip leaves them out. `pypi` fetches the document, `plan` decides on it.
This module does no I/O and imports only the standard library and `packaging`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urldefrag, urljoin

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

STATUSES = frozenset({"active", "archived", "deprecated", "quarantined"})
"""What a project can be (PEP 792)."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WHOLE_URL = re.compile(r"https?://[^/?#\s]+/[^?#\s]*")
_LONGEST_URL = 1000
_LARGEST_BYTES = 2**63 - 1


@dataclass(frozen=True)
class ListedFile:
    """A file of a release; `tags` is None for an sdist, `yanked` is None or the reason (maybe empty)."""

    filename: str
    url: str
    version: Version
    tags: frozenset[Tag] | None
    sha256: str | None = None
    size_bytes: int | None = None
    requires_python: str | None = None
    yanked: str | None = None
    uploaded_at: datetime | None = None

    @property
    def is_sdist(self) -> bool:
        """True for a source distribution, False for a wheel."""
        return self.tags is None


@dataclass(frozen=True)
class ProjectFiles:
    """All files of a project; `spellings` has a version as PyPI writes it, `1.10` or `1.10.0`.

    `status` is that of PEP 792; `serial` is PyPI's number of the last change, 0 where an index
    does not say it.
    """

    name: str
    files: tuple[ListedFile, ...]
    spellings: Mapping[Version, str] = field(default_factory=dict)
    status: str = "active"
    serial: int = 0

    @cached_property
    def releases(self) -> Mapping[Version, tuple[ListedFile, ...]]:
        """The files by version; a version without a file that can be used is not there."""
        found: dict[Version, list[ListedFile]] = {}
        for file in self.files:
            found.setdefault(file.version, []).append(file)
        return {version: tuple(files) for version, files in found.items()}

    def spelling(self, version: Version) -> str:
        """The version as PyPI writes it."""
        return self.spellings.get(version, str(version))


def read_listing(name: str, page_url: str, document: Mapping[str, Any]) -> ProjectFiles:
    """Read a PEP 691 document that came from `page_url`; raises ValueError where it is none."""
    listed = document.get("files")
    if not isinstance(listed, list):
        raise ValueError("there is no list of files in it")
    name = canonicalize_name(name)
    files = [file for entry in listed if (file := _read_file(name, page_url, entry)) is not None]
    spellings: dict[Version, str] = {}
    for text in document.get("versions") or ():
        try:
            spellings[Version(text)] = text
        except (InvalidVersion, TypeError):
            continue  # PyPI has versions from before PEP 440; no tool installs them
    return ProjectFiles(name, tuple(files), spellings, _status(document), _serial(document))


def _status(document: Mapping[str, Any]) -> str:
    """The status of the project (PEP 792); one that is not known means nothing, as the PEP has it."""
    told = document.get("project-status")
    if isinstance(told, dict):  # as PyPI says it, of which the PEP was made
        told = told.get("status")
    return told if isinstance(told, str) and told in STATUSES else "active"


def _serial(document: Mapping[str, Any]) -> int:
    meta = document.get("meta")
    told = meta.get("_last-serial") if isinstance(meta, dict) else None
    return told if isinstance(told, int) and 0 <= told <= _LARGEST_BYTES else 0


def _read_file(project: str, page_url: str, entry: object) -> ListedFile | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return None
    filename = entry["filename"]
    if len(filename) > 255:  # noqa: PLR2004 - NAME_MAX
        return None
    named = _read_filename(filename)
    url = _url(page_url, entry.get("url"))
    if named is None or named[0] != project or url is None:
        return None
    yanked = entry.get("yanked", False)
    hashes = entry.get("hashes")
    size = entry.get("size")
    return ListedFile(
        filename,
        url,
        version=named[1],
        tags=named[2],
        sha256=_sha256(hashes.get("sha256")) if isinstance(hashes, dict) else None,
        size_bytes=size if isinstance(size, int) and 0 <= size <= _LARGEST_BYTES else None,
        requires_python=_text(entry.get("requires-python")),
        yanked=yanked if isinstance(yanked, str) else "" if yanked else None,
        uploaded_at=_time(entry.get("upload-time")),
    )


def _url(page_url: str, told: object) -> str | None:
    """Where a file is, without a fragment; None where it is nowhere. Most of PyPI's are whole already."""
    url = _text(told)
    if url is None:
        return None
    if not _WHOLE_URL.fullmatch(url):
        url = urldefrag(urljoin(page_url, url)).url
    is_web = url[:8].lower().startswith(("http://", "https://"))
    return url if is_web and len(url) <= _LONGEST_URL else None


def _read_filename(filename: str) -> tuple[str | None, Version, frozenset[Tag] | None] | None:
    """Name, version and tags. What stands behind the name is alike in many projects, so it is kept."""
    if filename.endswith(".whl"):
        name, _, rest = filename.partition("-")
        found = _read_wheel(rest)
        return found and (_name_of_wheel(name), *found)
    try:
        name, version = parse_sdist_filename(filename)
    except (InvalidSdistFilename, InvalidVersion):
        return None
    return name, version, None


@lru_cache(maxsize=8192)
def _read_wheel(rest: str) -> tuple[Version, frozenset[Tag]] | None:
    try:
        _, version, _, tags = parse_wheel_filename(f"x-{rest}")
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return version, tags


@lru_cache(maxsize=256)
def _name_of_wheel(name: str) -> str | None:
    try:
        return parse_wheel_filename(f"{name}-1-py3-none-any.whl")[0]
    except InvalidWheelFilename:
        return None


def _sha256(value: object) -> str | None:
    text = (_text(value) or "").lower()
    return text if _SHA256.fullmatch(text) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
