# SPDX-License-Identifier: BSD-3-Clause
"""The machine itself, for the dashboard: its roles, what pip and uv ask, and what its builder does right now.

What hardly changes (roles, services, the files of pip and uv) is looked at every half a minute only: on a
small machine it takes longer than all the rest. The builder shows itself in a file (`builder.farm.window`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from piwheels_node.cli import status
from piwheels_node.consumer.report import Report, health
from piwheels_node.core.messages import LocalBuilder, NodeView
from piwheels_node.core.places import WINDOW, WINDOW_IN_RUN

_AGAIN_S = 30.0
_MOST_BYTES = 1 << 20


class ThisMachine:
    """The machine that serves the directory `data`; `look` never raises, and asks no master."""

    def __init__(self, data: Path, in_run: Path = WINDOW_IN_RUN) -> None:
        self._data = data.absolute()
        self._windows = in_run, self._data / WINDOW
        self._report: Report | None = None
        self._looked_s = 0.0

    def look(self) -> NodeView:
        """How it stands now."""
        if self._report is None or time.monotonic() - self._looked_s > _AGAIN_S:
            self._report = status.look(self._data, ask_masters=False)
            self._looked_s = time.monotonic()
        report, now = self._report, datetime.now(UTC)
        builder, notes = self._builder(now)
        return NodeView(
            at=now,
            roles=list(report.roles),
            services=report.services,
            index=report.index,
            pip_asks=report.pip.uses(report.index),
            pip_by=report.pip_by,
            uv_asks=report.uv.uses(report.index),
            masters=[one.url for one in report.masters],
            builder=builder,
            health=builder.health if builder else health(self._data),
            notes=[*report.notes, *notes],
        )

    def _builder(self, now: datetime) -> tuple[LocalBuilder | None, list[str]]:
        """What the builder of the directory shows of itself, and what kept us from seeing it."""
        notes = []
        for path in self._windows:
            try:
                with path.open("rb") as file:
                    found = LocalBuilder.model_validate_json(file.read(_MOST_BYTES))
            except PermissionError:
                notes.append(f"what the builder does cannot be read: {path}; call it with sudo")
            except (OSError, ValidationError):  # there is none, or one of another version
                continue
            else:
                if found.is_fresh(now) and Path(found.data) == self._data:
                    return found, []
        return None, notes
