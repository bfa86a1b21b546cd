# SPDX-License-Identifier: BSD-3-Clause
"""Words for the screen: cells, foreign texts made harmless, ages, amounts and shares.

Whatever is drawn is a `Cell`: words, and what they mean (`Role`). The widgets send every cell's words through
`clean`, and paint them as they are: nothing is ever read as markup. This module must not import Textual.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from piwheels_node.core.text import harmless

MOST_CHARACTERS = 500
"""The most of one text that a line can show; the rest is not even looked at."""

_SPACES = re.compile(r"[^\S ]")
_INVISIBLE = frozenset({"Cf", "Mn", "Me", "Zl", "Zp"})
_UNKNOWN = frozenset({"Cn", "Co"})
"""What no font has for certain, and how wide it is nobody knows."""

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


class Role(Enum):
    """What words mean; `look.Look` says what that looks like."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    TITLE = "title"
    KEY = "key"


class Place(NamedTuple):
    """A page, and what it is about: `Place("builder", "pi-7")`."""

    page: str
    about: str = ""


def place(job_id: int, build_id: int | None = None) -> Place:
    """Where a job is shown, or one of its builds."""
    return Place("build", f"{job_id}" if build_id is None else f"{job_id}/{build_id}")


class Cell(NamedTuple):
    """Words in a line, what they mean, and the page that they lead to."""

    words: str
    role: Role = Role.PLAIN
    leads_to: Place | None = None


Line = Sequence[Cell]


def clean(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""One line that a terminal shows as it is: no control characters, nothing invisible, at most so many.

    >>> clean("a\tb\x1b[31m")
    'a b\\x1b[31m'
    """
    text = text[:most]
    if text.isascii() and text.isprintable():
        return text
    return visible(harmless(_SPACES.sub(" ", text)))


def visible(text: str) -> str:
    """The text without what takes no room: it would move what stands behind it, or hide."""
    if text.isascii():
        return text
    kinds = [(one, unicodedata.category(one)) for one in text]
    return "".join("\ufffd" if kind in _UNKNOWN else one for one, kind in kinds if kind not in _INVISIBLE)


def short_target(name: str) -> str:
    """A target in few characters: `cp313 armv7l deb13` for `cp313-linux_armv7l-debian13`."""
    return name.replace("-linux_", " ", 1).replace("-debian", " deb", 1)


def fit(text: str, width: int, ellipsis: str = "…", *, right: bool = False) -> str:
    """The text in exactly `width` cells of a terminal; what is cut off is told."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length == width:
        return text
    if length < width:
        return " " * (width - length) + text if right else text + " " * (width - length)
    return set_cell_size(text, width - 1) + ellipsis


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of a width, broken at spaces."""
    return textwrap.wrap(text, width) or [""]


def length(line: Line) -> int:
    """How many cells of a terminal a line takes."""
    return sum(cell_len(one.words) for one in line)


def joined(parts: Sequence[Line], between: str = "  ") -> list[Cell]:
    """Parts of a line one after the other."""
    line: list[Cell] = []
    for part in parts:
        line += [Cell(between), *part] if line else part
    return line


def elapsed(seconds: float) -> str:
    """A time in two units at most: `41s`, `3m02s`, `2h24m`, `3d04h`.

    >>> elapsed(182)
    '3m02s'
    """
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S:02}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02}m"
    return f"{whole // _DAY_S}d{whole % _DAY_S // _HOUR_S:02}h"


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago, in one unit, so that it changes seldom: `now`, `5m`, `3h`, `2d`; `never` for None."""
    if at is None:
        return "never"
    seconds = max(0, int((now - at).total_seconds()))
    for unit, size in (("d", _DAY_S), ("h", _HOUR_S), ("m", _MINUTE_S)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return "now"


def amount(size_bytes: float) -> str:
    """Bytes in three digits or so: `980 B`, `1.4 MB`, `37 GB`."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - SI units
            return f"{size:.1f} {unit}" if size < 10 and unit != "B" else f"{size:.0f} {unit}"  # noqa: PLR2004
        size /= 1000
    return f"{size:.1f} TB"


def memory(size_bytes: float) -> str:
    """Memory as people buy it, in powers of two: `512 MiB`, `3.7 GiB`."""
    mib = size_bytes / (1 << 20)
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"  # noqa: PLR2004 - four digits are too many


def number(count: int) -> str:
    """A number in at most six characters: `214`, `9,870`, `12.4k`, `1.2M`."""
    if count < 10_000:  # noqa: PLR2004 - up to here each one counts
        return f"{count:,}"
    if count < 1_000_000:  # noqa: PLR2004 - SI prefixes
        return f"{count / 1000:.1f}k" if count < 100_000 else f"{count / 1000:.0f}k"  # noqa: PLR2004
    return f"{count / 1_000_000:.1f}M"


def share(part: int, whole: int) -> str:
    """A share in percent, that is never 0 % of something: `<1%`, `6%`; nothing where there is no whole."""
    if not whole:
        return ""
    percent = 100 * part / whole
    return "<1%" if 0 < percent < 1 else f"{percent:.0f}%"
