# SPDX-License-Identifier: BSD-3-Clause
"""Words of others on a terminal: a package's log, a file name on PyPI, an argument with escapes in it.

A terminal obeys control characters, and rich lets ESC through; so what others wrote is shown, never sent.
This module imports only the standard library.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""All but the line feed, and what turns the direction of writing round or cannot be encoded."""


def harmless(text: str) -> str:
    r"""The text with control characters as escapes: ESC becomes the four characters `\x1b`."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
