# SPDX-License-Identifier: BSD-3-Clause
"""The rules of HTTP that the index follows: which form of a page, whether it is known, which bytes of a file.

    choose_type     Accept         -> JSON, HTML or nothing that fits      (PEP 691; RFC 9110, 12.5.1)
    takes_gzip      Accept-Encoding                                        (RFC 9110, 12.5.3)
    is_known        If-None-Match  -> the answer is 304                    (RFC 9110, 13.1.2)
    byte_range      Range, If-Range -> from where to where                 (RFC 9110, 14.2 and 13.1.5)

Pure functions of header values; a header that is missing is an empty text. Only the standard library.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"
TEXT_HTML = "text/html"
FORMS = (JSON, V1_HTML, TEXT_HTML)
"""In which a page may be sent."""

_ALIASES = {
    "application/vnd.pypi.simple.latest+json": JSON,
    "application/vnd.pypi.simple.latest+html": V1_HTML,
}
_WHEN_NAMED = (TEXT_HTML, V1_HTML, JSON)
"""From the least to the best, for clients that name the types that they know."""
_WHEN_NOT_NAMED = (V1_HTML, JSON, TEXT_HTML)
"""The same for `*/*`: an old tool, or a person with curl."""
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


@lru_cache(maxsize=256)
def choose_type(accept: str) -> str | None:
    """The content type to answer with; None where the client takes none of ours (406)."""
    if not accept.strip():
        return TEXT_HTML
    wanted = _qualities(accept)
    best: tuple[float, int, int] = (0.0, 0, 0)
    chosen = None
    for offered in _WHEN_NAMED:
        family = offered.partition("/")[0] + "/*"
        for exactness, pattern in ((2, offered), (1, family), (0, "*/*")):
            if pattern in wanted:
                order = (_WHEN_NAMED if exactness else _WHEN_NOT_NAMED).index(offered)
                rank = wanted[pattern], exactness, order
                if rank[0] > 0 and rank > best:
                    best, chosen = rank, offered
                break  # the most exact pattern decides about a type
    return chosen


@lru_cache(maxsize=256)
def takes_gzip(accept_encoding: str) -> bool:
    """True where the client unpacks gzip."""
    wanted = _qualities(accept_encoding)
    return wanted.get("gzip", wanted.get("x-gzip", wanted.get("*", 0.0))) > 0


def is_known(if_none_match: str, etag: str) -> bool:
    """True where the client has the thing with this ETag already."""
    if not if_none_match:
        return False
    known = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return etag in known or known == ["*"]


def byte_range(asked: str, if_range: str, *, size: int, etag: str, changed_at: datetime) -> range | None:
    """The bytes to send; None for the whole file, an empty range where nothing fits (416).

    More than one range in a request is answered with the whole file, as RFC 9110 allows.
    """
    found = _RANGE.fullmatch(asked)
    if not found or not (found[1] or found[2]):
        return None
    if if_range and if_range.strip() not in {etag, http_date(changed_at)}:
        return None
    if not found[1]:
        return range(max(0, size - int(found[2])), size)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if last < first and found[2]:
        return None  # not a range at all, so it is ignored
    return range(first, min(last + 1, size))


def http_date(at: datetime) -> str:
    """`Tue, 02 Jan 2024 03:04:05 GMT`; `at` is in UTC."""
    return format_datetime(at, usegmt=True)


def _qualities(header: str) -> dict[str, float]:
    """Each item of an Accept header with its quality; one that cannot be read counts as 1."""
    qualities = {}
    for item in header.lower().split(","):
        value, *parameters = (part.strip() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key.strip() == "q" and re.fullmatch(r"[01](\.\d{0,3})?", text.strip()):
                quality = min(1.0, float(text))
        if value:
            qualities[_ALIASES.get(value, value)] = quality
    return qualities
