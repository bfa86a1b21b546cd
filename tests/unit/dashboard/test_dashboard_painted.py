# SPDX-License-Identifier: BSD-3-Clause
"""Lines of cells as the terminal gets them: nothing in them is obeyed, and each is as wide as its place."""

from __future__ import annotations

import pytest
from made_farms import HOSTILE
from rich.cells import cell_len

from piwheels_node.dashboard.look import CONSOLE, CONSOLE_GLYPHS, FULL, console_safe, is_console
from piwheels_node.dashboard.widgets.painted import painted, runs
from piwheels_node.dashboard.words import Cell, Role, clean, fit


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [1, 2, 7, 80])
def test_whatever_a_line_says_it_is_as_wide_as_its_place_and_harmless(text, width):
    strip = painted([Cell(text, Role.BAD), Cell(" "), Cell(text)], width, FULL)

    assert strip.cell_length == width
    assert cell_len(strip.text) == width
    assert strip.text.isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_column_is_as_wide_as_it_should_be_whatever_stands_in_it(text):
    for width in (1, 5, 20):
        assert cell_len(fit(clean(text), width)) == width


def test_what_is_markup_elsewhere_is_text_here():
    assert (
        painted([Cell("error: [/usr/lib] pkg[extra]")], 40, FULL).text.rstrip()
        == "error: [/usr/lib] pkg[extra]"
    )


def test_what_is_cut_off_is_told():
    assert painted([Cell("a long name")], 6, FULL).text == "a lon…"
    assert painted([Cell("a long "), Cell("name")], 7, FULL).text == "a long…"
    assert painted([Cell("a long name")], 6, CONSOLE).text == "a lon~"


def test_a_console_gets_only_what_its_font_has():
    for text in (*HOSTILE, "─ ▁▂▃ 84° ✓ …"):
        shown = console_safe(clean(text))
        assert set(shown) <= CONSOLE_GLYPHS
        assert cell_len(shown) == cell_len(clean(text))


@pytest.mark.parametrize(
    ("term", "wanted", "console"),
    [("linux", False, True), ("vt220", False, True), ("xterm-256color", False, False), ("xterm", True, True)],
)
def test_the_look_is_chosen_by_the_terminal(term, wanted, console):
    assert is_console(term, ascii_wanted=wanted) is console


def test_data_that_may_be_old_is_painted_faint_whatever_it_means():
    fresh, stale = (painted([Cell("lost", Role.BAD)], 10, FULL, stale=old) for old in (False, True))

    assert next(iter(fresh)).style != next(iter(stale)).style
    assert next(iter(stale)).style.color == FULL.roles[Role.FAINT].color


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([], []),
        ([3], [(3, 4)]),
        ([0, 1, 4, 9], [(0, 5), (9, 10)]),
        ([0, 3, 6], [(0, 7)]),
        ([0, 4], [(0, 1), (4, 5)]),
    ],
)
def test_lines_that_are_near_each_other_are_painted_at_once(lines, parts):
    assert runs(lines) == parts
