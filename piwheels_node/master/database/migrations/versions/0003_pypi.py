# SPDX-License-Identifier: BSD-3-Clause
"""Following PyPI: what it has, what must be asked and planned, rules of what to skip, what was missed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_NAME = sa.String(200)


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    _pypi()
    _planning()


def _pypi() -> None:
    op.create_table(
        "pypi_project",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("etag", sa.String(200), nullable=True),
        sa.Column("listing", sa.LargeBinary(), nullable=True),
        sa.Column("newest_at", _TIME, nullable=False),
        sa.Column("read_at", _TIME, nullable=False),
        sa.Column("popularity", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_pypi_project"),
        sa.UniqueConstraint("name", name="uq_pypi_project_name"),
    )
    op.create_index("ix_pypi_project_newest_at", "pypi_project", ["newest_at", "id"])
    op.create_table(
        "pypi_note",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", _TIME, nullable=False),
        sa.Column("not_before_at", _TIME, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pypi_note"),
    )
    op.create_index("ix_pypi_note_not_before_at", "pypi_note", ["not_before_at"])


def _planning() -> None:
    op.create_table(
        "plan_note",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("noted_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_plan_note"),
    )
    op.create_table(
        "walk",
        sa.Column("target_id", _ID, nullable=False),
        sa.Column("newest_at", _TIME, nullable=True),
        sa.Column("project_id", sa.BigInteger(), nullable=False),
        sa.Column("projects", sa.BigInteger(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("done_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_walk_target_id_target"),
        sa.PrimaryKeyConstraint("target_id", name="pk_walk"),
    )
    op.create_table(
        "skip_rule",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project", _NAME, nullable=False),
        sa.Column("versions", _NAME, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_skip_rule"),
    )
    op.create_index("ix_skip_rule_project", "skip_rule", ["project"])
    op.create_table(
        "miss",
        sa.Column("project", _NAME, nullable=False),
        sa.Column("target_id", _ID, nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_at", _TIME, nullable=False),
        sa.Column("last_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_miss_target_id_target"),
        sa.PrimaryKeyConstraint("project", "target_id", name="pk_miss"),
    )
