# SPDX-License-Identifier: BSD-3-Clause
"""The machine that the dashboard runs on, in words: what it is, what pip asks, and what it builds right now.

It is looked at by a `client.port.Node`, without asking any master. This module must not import Textual.
"""

from __future__ import annotations

from datetime import datetime

from piwheels_node.core.messages import LocalBuild, LocalBuilder, LocalEnd, NodeView
from piwheels_node.dashboard.drawing import named
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.logs import clean_line
from piwheels_node.dashboard.machines import health
from piwheels_node.dashboard.words import Cell, Line, Place, Role, ago, elapsed, joined, place, short_target

_STATES = {"active": Role.GOOD, "failed": Role.BAD, "activating": Role.WARN}


def told(view: NodeView, width: int, *, has_farm: bool) -> list[Line]:
    """Roles, what pip and uv ask, services, masters, health, and what is worth a note."""
    roles = ", ".join(view.roles)
    pairs: list[tuple[str, Line]] = [
        ("is", [Cell(roles, Role.STRONG) if roles else Cell("no consumer, builder or master", Role.WARN)]),
        ("pip", _asks(view.pip_asks, view.index, view.pip_by)),
        ("uv", _asks(view.uv_asks, view.index, None)),
        *(
            ("" if at else "services", [Cell(f"{unit}  "), _service(state)])
            for at, (unit, state) in enumerate(view.services.items())
        ),
        ("master", joined([[Cell(one)] for one in view.masters])),
        ("health", health(view.health)),
    ]
    if view.builder:
        pairs += _builder(view.builder, view.at, has_farm=has_farm)
    pairs += [("note", [Cell(one, Role.WARN)]) for one in view.notes]
    return named(pairs, width)


def _asks(asks: bool, index: str, by: str | None) -> Line:
    line = [
        Cell("asks " if asks else "does not ask ", Role.GOOD if asks else Role.WARN),
        Cell(index or "any index of ready-made wheels"),
    ]
    return [*line, Cell(f"  by {by}", Role.FAINT)] if by else line


def _service(state: str) -> Cell:
    return Cell(state, _STATES.get(state.split(" ", maxsplit=1)[0], Role.FAINT))


def _builder(builder: LocalBuilder, at: datetime, *, has_farm: bool) -> list[tuple[str, Line]]:
    """What its builder does, and why it does not."""
    name = Cell(builder.name, Role.STRONG, Place("builder", builder.name) if has_farm else None)
    pairs: list[tuple[str, Line]] = [
        ("builder", [name, Cell(f" of {builder.master}  for {elapsed(_age(builder.started_at, at))}")]),
        ("paused", [Cell(builder.paused or "", Role.WARN)]),
        ("trouble", [Cell(builder.trouble or "", Role.BAD)]),
    ]
    building: list[Line] = [_build(one, at, has_farm=has_farm) for one in builder.builds]
    return [*pairs, ("builds", joined(building) or [Cell("nothing now", Role.FAINT)])]


def _build(build: LocalBuild, at: datetime, *, has_farm: bool) -> Line:
    leads_to = place(build.job_id) if has_farm else None
    return [
        Cell(f"{build.project} {build.version}", Role.STRONG, leads_to),
        Cell(f" {build.step.value}", Role.BUSY),
        Cell(f" {elapsed(_age(build.begun_at, at))}"),
    ]


def _age(since: datetime, at: datetime) -> float:
    return (at - since).total_seconds()


def tail(build: LocalBuild) -> list[Line]:
    """The end of a log as lines; what is held of it may begin in the middle of one."""
    texts = build.log_tail.encode().removesuffix(b"\n").split(b"\n")
    return [[Cell(clean_line(one))] for one in texts]


def _outcome(one: LocalEnd) -> Cell:
    if one.reason is not None:
        return Cell(one.reason.value, Role.BAD)
    return Cell(one.outcome.value, Role.GOOD) if one.outcome else Cell("given back", Role.FAINT)


ENDED: Arrangement[tuple[LocalEnd, datetime]] = Arrangement(
    (
        Column(
            "package",
            "package",
            20,
            lambda one: Cell(f"{one[0].project} {one[0].version}", Role.STRONG),
            lambda one: (one[0].project, one[0].version),
            share=2,
        ),
        Column("outcome", "outcome", 18, lambda one: _outcome(one[0]), lambda one: _outcome(one[0]).words),
        Column("target", "target", 19, lambda one: Cell(short_target(one[0].target), Role.FAINT), rank=1),
        Column(
            "when",
            "when",
            5,
            lambda one: Cell(ago(one[0].ended_at, one[1]), Role.FAINT),
            lambda one: one[0].ended_at,
            right=True,
            falling=True,
        ),
    ),
    key=lambda one: f"{one[0].job_id} {one[0].ended_at}",
    text=lambda one: f"{one[0].project} {one[0].version} {_outcome(one[0]).words}",
    is_fault=lambda one: one[0].reason is not None,
)
