# SPDX-License-Identifier: BSD-3-Clause
"""Which Debian packages the builds of a project have, by its rules, and who could add them.

`queue` asks whenever a job is made or begins anew; `rules` says how rules come to be. This module knows the
tables of rules and builders.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from piwheels_node.core.builders import BuilderState
from piwheels_node.core.messages import PACKAGES_AT_MOST
from piwheels_node.core.targets import Target
from piwheels_node.master.database.models import Builder, BuilderTarget, FixRule, TargetRow
from piwheels_node.master.jobs.lanes import GONE_S

_RULES_AT_MOST = 200
"""Rules of one project that are looked at: more cannot come from its failures."""


def packages_for(session: Session, project_id: int, target: TargetRow, now: datetime) -> list[str]:
    """The Debian packages that a new build of a project is to have.

    None where no builder of the target could add them: it is built without, rather than never.
    """
    rules = rules_of(session, project_id, Target.parse(target.name).release)
    wanted = _used(rules)
    return wanted if wanted and can_add(session, target.id, now) else []


def can_add(session: Session, target_id: int, now: datetime) -> bool:
    """True where some builder that is not gone can add packages for a target."""
    found = session.scalar(
        select(Builder.id)
        .join(BuilderTarget, BuilderTarget.builder_id == Builder.id)
        .where(
            BuilderTarget.target_id == target_id,
            BuilderTarget.layers,
            Builder.state == BuilderState.ACTIVE,
            Builder.last_seen_at > now - timedelta(seconds=GONE_S),
        )
        .limit(1)
    )
    return found is not None


def rules_of(session: Session, project_id: int, release: str | None) -> list[FixRule]:
    """The rules of a project that hold for a release of Debian; None: all."""
    wanted = select(FixRule).where(FixRule.project_id == project_id).order_by(FixRule.id)
    if release is not None:
        wanted = wanted.where(or_(FixRule.release == release, FixRule.release.is_(None)))
    return list(session.scalars(wanted.limit(_RULES_AT_MOST)))


def _used(rules: Iterable[FixRule]) -> list[str]:
    """The packages of the rules that are used, those of rules that work first where they are too many."""
    used = sorted(
        (rule for rule in rules if rule.state.is_used), key=lambda rule: rule.state.value, reverse=True
    )
    found: dict[str, None] = {}
    for rule in used:
        if len(found.keys() | set(rule.packages)) <= PACKAGES_AT_MOST:
            found.update(dict.fromkeys(rule.packages))
    return sorted(found)
