# SPDX-License-Identifier: BSD-3-Clause
"""Foreign texts as every database stores them. This module imports only the standard library."""

from __future__ import annotations


def storable(text: str, most: int | None = None) -> str:
    r"""The text without what PostgreSQL refuses: NUL, halves of surrogate pairs, more than `most` characters.

    >>> storable("a\0b", 2) == "a\ufffd"
    True
    """
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "\ufffd")[:most]
