# SPDX-License-Identifier: BSD-3-Clause
"""Tables of builds that have ended: their columns, how they are ordered and found, and where a row leads.

Several pages have one, each with the columns that say something there. This module must not import Textual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from piwheels_node.core.messages import BuildRow, FailedBuild
from piwheels_node.dashboard.listing import Arrangement, Column
from piwheels_node.dashboard.words import Cell, Place, Role, ago, elapsed, place, short_target


@dataclass(frozen=True)
class Ended:
    """A build that has ended, as a row; `at` is now."""

    build: BuildRow | FailedBuild
    at: datetime

    @property
    def outcome(self) -> Cell:
        """How it ended: a word, or the reason."""
        reason = self.build.reason
        if reason is not None:
            return Cell(str(reason), Role.BAD)
        return Cell(self.build.outcome.value if isinstance(self.build, BuildRow) else "failed", Role.GOOD)

    @property
    def place(self) -> Place:
        """Where it is shown."""
        return place(self.build.job_id, self.build.build_id)


def _ended_text(row: Ended) -> str:
    build = row.build
    words = (
        build.project,
        build.version,
        build.target,
        build.builder,
        row.outcome.words,
        build.captured or "",
    )
    return " ".join(words)


_COLUMNS: dict[str, Column[Ended]] = {
    column.name: column
    for column in (
        Column[Ended](
            "project",
            "package",
            16,
            lambda row: Cell(f"{row.build.project} {row.build.version}", Role.STRONG),
            lambda row: (row.build.project, row.build.version),
            share=2,
        ),
        Column[Ended](
            "version",
            "version",
            9,
            lambda row: Cell(row.build.version, Role.STRONG),
            lambda row: row.build.version,
        ),
        Column[Ended](
            "outcome", "outcome", 15, lambda row: row.outcome, lambda row: row.outcome.words, share=1
        ),
        Column[Ended](
            "captured",
            "what",
            12,
            lambda row: Cell(row.build.captured or ""),
            lambda row: row.build.captured,
            rank=2,
            share=2,
        ),
        Column[Ended](
            "target",
            "target",
            19,
            lambda row: Cell(short_target(row.build.target), Role.FAINT),
            lambda row: row.build.target,
            rank=4,
            share=1,
        ),
        Column[Ended](
            "package",
            "in Debian",
            12,
            lambda row: Cell(row.build.debian_package or "", Role.WARN),
            lambda row: row.build.debian_package,
            rank=5,
        ),
        Column[Ended](
            "builder",
            "builder",
            8,
            lambda row: Cell(row.build.builder),
            lambda row: row.build.builder,
            rank=3,
        ),
        Column[Ended](
            "took",
            "took",
            6,
            lambda row: Cell(elapsed(row.build.duration_s)),
            lambda row: row.build.duration_s,
            right=True,
            rank=1,
            falling=True,
        ),
        Column[Ended](
            "when",
            "when",
            5,
            lambda row: Cell(ago(row.build.started_at, row.at), Role.FAINT),
            lambda row: row.build.started_at,
            right=True,
            falling=True,
        ),
    )
}


def arrangement(*names: str) -> Arrangement[Ended]:
    """A table of builds with these columns."""
    return Arrangement(
        tuple(_COLUMNS[name] for name in names),
        key=lambda row: str(row.build.build_id),
        text=_ended_text,
        is_fault=lambda row: row.build.reason is not None,
    )


OF_ONE_PROJECT = arrangement("version", "outcome", "captured", "package", "target", "builder", "took", "when")
OF_ONE_REASON = arrangement("project", "captured", "package", "target", "builder", "took", "when")
