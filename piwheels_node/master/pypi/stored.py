# SPDX-License-Identifier: BSD-3-Clause
"""What PyPI has of a project, in few bytes: one compressed document in a row of `pypi_project`.

PyPI has 8.2 million releases (2026). As rows of their own, with indexes, they would be many gigabytes; most
are never built, and only looked at again when their project changes. So a project is one document, read and
written whole, and releases get rows when there is a job of them. Of wheels only what planning needs is kept:
where they are and what their hash is, PyPI tells who asks; of sdists all of it: builders are sent there.

    [FORM] + zlib(JSON: [base URL, [requires-python...], [[version, spelling, [file...]]...]])
    file: [name, bytes, uploaded (seconds), requires-python (place, or -1), yanked, sha256, rest of URL]

Pure: no I/O.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from packaging.tags import Tag, parse_tag
from packaging.version import Version

from piwheels_node.core.errors import StorageError
from piwheels_node.master.pypi.listing import ListedFile, ProjectFiles

FORM = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEVEL = 6
_USUAL = (
    b'0.1.0.0","","-cp310-cp310-win_amd64.whl-cp311-cp311-macosx_11_0_arm64.whl-cp312-cp312-musllinux_1_2_x86_64.whl'
    b"-cp313-cp313-manylinux_2_17_aarch64.manylinux2014_aarch64.whl-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_"
    b'x86_64.whl-py2.py3-none-any.whl",null,"","">=3.6,<4.0">=3.7">=3.8">=3.9">=3.10">=3.11"!=3.0.*'
    b'-py3-none-any.whl",null,"",""],["-0.1.0.tar.gz",null,"]]],["0.1.1","",[["packages/'
)
"""What many documents have: small ones become half as large. It belongs to `FORM` and never changes."""


def write(project: ProjectFiles) -> bytes:
    """The files of a project as stored; its status and serial are columns."""
    requires = sorted({file.requires_python for file in project.files if file.requires_python})
    places = {text: place for place, text in enumerate(requires)}
    base = _base(file.url for file in project.files if file.is_sdist)
    releases = [
        [str(version), project.spelling(version), [_packed(file, base, places) for file in files]]
        for version, files in sorted(project.releases.items())
    ]
    for release in releases:
        if release[0] == release[1]:
            release[1] = ""
    text = json.dumps([base, requires, releases], separators=(",", ":"), ensure_ascii=False)
    packer = zlib.compressobj(_LEVEL, zdict=_USUAL)
    return bytes([FORM]) + packer.compress(text.encode("utf-8", "surrogatepass")) + packer.flush()


def read(name: str, body: bytes | None) -> ProjectFiles:
    """The files of a project that was stored; none of one that is gone. Raises StorageError."""
    if not body:
        return ProjectFiles(name, ())
    try:
        if body[0] != FORM:
            raise ValueError(f"form {body[0]}")
        text = zlib.decompressobj(zdict=_USUAL).decompress(body[1:])
        base, requires, releases = json.loads(text.decode("utf-8", "surrogatepass"))
        files: list[ListedFile] = []
        spellings: dict[Version, str] = {}
        for written, spelling, listed in releases:
            version = _version(written)
            if spelling:
                spellings[version] = spelling
            files.extend(_unpacked(packed, version, base, requires) for packed in listed)
    except (ValueError, TypeError, IndexError, zlib.error) as error:
        raise StorageError(
            "what is stored of a project cannot be read",
            where=f"{name}: {error}",
            hint="ask PyPI again: piwheels-node master sync --all",
        ) from error
    return ProjectFiles(name, tuple(files), spellings)


def changed(old: ProjectFiles, new: ProjectFiles) -> set[Version]:
    """The versions of which something that planning looks at is different."""
    before, after = _for_planning(old), _for_planning(new)
    return {version for version in before.keys() | after.keys() if before.get(version) != after.get(version)}


def newest_at(project: ProjectFiles) -> datetime:
    """When the newest file was uploaded; the epoch where nobody says."""
    return max((file.uploaded_at for file in project.files if file.uploaded_at), default=_EPOCH)


def _for_planning(project: ProjectFiles) -> dict[Version, frozenset[tuple[Any, ...]]]:
    return {
        version: frozenset(
            (file.filename, file.requires_python, file.yanked, file.sha256 if file.is_sdist else "")
            for file in files
        )
        for version, files in project.releases.items()
    }


def _base(urls: Iterable[str]) -> str:
    """What most URLs begin with: scheme, host, and the first directory."""
    url = next(iter(urls), "")
    return "/".join(url.split("/")[:4]) + "/" if url.count("/") >= 4 else ""  # noqa: PLR2004 - https://host/dir/rest


def _packed(file: ListedFile, base: str, places: dict[str, int]) -> list[Any]:
    uploaded = None if file.uploaded_at is None else int((file.uploaded_at - _EPOCH).total_seconds())
    place = places.get(file.requires_python or "", -1)
    packed = [file.filename, file.size_bytes, uploaded, place, file.yanked]
    if not file.is_sdist:
        return packed
    url = file.url
    if base and url.startswith(base):
        url = "~" + url.removeprefix(base)
    if url.endswith(f"/{file.filename}"):
        url = url.removesuffix(file.filename)
    return [*packed, file.sha256, url]


def _unpacked(packed: list[Any], version: Version, base: str, requires: list[str]) -> ListedFile:
    filename, size_bytes, uploaded, place, yanked, *sdist = packed
    sha256, url = sdist or (None, "")
    if url.startswith("~"):
        url = base + url[1:]
    if url.endswith("/"):
        url += filename
    return ListedFile(
        filename,
        url,
        version=version,
        tags=None if sdist else _tags(_tag_text(filename)),
        sha256=sha256,
        size_bytes=size_bytes,
        requires_python=requires[place] if place >= 0 else None,
        yanked=yanked,
        uploaded_at=None if uploaded is None else _EPOCH + timedelta(seconds=uploaded),
    )


def _tag_text(filename: str) -> str:
    return "-".join(filename.removesuffix(".whl").rsplit("-", 3)[1:])


@lru_cache(maxsize=4096)
def _tags(text: str) -> frozenset[Tag]:
    return parse_tag(text)


@lru_cache(maxsize=65536)
def _version(text: str) -> Version:
    return Version(text)
