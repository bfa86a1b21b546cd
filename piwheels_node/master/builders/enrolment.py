# SPDX-License-Identifier: BSD-3-Clause
r"""Who may build here: join tokens, machines that join with one, and people who approve and revoke.

    create_token -> SECRET[.FINGERPRINT] -> join -> PENDING --approve--> ACTIVE --revoke--> REVOKED
                                                                         ACTIVE --leave---> LEFT --join-->
                                              \-> ACTIVE, where the token needs no approval

A token has 128 random bits or more and is stored as a SHA-256 only; each use is taken off in the statement
that looks whether there is one left, so 31 machines cannot share 30 uses. A machine is told from another by
its fingerprint: a name belongs to one machine, and a machine that was revoked stays so until a person says
otherwise. Functions take a session of `Database.write`; this module knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from piwheels_node.client.pinning import join_token
from piwheels_node.core.builders import BuilderEventKind, BuilderState
from piwheels_node.core.errors import NodeError
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import JoinAnswer, JoinRequest, TokenRequest, TokenView
from piwheels_node.master.builders import control
from piwheels_node.master.builders.keys import KeyKind, create_key, find_key
from piwheels_node.master.database.models import Builder, Job, JoinToken, Token
from piwheels_node.master.jobs import queue
from piwheels_node.master.jobs.rows import is_in

_MOST_TOKENS = 500
_ANOTHER = "ask for another: `piwheels-node master token new` on the master"


class BadTokenError(NodeError):
    """The join token is not known, revoked, expired or used up."""


class JoinRefusedError(NodeError):
    """The token is good, but not for this machine or this name."""


def create_token(session: Session, wanted: TokenRequest, fingerprint: str | None, now: datetime) -> TokenView:
    """Make a join token; `fingerprint` is that of the master's certificate, where it must be pinned."""
    secret = secrets.token_hex(20)  # no dash at the start, which commands would take for an option
    row = JoinToken(
        sha256=_digest(secret),
        created_at=now,
        expires_at=now + timedelta(seconds=wanted.lasts_s),
        uses_left=wanted.uses,
        needs_approval=wanted.needs_approval,
        note=wanted.note,
    )
    session.add(row)
    session.flush()
    return _token_view(row).model_copy(update={"token": join_token(secret, fingerprint)})


def tokens(session: Session) -> list[TokenView]:
    """The join tokens, newest first, without their secrets."""
    rows = session.scalars(select(JoinToken).order_by(JoinToken.id.desc()).limit(_MOST_TOKENS))
    return [_token_view(row) for row in rows]


def revoke_token(session: Session, token_id: int, now: datetime) -> bool:
    """Make a join token worthless; False where there is none with this number."""
    row = session.get(JoinToken, token_id)
    if row is not None and row.revoked_at is None:
        row.revoked_at = now
    return row is not None


def check_token(session: Session, token: str, now: datetime) -> None:
    """Raise BadTokenError where the token opens nothing: a read, so that guesses cost no write."""
    digest = _digest(token)
    row = session.scalar(select(JoinToken).where(JoinToken.sha256 == digest))
    if row is None or not hmac.compare_digest(row.sha256, digest):
        raise BadTokenError("the master does not know this join token", hint=_ANOTHER)
    if row.revoked_at is not None:
        raise BadTokenError("this join token was revoked", hint=_ANOTHER)
    if row.expires_at <= now:
        raise BadTokenError(f"this join token expired at {row.expires_at:%Y-%m-%d %H:%M} UTC", hint=_ANOTHER)
    if row.uses_left < 1:
        raise BadTokenError("this join token is used up", hint=_ANOTHER)


def member(session: Session, request: JoinRequest) -> Builder | None:
    """The builder that this machine is already, by the key that it shows; None where it is none yet."""
    caller = find_key(session, request.key) if request.key else None
    if caller is None or caller.builder_id is None:
        return None
    builder = session.get_one(Builder, caller.builder_id)
    return builder if builder.fingerprint in {None, request.machine.fingerprint} else None


def join(session: Session, request: JoinRequest, now: datetime) -> JoinAnswer:
    """Make a machine a builder; raises BadTokenError, JoinRefusedError.

    One that shows its key again stays what it is, under the name that it gives now, and spends no use. One
    that has lost its key gets another one for a use; the old key is worth nothing any more.
    """
    builder = member(session, request)
    if builder is not None and request.key:
        _rename(session, builder, request.name, now)
        _note_machine(builder, request)
        return JoinAnswer(name=builder.name, key=request.key, state=builder.state)
    token = _use(session, request.token, now)
    builder = _builder_for(session, request, now)
    is_new = builder not in session
    if is_new or builder.state is BuilderState.LEFT:
        builder.state = BuilderState.PENDING if token.needs_approval else BuilderState.ACTIVE
    if is_new:
        session.add(builder)
        _flush_name(session, builder.name)
    else:
        _forget_keys(session, builder, now)
    _note_machine(builder, request)
    key = create_key(session, KeyKind.BUILDER, builder.name, now)
    control.record(session, builder.id, BuilderEventKind.JOINED, now, token=token.id, name=builder.name)
    return JoinAnswer(name=builder.name, key=key, state=builder.state)


