# SPDX-License-Identifier: BSD-3-Clause
"""Endpoints for the rules "this project needs these Debian packages": see them, and decide about them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from packaging.utils import canonicalize_name
from sqlalchemy.orm import Session

from piwheels_node.core.fixes import FixState
from piwheels_node.core.messages import FixAnswer, FixDecision, FixRequest, FixView
from piwheels_node.master.api.context import Context, Here, Operator
from piwheels_node.master.api.problems import NotFoundError
from piwheels_node.master.database.models import FixRule
from piwheels_node.master.jobs import rules

router = APIRouter(tags=["people"])

_RuleId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("/fixes")
def fixes(
    here: Here,
    state: FixState | None = None,
    project: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[FixView]:
    """The newest rules, in one state or in any, of one project or of all."""
    name = None if project is None else canonicalize_name(project)
    with here.database.read() as session:
        return [rules.view(session, rule) for rule in rules.newest(session, state, name, limit)]


@router.post("/fixes")
async def add_fix(wanted: FixRequest, here: Here, _operator: Operator) -> FixAnswer:
    """Say what a project needs; jobs that wait get it, those that failed for want of something begin anew."""
    now = here.now()

    def work(session: Session) -> FixAnswer:
        rule = rules.add(
            session,
            project=canonicalize_name(wanted.project),
            packages=wanted.packages,
            release=wanted.release,
            why=wanted.why,
            now=now,
        )
        again = rules.reconsider(session, rule, now)
        return FixAnswer(rule=rules.view(session, rule), jobs=again)

    return await here.database.awrite(work)


@router.post("/fixes/{rule_id}/accept")
async def accept_fix(rule_id: _RuleId, decision: FixDecision, here: Here, _operator: Operator) -> FixAnswer:
    """Use a rule; jobs that failed for what it mends are ready again."""
    return await _decide(here, rule_id, decision, wanted=True)


@router.post("/fixes/{rule_id}/off")
async def refuse_fix(rule_id: _RuleId, decision: FixDecision, here: Here, _operator: Operator) -> FixAnswer:
    """Neither use a rule nor propose it again; jobs that wait go without."""
    return await _decide(here, rule_id, decision, wanted=False)


async def _decide(here: Context, rule_id: int, decision: FixDecision, *, wanted: bool) -> FixAnswer:
    now = here.now()

    def work(session: Session) -> FixAnswer | None:
        rule: FixRule | None = (rules.accept if wanted else rules.refuse)(session, rule_id, now, decision.why)
        if rule is None:
            return None
        again = rules.reconsider(session, rule, now)
        return FixAnswer(rule=rules.view(session, rule), jobs=again)

    answer = await here.database.awrite(work)
    if answer is None:
        raise NotFoundError("there is no such rule", where=f"rule {rule_id}")
    return answer
