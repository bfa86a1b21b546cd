# SPDX-License-Identifier: BSD-3-Clause
"""What has changed on PyPI since a serial, from three sources with one face.

    Changelog   changelog_since_serial: seconds after it happened, 50,000 rows a call
    List        `_last-serial` of every project in the list of all (43 MB, up to 30 minutes old)
    Watch       a few projects by name: each is asked about in turn, which costs nothing while nothing changes

A feed says which projects changed and up to which serial that is everything. It never says what changed: that
is read from the project's page, so that events which come twice, late or in any order do no harm. Events that
become visible late (their serials are older than what was read already) are found by reading `OVERLAP`
serials back; what is missing even so is found by the list. Feeds block; they know no database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urljoin

from packaging.utils import canonicalize_name

from piwheels_node.core.errors import PyPIError
from piwheels_node.master.pypi import changelog
from piwheels_node.master.pypi.index import PyPI

OVERLAP = 500
"""So many serials are read again each time."""

ROWS_AT_MOST = 50_000
"""As many rows as PyPI gives in one answer: there may be more."""

_LONGEST_NAME = 200
_LARGEST_SERIAL = 2**63 - 1
_PIECE = 1000
_LONGEST_ENTRY = 4096
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_OBJECT = re.compile(rb'\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}')


@dataclass(frozen=True)
class Heard:
    """Projects that changed, each with the serial of its last change (0: not known).

    `serial`: up to here everything has been told, once all `Heard` of a call have come; None: unchanged.
    `is_more`: there is more already.
    """

    changes: dict[str, int] = field(default_factory=dict)
    serial: int | None = None
    is_more: bool = False


class Feed(Protocol):
    """Where changes are heard of."""

    lists_everything: bool
    """One call names all projects that there are: what it does not name is gone."""

    def listen(self, since: int | None) -> Iterator[Heard]:
        """What has changed after `since`, piece by piece; raises PyPIError."""


def normal_name(name: str) -> str | None:
    """The name as it is stored; None for one that no project can have."""
    normal = canonicalize_name(name)
    return normal if len(normal) <= _LONGEST_NAME and _NAME.fullmatch(normal) else None


class Changelog:
    """The change log. `url`: where XML-RPC is served; empty: `/pypi` on the host of the index."""

    lists_everything = False

    def __init__(self, pypi: PyPI, url: str = "") -> None:
        self._pypi = pypi
        self._url = url
        self._seen: set[int] = set()

    def listen(self, since: int | None) -> Iterator[Heard]:
        """One call, and one `Heard`."""
        since = since or 0
        url = self._url or urljoin(self._pypi.index_url, "/pypi")
        body = self._pypi.call(url, changelog.question(max(0, since - OVERLAP)))
        try:
            events = changelog.answer(body)
        except ValueError as error:
            raise PyPIError(f"PyPI's change log cannot be read: {error}", where=url) from error
        newest = max([since, *(event.serial for event in events)])
        changes: dict[str, int] = {}
        for event in events:
            name = normal_name(event.project)
            if name is not None and event.serial not in self._seen:
                changes[name] = max(event.serial, changes.get(name, 0))
        # What is remembered is what will be read again; the rest could only grow.
        self._seen = {event.serial for event in events if event.serial > newest - OVERLAP}
        yield Heard(changes, newest, is_more=len(events) >= ROWS_AT_MOST and newest > since)

    def forget(self) -> None:
        """What was told last has not been stored: tell it again."""
        self._seen.clear()


class List:
    """The list of all projects. It is read as it arrives, in little memory."""

    lists_everything = True

    def __init__(self, pypi: PyPI) -> None:
        self._pypi = pypi

    def listen(self, since: int | None) -> Iterator[Heard]:  # noqa: ARG002 - a list is always all
        """All projects, a thousand at a time; the last `Heard` has the serial."""
        with self._pypi.names() as pieces:
            yield from read_list(pieces, self._pypi.index_url)


def read_list(pieces: Iterable[bytes], where: str) -> Iterator[Heard]:
    """A PEP 691 list of projects that arrives in pieces; raises PyPIError where it is none, or cut off."""
    serial: int | None = None
    changes: dict[str, int] = {}
    left = b""
    for piece in pieces:
        left += piece
        end = 0
        for found in _OBJECT.finditer(left):
            end = found.end()
            entry = _entry(found[0], where)
            told = entry.get("name")
            name = normal_name(told) if isinstance(told, str) else None
            if name is not None:
                changes[name] = _serial(entry)
            elif "api-version" in entry:
                serial = _serial(entry) or None
            if len(changes) >= _PIECE:
                yield Heard(changes)
                changes = {}
        left = left[end:]
        if len(left) > _LONGEST_ENTRY + len(piece):
            raise PyPIError("PyPI's list of projects cannot be read: an entry has no end", where=where)
    if not left.rstrip().endswith(b"}"):  # of the document itself: what is in it was taken out
        raise PyPIError("PyPI's list of projects is cut off", where=where)
    yield Heard(changes, serial)


def _entry(text: bytes, where: str) -> dict[str, object]:
    try:
        entry: dict[str, object] = json.loads(text)
    except ValueError as error:
        raise PyPIError(f"PyPI's list of projects cannot be read: {error}", where=where) from error
    return entry


def _serial(entry: dict[str, object]) -> int:
    told = entry.get("_last-serial")
    return told if isinstance(told, int) and 0 <= told <= _LARGEST_SERIAL else 0


class Watch:
    """Some projects by name: each is new every time, and its page says whether it has changed."""

    lists_everything = True

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(name for one in names if (name := normal_name(one)) is not None)

    def listen(self, since: int | None) -> Iterator[Heard]:  # noqa: ARG002 - PyPI is not asked here
        """All of them."""
        yield Heard(dict.fromkeys(sorted(self.names), 0))
