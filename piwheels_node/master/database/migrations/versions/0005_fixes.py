# SPDX-License-Identifier: BSD-3-Clause
"""Fixes: Debian packages that projects need, who can add them, and jobs that wait for other jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_WORD = sa.String(32)
_WHY = sa.String(500)


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    op.add_column("builder_target", _flag("layers"))
    for column in (
        _flag("is_awaited"),
        sa.Column("packages", sa.JSON(), nullable=True),
        _flag("needs_layers"),
        sa.Column("rounds", sa.Integer(), server_default="0", nullable=False),
        sa.Column("waits", sa.Integer(), server_default="0", nullable=False),
    ):
        op.add_column("job", column)
    op.add_column("build", sa.Column("packages", sa.JSON(), nullable=True))
    op.add_column("build", sa.Column("offered_id", sa.String(length=64), nullable=True))
    _indexes()
    _rules()


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _indexes() -> None:
    """A lane is now told by its jobs' need of layers, too."""
    op.drop_index("ix_job_ready", "job")
    ready, blocked = sa.text("state = 'ready'"), sa.text("state = 'blocked'")
    op.create_index(
        "ix_job_ready",
        "job",
        ["target_id", "memory_class", "needs_layers", sa.text("priority DESC"), "id"],
        sqlite_where=ready,
        postgresql_where=ready,
    )
    op.create_index(
        "ix_job_blocked", "job", ["blocked_on_id"], sqlite_where=blocked, postgresql_where=blocked
    )


def _rules() -> None:
    op.create_table(
        "fix_rule",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("release", _WORD, nullable=True),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("reason", _WORD, nullable=True),
        sa.Column("captured", _WHY, nullable=True),
        sa.Column("build_id", _ID, nullable=True),
        sa.Column("decided_by", sa.String(length=16), nullable=False),
        sa.Column("why", _WHY, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name="fk_fix_rule_build_id_build"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_fix_rule_project_id_project"),
        sa.PrimaryKeyConstraint("id", name="pk_fix_rule"),
    )
    op.create_index("ix_fix_rule_project_id", "fix_rule", ["project_id"])
    op.create_index("ix_fix_rule_state_id", "fix_rule", ["state", "id"])
