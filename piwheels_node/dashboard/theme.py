# SPDX-License-Identifier: BSD-3-Clause
"""The looks as Textual's themes, and the filter that lets nothing through that a console cannot show."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from piwheels_node.dashboard.look import Look, console_safe
from piwheels_node.dashboard.words import Role


def theme(look: Look) -> Theme:
    """The colours of a look, for the stylesheet and for Textual's own widgets."""
    accent = _colour(look, Role.TITLE)
    bar = str(look.bar.bgcolor.name) if look.bar.bgcolor else look.background
    cursor = look.cursor.bgcolor.name if look.cursor.bgcolor else accent
    return Theme(
        name=look.name,
        primary=accent,
        secondary=_colour(look, Role.BUSY),
        accent=accent,
        success=_colour(look, Role.GOOD),
        warning=_colour(look, Role.WARN),
        error=_colour(look, Role.BAD),
        foreground=look.foreground,
        background=look.background,
        surface=look.background,
        panel=bar,
        dark=True,
        variables={
            "bar": bar,
            "faint": _colour(look, Role.FAINT),
            "input-cursor-background": look.foreground,
            "input-cursor-foreground": look.background,
            "input-cursor-text-style": "none",
            "input-selection-background": cursor,
            "scrollbar": _colour(look, Role.FAINT),
            "scrollbar-hover": accent,
            "scrollbar-active": accent,
            "scrollbar-background": look.background,
            "scrollbar-background-hover": look.background,
            "scrollbar-background-active": look.background,
            "scrollbar-corner-color": look.background,
        },
    )


class ConsoleFilter(LineFilter):
    """The last thing before the terminal: glyphs that its font has not become question marks."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's signature
        """Replace what cannot be shown; widths stay."""
        if all(segment.text.isascii() for segment in segments):
            return segments
        return [Segment(console_safe(one.text), one.style, one.control) for one in segments]


def _colour(look: Look, role: Role) -> str:
    colour = look.roles[role].color
    return colour.name if colour else look.foreground
