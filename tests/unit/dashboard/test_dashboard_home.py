# SPDX-License-Identifier: BSD-3-Clause
"""The first page: what it shows of a farm, where it leads, and what can be done from it."""

from __future__ import annotations

from made_farms import farm_of


def test_the_farm_its_builders_and_why_builds_fail_are_on_one_screen(look_at):
    async def steps(screen):
        assert "builders 10/11" in screen.text
        assert "newest failure" in screen.text
        assert "Builders (12)" in screen.text
        assert "Why builds failed" in screen.text
        assert max(map(len, screen.lines)) <= 80

    look_at(farm_of(12), steps)


def test_a_filter_shows_rows_that_have_its_words_and_escape_all_again(look_at):
    async def steps(screen):
        await screen.press("slash", *"pi-03", "enter")
        assert "Builders (1)" in screen.text
        assert "pi-04" not in screen.text

        await screen.press("escape")
        assert "Builders (12)" in screen.text

    look_at(farm_of(12), steps)


def test_pausing_a_builder_asks_nothing_and_tells_what_came_of_it(look_at):
    async def steps(screen):
        await screen.press("end", "up", "up", "p")
        await screen.until("is told to stand still")

    farm = farm_of(12)
    look_at(farm, steps)

    assert [args[0] for name, args, _ in farm.calls if name == "order"] == ["pi-10"]


def test_builders_that_come_into_sight_are_asked_for_at_once_and_others_are_not_asked_for(look_at):
    async def steps(screen):
        def first():
            return [words.get("first") for name, _, words in screen.farm.calls if name == "farm"][-1]

        await screen.refresh()
        assert first() < 60

        await screen.press("end")
        await screen.until(lambda: first() is None or first() >= 300, "the last rows")

        await screen.press("home")
        await screen.refresh()
        assert first() < 60
        await screen.press("o")
        await screen.until(lambda: first() is None, "all rows, to order them")

    look_at(farm_of(300), steps)
