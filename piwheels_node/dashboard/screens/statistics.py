# SPDX-License-Identifier: BSD-3-Clause
"""The farm in four pictures: builds over time, per builder, reasons of failures, and wheels by tag."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.app import ComposeResult
from textual.containers import Grid, Vertical

from piwheels_node.client.port import Watched
from piwheels_node.dashboard import statistics
from piwheels_node.dashboard.look import Glyphs
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.statistics import StatisticsSight
from piwheels_node.dashboard.widgets.lines import Heading, Lines, title
from piwheels_node.dashboard.words import Line

_FIRST_RANGE_DAYS = 30

Picture = Callable[[StatisticsSight, int, int, Glyphs], list[Line]]

PICTURES: tuple[tuple[str, str, Picture], ...] = (
    ("picture-time", "Builds over time", statistics.over_time),
    ("picture-reasons", "Why builds failed", statistics.reasons),
    ("picture-builders", "Builds per builder", statistics.per_builder),
    ("picture-tags", "Wheels by tag", statistics.tags),
)


class StatisticsPage(Page[StatisticsSight]):
    """Four pictures of a range of time."""

    NAME = "statistics"
    HEADING = "statistics"
    AUTO_FOCUS = ""  # there is nothing to type, and what can be chosen comes with the first answer
    CSS = """
    #pictures { grid-size: 2 2; grid-gutter: 0 2; height: 1fr; }
    .picture { height: 1fr; overflow: hidden; }
    """

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._days = _FIRST_RANGE_DAYS

    def body(self) -> ComposeResult:
        """Two by two."""
        with Grid(id="pictures"):
            for name, _, _ in PICTURES:
                with Vertical(id=name, classes="picture"):
                    yield Heading(id=f"{name}-title")
                    yield Lines(id=f"{name}-lines")

    def on_mount(self) -> None:
        """The titles are known."""
        self._draw_titles()

    def ask(self) -> Callable[[Watched], StatisticsSight]:
        """The numbers of the range of time."""
        days, now = self._days, self.dashboard.now()
        return lambda master: statistics.look_at(master, days, now)

    def draw(self, value: StatisticsSight) -> None:
        """Draw the pictures, each as large as its room."""
        self._draw_titles()
        for name, _, picture in PICTURES:
            room = self.query_one(f"#{name}").content_size
            height = max(3, room.height - 1)
            lines = picture(value, max(20, room.width), height, self.dashboard.look.glyphs)
            self.query_one(f"#{name}-lines", Lines).show(*lines)

    def _draw_titles(self) -> None:
        for name, words, _ in PICTURES:
            said = words if name == "picture-tags" else f"{words}, {self._days} days"
            self.query_one(f"#{name}-title", Heading).show(title(said))

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002 - as Page's
        """Pictures have the size of their room."""
        self.call_after_refresh(self._draw_again)

    def _draw_again(self) -> None:
        if self.value is not None:
            self.draw(self.value)

    def act_range(self) -> None:
        """The next longer range of time."""
        self._days = statistics.next_range(self._days)
        self.dashboard.poll()
