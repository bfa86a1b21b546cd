# SPDX-License-Identifier: BSD-3-Clause
"""The pages behind the first one, as a person sees them; alike with both Textuals."""

from __future__ import annotations

import functools

import pytest
from made_farms import farm_of

from piwheels_node.dashboard.look import CONSOLE_GLYPHS
from piwheels_node.dashboard.words import Place

SIZES = [(60, 20), (80, 24), (120, 40)]
PLACES = {
    "build-failed": Place("build", "198"),
    "build-running": Place("build", "310"),
    "failures": Place("failures"),
    "failures-projects": Place("failures", "missing-header"),
    "failures-builds": Place("failures", "missing-header/bcrypt"),
    "packages": Place("packages", "lxml"),
    "queue": Place("queue"),
    "statistics": Place("statistics"),
}

farm = functools.cache(lambda: farm_of(12))
"""Nobody changes anything here."""


async def all_is_there(screen):
    """Everything that belongs to the page has come; a log comes after the rest."""
    if screen.page.NAME == "build":
        log = screen.page.query_one("#log")
        await screen.until(lambda: log.window.lines and not log.window.has_more, "the log")
    await screen.refresh()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", PLACES)
def test_a_page_behind_the_first_is_seen_so(look_at, golden, name, size):
    async def steps(screen):
        await all_is_there(screen)
        assert max(map(len, screen.lines)) <= size[0]
        golden(f"dashboard/{name}-{size[0]}x{size[1]}", screen.text)

    look_at(farm(), steps, size=size, first=PLACES[name])


@pytest.mark.parametrize("name", PLACES)
def test_on_a_console_a_page_is_seen_so(look_at, golden, name):
    async def steps(screen):
        await all_is_there(screen)
        assert set(screen.text) - {"\n"} <= CONSOLE_GLYPHS
        golden(f"dashboard/{name}-80x24-console", screen.text)

    look_at(farm(), steps, first=PLACES[name], console=True)


@pytest.mark.parametrize("console", [False, True])
@pytest.mark.parametrize("name", ["home", "build"])
def test_a_page_is_seen_so_while_the_master_is_away(look_at, golden, name, console):
    farm = farm_of(12)
    place = {"home": Place("home"), "build": PLACES["build-running"]}[name]

    async def steps(screen):
        await all_is_there(screen)
        shrinks = screen.page.query_one({"home": "#builders", "build": "#log"}[name])
        height = shrinks.size.height
        farm.go_away()
        farm.tick(65)
        screen.app.poll()
        await screen.until("no answer")
        await screen.until(lambda: shrinks.size.height == height - 1, "room for what is told")
        if name == "build":  # whose log goes on to its end then
            await screen.until(lambda: shrinks.scroll_y == shrinks.max_scroll_y, "the end of the log")
            await screen.until(lambda: f"line {shrinks.top_number}  " in screen.text, "the place in the log")
        golden(f"dashboard/{name}-gone-80x24{'-console' if console else ''}", screen.text)

    look_at(farm, steps, first=place, console=console)
