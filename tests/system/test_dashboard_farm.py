# SPDX-License-Identifier: BSD-3-Clause
"""The dashboard as a person uses it: in a real terminal, before a real master and a builder at work."""

from __future__ import annotations

import contextlib
import re
import sys

import pytest
from fix_builder import TICKING
from fix_command import until
from sdists import c_extension, make_sdist

from piwheels_node.core.builders import Mode

PROGRAM = [sys.executable, "-m", "piwheels_node.cli"]


class Watcher:
    """The dashboard of a farm in a window of a terminal."""

    def __init__(self, window, site, directory, term):
        key = directory / "operator.key"
        key.write_text(site.master.create_key("operator"))
        self.window = window
        words = [*PROGRAM, "dashboard", "--master", site.url, "--key-file", str(key), "--interval", "0.5"]
        window.type(["env", f"TERM={term}", *words])

    def press(self, *keys):
        self.window("send-keys", *keys)

    def sees(self, *texts):
        """Wait until the screen has all of them."""

        try:
            until(lambda: self._shows(texts), f"{texts}")
        except AssertionError as error:
            raise AssertionError("\n".join([f"never seen: {texts}", *self.window.lines()])) from error

    def _shows(self, texts):
        shown = "\n".join(self.window.lines())
        return all(text in shown for text in texts)

    def insists(self, key, *texts):
        """Press a key, as somebody who sees nothing happen does, until the screen has all of the texts."""

        def there():
            self.press(key)
            with contextlib.suppress(AssertionError):
                return until(lambda: self._shows(texts), f"{texts}", within_s=2)

        until(there, f"{key}: {texts}")

    def counts_to(self, least):
        """Wait until the ticks of the log have come so far: more than the screen has lines."""
        until(lambda: _ticks(self.window.lines()) >= least, f"tick {least}")


def _ticks(lines):
    return max((int(line.split()[1]) for line in lines if re.match(r"tick \d+", line)), default=0)


@pytest.fixture
def farm(site, made):
    """A master with one builder, on which one build has failed and another goes on."""
    site.add_builder("pi", layers=False)
    source = c_extension("_broken", prelude="#include <cups/http.h>")
    site.broken = site.request(make_sdist(made, "broken", "1.0", c_source=source))
    site.wait_for_end(site.broken)
    site.slow = site.request(make_sdist(made, "slow", "1.0", setup=TICKING.format(ticks=100_000)))
    yield site
    site.operator.skip("pi")  # or the end of the site would wait for it


@pytest.mark.parametrize("term", ["linux", "xterm-256color"])
def test_from_the_first_page_to_the_line_that_shows_why_and_back_to_work(farm, terminal, tmp_path, term):
    screen = Watcher(terminal(), farm, tmp_path, term)
    screen.sees("Builders (1)", "slow 1.0", "missing-header")

    screen.press("3")
    screen.sees("Why builds failed (1)")
    screen.press("Enter")
    screen.sees("A C header is not installed (1)", "broken")
    screen.press("Enter")
    screen.sees("A C header is not installed: broken (1)")
    screen.press("Enter")
    screen.sees("missing-header  cups/http.h", "shown by", "fatal error: cups/http.h", "Log")

    screen.press("R")
    until(lambda: not farm.job(farm.broken).state.is_final, "another attempt")

    screen.press("1")
    screen.sees("Builders (1)")
    screen.press("p")
    until(lambda: farm.operator.builder("pi").mode is Mode.PAUSE, "a pause")
    screen.sees("pi is told to stand still", "slow 1.0 (pause")
    screen.press("u")
    until(lambda: farm.operator.builder("pi").mode is Mode.RUN, "work again")

    screen.press("S")
    screen.sees("Cancel slow 1.0")
    screen.press("y")
    farm.wait_for_end(farm.slow)
    farm.wait_for_end(farm.broken)

    screen.press("4")
    screen.sees("Projects")
    screen.press("b", "r", "o")
    screen.sees("Projects like bro (1)")
    screen.press("Enter")
    screen.sees("broken: PyPI has 1 release", "missing-header")

    screen.press("q")
    screen.sees("code 0")


def test_a_build_is_watched_while_it_goes_on(farm, terminal, tmp_path):
    screen = Watcher(terminal(), farm, tmp_path, "xterm-256color")
    screen.sees("Builders (1)", "slow 1.0")

    screen.press("2")
    screen.sees("Next, and what waits")
    screen.press("4")
    screen.sees("Projects")
    screen.press("s", "l", "o", "w")
    screen.sees("Projects like slow (1)")
    screen.press("Enter")
    screen.sees("slow: PyPI has 1 release")
    screen.press("Enter")
    screen.sees("building", "follows")
    screen.counts_to(40)
    screen.insists("PageUp", "stands", "new lines")
    screen.insists("End", "follows")
    screen.press("q")
    screen.sees("code 0")
