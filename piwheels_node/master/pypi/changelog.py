# SPDX-License-Identifier: BSD-3-Clause
"""PyPI's change log over XML-RPC: the call as bytes, and the answer as rows, read as hostile input.

Marshalling is the standard library's. What makes XML dangerous is refused before its parser sees it: document
types, and with them entities. The size is bounded by who fetches. This module does no I/O.
"""

from __future__ import annotations

import re
import xmlrpc.client
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

_DANGEROUS = re.compile(r"<!(DOCTYPE|ENTITY|ATTLIST|ELEMENT|NOTATION)", re.IGNORECASE)
_ENCODING = re.compile(r"""^\s*<\?xml[^>]*encoding\s*=\s*["']([^"']*)""")
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Event:
    """A line of the change log: something happened to a project, at this serial."""

    project: str
    serial: int


def question(since: int) -> bytes:
    """The call for everything after a serial; PyPI gives 50,000 rows at most (warehouse, 2026)."""
    return xmlrpc.client.dumps((since,), "changelog_since_serial").encode()


def answer(body: bytes) -> list[Event]:
    """The events of an answer; raises ValueError, also for a fault that PyPI tells.

    A row is (project, version, time, action, serial); one that is not is left out.
    """
    text = body.decode()  # raises UnicodeDecodeError, a ValueError
    encoding = _ENCODING.match(text)
    if encoding and encoding[1].lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise ValueError(f"it is XML in {encoding[1][:20]}")
    if _DANGEROUS.search(text):
        raise ValueError("it is XML with a document type")
    try:
        (rows,), _ = xmlrpc.client.loads(text, use_builtin_types=True)
    except xmlrpc.client.Fault as fault:
        raise ValueError(f"it says: {str(fault.faultString)[:200]} ({fault.faultCode})") from fault
    except (xmlrpc.client.Error, ExpatError, TypeError, LookupError, ValueError, OverflowError) as error:
        raise ValueError(f"it is no answer of XML-RPC: {error}") from error
    if not isinstance(rows, list):
        raise ValueError("it is not a list of changes")
    return [event for row in rows if (event := _event(row)) is not None]


def _event(row: object) -> Event | None:
    match row:
        case [str(project), _, _, _, int(serial)] if 0 < serial <= _LARGEST:
            return Event(project, serial)
    return None
