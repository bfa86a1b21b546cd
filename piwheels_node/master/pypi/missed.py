# SPDX-License-Identifier: BSD-3-Clause
"""A project that somebody's pip missed in the index is built, so that the next time it is there.

Each project and target raises one request a day at most, and all together `pypi.misses_per_hour`. A farm that
follows all of PyPI knows what there is; one that watches a few projects asks PyPI, as pip itself just did.
What a rule skips stays skipped. This module knows the tables, and blocks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import timedelta

from packaging.version import Version
from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NotOnPyPIError, PyPIError
from piwheels_node.core.jobs import Priority
from piwheels_node.core.targets import Target
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Miss, PypiProject
from piwheels_node.master.index.misses import wanted_by
from piwheels_node.master.jobs.plan import choose_version
from piwheels_node.master.jobs.planning import Farm, Past, outlook, plan_project, skipped_by
from piwheels_node.master.pypi import stored
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.listing import ProjectFiles

_ONCE_IN = timedelta(days=1)
_log = logging.getLogger(__name__)


class Requests:
    """Raises requests for what was missed; `knows_all`: what is not stored is not on PyPI."""

    def __init__(self, database: Database, pypi: PyPI, per_hour: int, *, knows_all: bool) -> None:
        self._database = database
        self._pypi = pypi
        self._per_hour = per_hour
        self._knows_all = knows_all
        self._left = float(per_hour)
        self._filled_at = time.monotonic()

    def raise_for(self, missed: Iterable[tuple[str, str]], farm: Farm) -> int:
        """Queue what was missed and can be built; gives how many jobs were made."""
        made = 0
        for name, agent in missed:
            target = wanted_by(agent, farm.targets)
            if target is None or not self._may() or not self._is_new(name, target, farm):
                continue
            self._left -= 1
            project = self._project(name)
            if project is not None:
                made += self._database.write(lambda session: _queue(session, project, target, farm))  # noqa: B023 - run at once
        return made

    def _may(self) -> bool:
        now = time.monotonic()
        filled = self._left + (now - self._filled_at) * self._per_hour / 3600
        self._left, self._filled_at = min(filled, float(self._per_hour)), now
        return self._left >= 1

    def _is_new(self, name: str, target: Target, farm: Farm) -> bool:
        def note(session: Session) -> bool:
            key = name, farm.targets[target]
            row = session.get(Miss, key)
            if row is None:
                row = Miss(project=name, target_id=key[1], times=0, first_at=farm.now, last_at=farm.now)
                session.add(row)
            is_new = row.times == 0 or row.last_at < farm.now - _ONCE_IN
            row.times += 1
            row.last_at = farm.now if is_new else row.last_at
            return is_new

        return self._database.write(note)

    def _project(self, name: str) -> ProjectFiles | None:
        with self._database.read() as session:
            row = session.scalar(select(PypiProject).where(PypiProject.name == name))
        if row is not None and row.listing is not None:
            return stored.read(name, row.listing) if row.status != "quarantined" else None
        if self._knows_all:
            return None
        try:
            found = self._pypi.look(name)
        except NotOnPyPIError:
            return None
        except PyPIError as error:
            _log.info("PyPI could not be asked about %s, which was missed: %s", name, error)
            return None
        return found.project if found else None


def _queue(session: Session, project: ProjectFiles, target: Target, farm: Farm) -> int:
    version = _newest(project, target)
    past = Past.of(session, [project.name])
    if version is None or skipped_by(past.rules.get(project.name, ()), version):
        return 0
    row = session.scalar(select(PypiProject).where(PypiProject.name == project.name))
    found = outlook(session, project, farm.only(target), [version], frozenset({target}), past)
    return plan_project(session, row, project, farm, found, Priority.MISSED)


def _newest(project: ProjectFiles, target: Target) -> Version | None:
    try:
        return choose_version(project, None, target)
    except NotOnPyPIError:
        return None
