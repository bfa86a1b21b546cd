# SPDX-License-Identifier: BSD-3-Clause
"""What Alembic runs for each command: our connection, our tables. Never imported by us."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from piwheels_node.master.database.models import EnumValue, Model, UtcDateTime

_PLAIN = {UtcDateTime: "sa.DateTime(timezone=True)", EnumValue: "sa.String(32)"}


def _render(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """A migration does not know our types: they may change, it may not."""
    return _PLAIN.get(type(item), False) if kind == "type" else False


def _can_be_compared(_item: object, name: str | None, *_: object) -> bool:
    """SQLAlchemy cannot read this index back, for its expression; a test compares it as text."""
    return name != "ix_job_ready"


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Model.metadata,
    transactional_ddl=True,  # SQLite has it too, once the driver leaves transactions to us
    render_as_batch=True,  # SQLite alters a table by making it anew
    render_item=_render,
    include_object=_can_be_compared,
)
with context.begin_transaction():
    context.run_migrations()
