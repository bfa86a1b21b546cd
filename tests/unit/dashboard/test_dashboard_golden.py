# SPDX-License-Identifier: BSD-3-Clause
"""The first page, a builder and the questions over them, as a person sees them; alike with both Textuals."""

from __future__ import annotations

import functools

import pytest
from made_farms import farm_of, hostile_farm

from piwheels_node.dashboard.look import CONSOLE_GLYPHS
from piwheels_node.dashboard.words import Place

SIZES = [(60, 20), (80, 24), (120, 40)]
SCREENS = {
    "home": (12, Place("home"), ()),
    "home-of-three": (3, Place("home"), ()),
    "home-faults": (60, Place("home"), ("exclamation_mark", "o", "o")),
    "builder": (12, Place("builder", "pi-03"), ()),
    "builder-idle": (12, Place("builder", "pi-05"), ()),
}
QUESTIONS = {
    "kill": ("down", "K"),
    "help": ("question_mark",),
    "commands": ("colon", *"pi-0"),
}

farm_of_builders = functools.cache(farm_of)
"""Nobody changes anything here: a farm may be used by several tests."""


def name_of(screen, size, *, console=False):
    return f"dashboard/{screen}-{size[0]}x{size[1]}{'-console' if console else ''}"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCREENS)
def test_a_page_is_seen_so(look_at, golden, name, size):
    builders, place, keys = SCREENS[name]

    async def steps(screen):
        if place.page == "builder":
            await screen.refresh()
        await screen.press(*keys)
        golden(name_of(name, size), screen.text)

    look_at(farm_of_builders(builders), steps, size=size, first=place)


@pytest.mark.parametrize("name", ["home", "builder"])
def test_on_a_console_it_is_seen_so(look_at, golden, name):
    builders, place, keys = SCREENS[name]

    async def steps(screen):
        if place.page == "builder":
            await screen.refresh()
        await screen.press(*keys)
        assert set(screen.text) - {"\n"} <= CONSOLE_GLYPHS
        golden(name_of(name, (80, 24), console=True), screen.text)

    look_at(farm_of_builders(builders), steps, first=place, console=True)


@pytest.mark.parametrize("console", [False, True])
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_seen_so(look_at, golden, name, console):
    async def steps(screen):
        await screen.press(*QUESTIONS[name])
        golden(name_of(name, (80, 24), console=console), screen.text)

    look_at(farm_of_builders(12), steps, console=console)


@pytest.mark.parametrize("console", [False, True])
def test_hostile_names_are_seen_so(look_at, golden, console):
    async def steps(screen):
        golden(name_of("hostile", (80, 24), console=console), screen.text)

    look_at(hostile_farm(), steps, console=console)