def approve(session: Session, builder: Builder, now: datetime) -> None:
    """Let a builder lease jobs; one that was revoked must join again for a new key."""
    if builder.state is not BuilderState.ACTIVE:
        control.record(session, builder.id, BuilderEventKind.APPROVED, now, after=builder.state.value)
        builder.state = BuilderState.ACTIVE
        control.changed(session, builder)


def revoke(session: Session, builder: Builder, now: datetime) -> list[int]:
    """Take a builder's keys back, and its jobs, which are ready for others at once; gives the jobs' ids."""
    return _part(session, builder, BuilderState.REVOKED, BuilderEventKind.REVOKED, now)


def leave(session: Session, builder: Builder, now: datetime) -> list[int]:
    """A builder leaves by itself: what it holds is ready for others at once; gives the jobs' ids."""
    return _part(session, builder, BuilderState.LEFT, BuilderEventKind.LEFT, now)


def _part(
    session: Session, builder: Builder, state: BuilderState, kind: BuilderEventKind, now: datetime
) -> list[int]:
    taken = _forget_keys(session, builder, now)
    if builder.state is not state:
        control.record(session, builder.id, kind, now, jobs=len(taken))
        builder.state = state
        control.changed(session, builder)
    return taken


def _use(session: Session, token: str, now: datetime) -> JoinToken:
    """Take one use off a token; raises BadTokenError."""
    used: JoinToken | None = session.scalar(
        update(JoinToken)
        .where(
            JoinToken.sha256 == _digest(token),
            JoinToken.uses_left > 0,
            JoinToken.expires_at > now,
            JoinToken.revoked_at.is_(None),
        )
        .values(uses_left=JoinToken.uses_left - 1)
        .returning(JoinToken)
    )
    if used is None:
        check_token(session, token, now)
        raise BadTokenError("this join token is used up", hint=_ANOTHER)
    return used


def _builder_for(session: Session, request: JoinRequest, now: datetime) -> Builder:
    """The row of this machine and name, new where there is none; raises JoinRefusedError."""
    machine = request.machine.fingerprint
    row = session.scalar(select(Builder).where(Builder.name == request.name))
    if row is not None and row.fingerprint != machine:
        raise _name_taken(request.name)
    revoked = row
    if row is None:
        revoked = session.scalar(
            select(Builder)
            .where(Builder.fingerprint == machine, Builder.state == BuilderState.REVOKED)
            .limit(1)
        )
    if revoked is not None and revoked.state is BuilderState.REVOKED:
        raise JoinRefusedError(
            "this machine was a builder here, and was revoked",
            where=revoked.name,
            hint=f"on the master: `piwheels-node master builders approve {revoked.name}`, then join again",
        )
    return row or Builder(name=request.name, created_at=now)


def _rename(session: Session, builder: Builder, name: str, now: datetime) -> None:
    if builder.name != name:
        before, builder.name = builder.name, name
        _flush_name(session, name)
        control.record(session, builder.id, BuilderEventKind.JOINED, now, name=name, before=before)


def _flush_name(session: Session, name: str) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        raise _name_taken(name) from error


def _name_taken(name: str) -> JoinRefusedError:
    return JoinRefusedError(
        "another machine has this name", where=name, hint="choose another with --name NAME"
    )


def _note_machine(builder: Builder, request: JoinRequest) -> None:
    builder.fingerprint = request.machine.fingerprint
    builder.machine = request.machine.model_dump(mode="json")


def _forget_keys(session: Session, builder: Builder, now: datetime) -> list[int]:
    """Make all keys of a builder worthless, and give what it builds back; gives the ids of those jobs."""
    session.execute(
        update(Token).where(Token.builder_id == builder.id, Token.revoked_at.is_(None)).values(revoked_at=now)
    )
    jobs = session.scalars(
        select(Job)
        .where(is_in(JobState.LEASED), Job.builder_id == builder.id)
        .order_by(Job.id)
        .with_for_update()
    ).all()
    for job in jobs:
        queue.hand_back(session, job, now)
    queue.announce(session, f"orders:{builder.id}")  # whoever remembers the key forgets it
    return [job.id for job in jobs]


def _token_view(row: JoinToken) -> TokenView:
    return TokenView(
        token_id=row.id,
        uses_left=row.uses_left,
        created_at=row.created_at,
        expires_at=row.expires_at,
        needs_approval=row.needs_approval,
        note=row.note,
        revoked=row.revoked_at is not None,
    )


def _digest(token: str) -> str:
    """Of the secret alone: what comes after the dot is for who joins, and no secret."""
    return hashlib.sha256(token.partition(".")[0].encode()).hexdigest()
