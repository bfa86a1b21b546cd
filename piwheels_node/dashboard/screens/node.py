# SPDX-License-Identifier: BSD-3-Clause
"""The machine that this runs on: what it is, what pip asks, what its builder does, whatever a master says.

It asks no master: a consumer has none, and a builder's may be away.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from textual import events
from textual.app import ComposeResult

from piwheels_node.client.port import Watched
from piwheels_node.core.messages import LocalEnd, NodeView
from piwheels_node.dashboard import node
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.widgets.lines import Heading, Lines, Tail, title
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import place


class Node(Page[NodeView]):
    """The machine itself."""

    NAME = "node"
    HEADING = "this machine"
    ASKS_MASTER = False
    CSS = """
    #tail { height: 1fr; }
    #ended { height: auto; max-height: 50%; }
    """

    def __init__(self, about: str = "") -> None:
        super().__init__(about)
        self._facts = Lines(id="facts")
        self._tail_title = Heading(id="tail-title")
        self._tail = Tail(id="tail")
        self._ended_title = Heading(id="ended-title")
        self._ended: Table[tuple[LocalEnd, datetime]] = Table(
            node.ENDED, id="ended", empty="no job has ended here since the builder began"
        )

    def body(self) -> ComposeResult:
        """What it is, the end of the log, and what has ended."""
        yield self._facts
        yield self._tail_title
        yield self._tail
        yield self._ended_title
        yield self._ended

    def ask(self) -> Callable[[Watched], NodeView]:
        """Look at the machine; no master is asked."""
        machine = self.dashboard.machine
        if machine is None:
            raise AssertionError("this page is only offered where there is a machine to look at")
        return lambda _master: machine.look()

    def draw(self, value: NodeView) -> None:
        """Show it."""
        builder = value.builder
        build = builder.builds[0] if builder and builder.builds else None
        self._facts.show(*node.told(value, self.size.width, has_farm=self.dashboard.has_farm))
        self._tail_title.display = self._tail.display = build is not None
        if build is not None:
            self._tail_title.show(title(f"Log of {build.project} {build.version}"))
            self._tail.show(*node.tail(build))
        self._ended_title.display = self._ended.display = builder is not None
        if builder is not None:
            self._ended.show([(one, value.at) for one in builder.ended])
            self._ended_title.show(title("Ended here", self._ended.count))

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002 - as Page's
        """What is told depends on the room."""
        if self.value is not None:
            self.draw(self.value)

    def opened(self, table: Table[Any], row: Any) -> None:  # noqa: ARG002 - Page's signature
        """A job, as the master knows it."""
        if self.dashboard.has_farm:
            self.go(place(row[0].job_id))
