# SPDX-License-Identifier: BSD-3-Clause
"""What an index says of a project: the wheels that this machine would take, and the libraries that they need.

A master says it in the project's page (PEP 691, `_libraries`). An index that does not (the public one of the
piwheels project has its pages in HTML alone), or that is away, knows nothing: what is installed is then
judged by its ELF files alone.
Answers are others' words: bounded, and believed only as names to ask apt for.
This module imports only the standard library, packaging, httpx and `core`.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from piwheels_node.core.errors import NodeError
from piwheels_node.core.targets import Target

_JSON = "application/vnd.pypi.simple.v1+json"
_MAX_PAGE_BYTES = 32 << 20


@dataclass(frozen=True)
class Listed:
    """A wheel that this machine would take; `libraries`: soname -> Debian package."""

    filename: str
    version: str
    libraries: Mapping[str, str | None] = field(default_factory=dict)


class Index:
    """Asks one index; each project once. Use it as a context."""

    def __init__(self, url: str, *, timeout_s: float = 20.0) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(
            timeout=timeout_s,
            follow_redirects=True,
            verify=ssl.create_default_context(),  # the system's list
        )
        self._pages: dict[str, list[Listed]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def newest(self, project: str, target: Target) -> Listed | None:
        """The wheel that pip would take here: the newest final release, the best tags; None: there is none.

        Raises NodeError where the index cannot be asked.
        """
        ranked = []
        for listed in self._page(project):
            name, version, build, tags = parse_wheel_filename(listed.filename)
            rank = target.rank(tags)
            if rank is not None and name == project:
                ranked.append(((not version.is_prerelease, version, -rank, build), listed))
        return max(ranked, key=lambda one: one[0])[1] if ranked else None

    def libraries(self, project: str, target: Target, version: str) -> Mapping[str, str | None]:
        """What the index knows of a release's libraries; nothing where it has no such wheel, or is away."""
        try:
            page = self._page(project)
        except NodeError:
            return {}
        found: dict[str, str | None] = {}
        for listed in page:
            if _same_version(listed.version, version) and target.accepts(
                parse_wheel_filename(listed.filename)[3]
            ):
                found |= listed.libraries
        return found

    def _page(self, project: str) -> list[Listed]:
        name = canonicalize_name(project)
        if name not in self._pages:
            self._pages[name] = _read(self._get(f"{self.url}/{name}/"))
        return self._pages[name]

    def _get(self, url: str) -> Any:
        """The page as JSON; None where there is none, or it is no JSON."""
        try:
            with self._client.stream("GET", url, headers={"Accept": f"{_JSON}, text/html;q=0.1"}) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return None
                answer.raise_for_status()
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _MAX_PAGE_BYTES:
                        raise NodeError("the index answers without an end", where=url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NodeError(
                f"the index cannot be asked: {error}", where=url, hint="piwheels-node doctor"
            ) from error
        try:
            return json.loads(body)
        except ValueError:
            return None


def _read(page: Any) -> list[Listed]:
    """The wheels of a page, leaving out what is no wheel or was yanked."""
    files = page.get("files") if isinstance(page, dict) else None
    found = []
    for file in files if isinstance(files, list) else []:
        try:
            filename = str(file["filename"])
            version = str(parse_wheel_filename(filename)[1])
            said = file.get("_libraries")
            yanked = file.get("yanked")
        except (InvalidWheelFilename, InvalidVersion, KeyError, TypeError, AttributeError):
            continue
        libraries = (
            {str(name): str(package) for name, package in said.items()} if isinstance(said, dict) else {}
        )
        if yanked in {None, False}:
            found.append(Listed(filename, version, libraries))
    return found


def _same_version(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other
