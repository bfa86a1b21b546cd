# SPDX-License-Identifier: BSD-3-Clause
"""How machines become builders: join tokens, and what a machine says of itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from piwheels_node.core.builders import BuilderState
from piwheels_node.core.messages.base import Amount, BuilderName, Message, Name, Sha256


class Machine(Message):
    """What a builder runs on. `fingerprint` tells one machine from another, a cloned SD card's too."""

    fingerprint: Sha256
    model: Name | None = None
    os: Name | None = None
    kernel: Name | None = None
    cores: Annotated[int | None, Field(ge=1, le=1 << 20)] = None
    memory_bytes: Amount | None = None


class JoinRequest(Message):
    """A machine shows a join token, and wants to be a builder called `name`."""

    token: Annotated[str, Field(min_length=16, max_length=200)]
    name: BuilderName
    machine: Machine
    key: Annotated[str | None, Field(max_length=200)] = None
    "The key that it has already, if it joined before: then nothing changes but the name."


class JoinAnswer(Message):
    """The builder's key, shown only here."""

    name: Name
    key: str
    state: BuilderState


class TokenRequest(Message):
    """A person wants a join token."""

    uses: Annotated[int, Field(ge=1, le=10_000)] = 1
    lasts_s: Annotated[float, Field(ge=1, le=366 * 86400)] = 3600
    needs_approval: bool = False
    note: Annotated[str | None, Field(max_length=200)] = None


class TokenView(Message):
    """A join token; `token` itself is there only when it has just been made."""

    token_id: int
    token: str | None = None
    uses_left: int
    created_at: AwareDatetime
    expires_at: AwareDatetime
    needs_approval: bool = False
    note: str | None = None
    revoked: bool = False
