# SPDX-License-Identifier: BSD-3-Clause
"""The dashboard on a farm in memory, without a terminal: `look_at` runs a test's steps in it.

    def test_x(look_at):
        async def steps(screen):
            await screen.press("p")
            assert "pi-1" in screen.text
        look_at(farm, steps)

Time stands still but for `farm.tick`; nothing is asked again by itself (`screen.refresh` asks), so that a
test waits for what it has caused, and never for a clock.
"""

from __future__ import annotations

import asyncio
import re

import pytest
from fake_farm import NOW

from piwheels_node.dashboard.app import Dashboard
from piwheels_node.dashboard.words import Place

NEVER_S = 3600.0
PATIENCE_S = 60.0


class Screen:
    """The dashboard of a test."""

    def __init__(self, app, pilot, farm):
        self.app = app
        self.pilot = pilot
        self.farm = farm

    async def press(self, *keys):
        """Press keys, one after the other."""
        for key in keys:
            await self.pilot.press(key)
        await self.pilot.pause()

    async def until(self, condition, what="something"):
        """Wait for a condition, or for a text on the screen."""
        if isinstance(condition, str):
            text, what = condition, repr(condition)
            return await self.until(lambda: text in self.text, what)
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.pilot.pause(0.01)
        await self.pilot.pause()
        return None

    async def refresh(self):
        """Ask the farm now, and wait until the answer is drawn."""
        page, value = self.app.page, self.app.page.value
        self.app.poll()
        await self.until(lambda: page.value is not value, "an answer")

    async def arrive(self, name):
        """Wait until a page is there, with its first answer."""
        await self.until(lambda: name == self.page.NAME and self.page.value is not None, f"the page {name}")

    @property
    def page(self):
        return self.app.page

    @property
    def lines(self):
        """What the terminal shows, line by line."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self):
        return "\n".join(self.lines)

    @property
    def picture(self):
        """What the terminal shows as SVG, with this machine's own fonts in place of ones from the net."""
        drawn = self.app.export_screenshot(title="sudo piwheels-node dashboard")
        drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
        return "\n".join(line.rstrip() for line in drawn.splitlines())

    @property
    def calls(self):
        """What the farm was asked or told, by name."""
        return [name for name, _, _ in self.farm.calls]


@pytest.fixture
def look_at():
    """Run steps on a dashboard: `look_at(farm, steps, size=(80, 24), console=False, first=Place("home"))`."""

    def run(farm, steps, *, size=(80, 24), console=False, first=Place("home"), ready=True, machine=None):  # noqa: B008 - it never changes
        async def main():
            app = Dashboard(
                farm,
                machine=machine,
                console=console,
                interval_s=NEVER_S,
                first=first,
                now=lambda: farm.now if farm else NOW,
            )
            async with app.run_test(size=size) as pilot:
                screen = Screen(app, pilot, farm)
                if ready:
                    await screen.arrive(first.page)
                    await screen.until(lambda: not farm or app.access is farm.access, "what the key may do")
                await steps(screen)
            return app.return_value

        return asyncio.run(main())

    return run
