# SPDX-License-Identifier: BSD-3-Clause
"""Pages with their colours, as the pictures that the documentation shows.

Textual draws them, each version a little otherwise: they are compared with Debian trixie's alone. The texts
of all pages are compared with every version, in `test_dashboard_golden.py` and its neighbours.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from made_farms import farm_of

from piwheels_node.dashboard.words import Place

ROOT = Path(__file__).resolve().parents[3]
CONSTRAINTS = (ROOT / "tests" / "constraints-trixie.txt").read_text()
TRIXIE = re.search(r"^textual==(.+)$", CONSTRAINTS, re.MULTILINE)[1]
PICTURES = {
    "home": (Place("home"), (100, 30), ("down", "down")),
    "build": (Place("build", "198"), (100, 30), ()),
    "kill": (Place("home"), (80, 24), ("down", "K")),
    "statistics": (Place("statistics"), (100, 30), ()),
}


@pytest.mark.skipif(version("textual") != TRIXIE, reason=f"pictures are those of Textual {TRIXIE}")
@pytest.mark.parametrize("name", PICTURES)
def test_a_page_looks_as_in_its_picture(look_at, golden, name):
    place, size, keys = PICTURES[name]

    async def steps(screen):
        if place.page == "build":
            log = screen.page.query_one("#log")
            await screen.until(lambda: log.window.lines and not log.window.has_more, "the log")
        await screen.refresh()
        await screen.press(*keys)
        golden(ROOT / "docs" / "pictures" / f"{name}.svg", screen.picture)

    look_at(farm_of(12), steps, size=size, first=place)


def test_a_picture_loads_nothing_from_elsewhere():
    for name in PICTURES:
        picture = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text()

        assert "url(http" not in picture
        assert set(re.findall(r'https?://[^\s"<]+', picture)) <= {
            "http://www.w3.org/2000/svg",
            "https://www.textualize.io",
        }
