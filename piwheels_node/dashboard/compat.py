# SPDX-License-Identifier: BSD-3-Clause
"""What Textual 2.1.2, Debian trixie's, does otherwise than later ones."""

from __future__ import annotations

from textual import _keyboard_protocol


def know_home_and_end() -> None:
    """Home and End as tmux and the Linux console send them: 2.1.2 takes them for Ctrl-A and Ctrl-D."""
    keys: dict[str, str] = _keyboard_protocol.FUNCTIONAL_KEYS
    keys.setdefault("1~", "home")
    keys.setdefault("4~", "end")
