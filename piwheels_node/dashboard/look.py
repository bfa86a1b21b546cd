# SPDX-License-Identifier: BSD-3-Clause
"""What the meanings of words look like: colours and glyphs; two looks, chosen once when the dashboard starts.

`FULL` is for terminals with many colours and fonts. `CONSOLE` is for the Linux console, vt terminals and
`--ascii`: the sixteen colours that the kernel has, as it has them, and only glyphs that are both in the
kernel's own font and in Debian's. Colour is never the only sign of a thing.
This module must not import Textual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style

from piwheels_node.dashboard.words import Role

_LINES = "─│┌┐└┘├┤┬┴┼═║█░▒▲▼•←↑→↓"
CONSOLE_GLYPHS = frozenset(map(chr, range(32, 127))) | {
    one for one in bytes(range(128, 255)).decode("cp437") if one in _LINES or "\xa0" <= one <= "\xff"
}
"""All that a console is ever sent; whatever else a text has is shown as question marks."""


@dataclass(frozen=True)
class Glyphs:
    """Signs that differ; `trend` are the steps of a chart from nothing to full, `bar` fills a bar."""

    ellipsis: str
    trend: str
    bar: str = "█"
    bar_rest: str = "░"
    rule: str = "─"
    track: str = "│"
    ascending: str = "▲"
    descending: str = "▼"
    bullet: str = "•"


@dataclass(frozen=True)
class Look:
    """Colours by meaning, and glyphs. `plain_theme` are the colours of Textual's own widgets."""

    name: str
    glyphs: Glyphs
    roles: Mapping[Role, Style]
    background: str
    foreground: str
    bar: Style
    cursor: Style
    cursor_unfocused: Style

    def style(self, role: Role, *, stale: bool = False) -> Style:
        """How words of a meaning are painted; all data that may not be true any more are faint."""
        return self.roles[Role.FAINT if stale and role is not Role.KEY else role]


FULL = Look(
    name="piwheels",
    glyphs=Glyphs(ellipsis="…", trend=" ▁▂▃▄▅▆▇█"),
    roles={
        Role.PLAIN: Style(color="#d0d0d0"),
        Role.STRONG: Style(color="#ffffff", bold=True),
        Role.FAINT: Style(color="#8a8a8a"),
        Role.GOOD: Style(color="#87d75f"),
        Role.BUSY: Style(color="#5fafd7"),
        Role.WARN: Style(color="#d7af5f"),
        Role.BAD: Style(color="#ff5f5f", bold=True),
        Role.TITLE: Style(color="#ff5f87", bold=True),
        Role.KEY: Style(color="#ff5f87", bold=True),
    },
    background="#121212",
    foreground="#d0d0d0",
    bar=Style(bgcolor="#303030"),
    cursor=Style(bgcolor="#005f87", bold=True),
    cursor_unfocused=Style(bgcolor="#303030"),
)
"""Its colours are those of the 256 that terminals have: with more colours it looks the same."""

CONSOLE = Look(
    name="piwheels-console",
    glyphs=Glyphs(ellipsis="~", trend=" ░▒█"),
    roles={
        Role.PLAIN: Style(color="#aaaaaa"),
        Role.STRONG: Style(color="#ffffff", bold=True),
        Role.FAINT: Style(color="#aaaaaa"),
        Role.GOOD: Style(color="#55ff55"),
        Role.BUSY: Style(color="#55ffff"),
        Role.WARN: Style(color="#ffff55"),
        Role.BAD: Style(color="#ff5555"),
        Role.TITLE: Style(color="#55ffff"),
        Role.KEY: Style(color="#ffffff", bold=True),
    },
    background="#000000",
    foreground="#aaaaaa",
    bar=Style(bgcolor="#0000aa"),
    cursor=Style(color="#000000", bgcolor="#aaaaaa"),
    cursor_unfocused=Style(bgcolor="#0000aa"),
)


def is_console(term: str, *, ascii_wanted: bool = False) -> bool:
    """True where only sixteen colours and few glyphs are to be had."""
    return ascii_wanted or term == "linux" or term.startswith("vt")


def console_safe(text: str) -> str:
    """The text in glyphs that a console has; what it has not is as many question marks as it is wide."""
    if text.isascii():
        return text
    from rich.cells import get_character_cell_size  # noqa: PLC0415 - seldom needed

    return "".join(
        one if one in CONSOLE_GLYPHS else "?" * get_character_cell_size(one) if one != "…" else "~"
        for one in text
    )
