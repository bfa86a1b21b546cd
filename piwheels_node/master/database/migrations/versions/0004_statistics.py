# SPDX-License-Identifier: BSD-3-Clause
"""Statistics: builds counted by day, target and result; the newest builds of a reason; bytes written to disk.

Builds that are there already are counted once, here: of millions of them that takes minutes, and never again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ENDED_ON = {
    "sqlite": "substr(build.started_at, 1, 10)",
    "postgresql": "to_char(build.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    op.create_table(
        "build_count",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("target_id", _ID, nullable=False),
        sa.Column("result", sa.String(32), nullable=False),
        sa.Column("builds", sa.BigInteger(), nullable=False),
        sa.Column("newest_build_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_build_count_target_id_target"),
        sa.PrimaryKeyConstraint("day", "target_id", "result", name="pk_build_count"),
    )
    day = _ENDED_ON[op.get_bind().dialect.name]
    op.execute(
        "INSERT INTO build_count (day, target_id, result, builds, newest_build_id)"  # noqa: S608 - our own words
        f" SELECT {day}, job.target_id, coalesce(build.reason, build.outcome), COUNT(*), MAX(build.id)"
        " FROM build JOIN job ON job.id = build.job_id GROUP BY 1, 2, 3"
    )
    op.add_column("build", sa.Column("written_bytes", sa.BigInteger(), nullable=True))
    failed = sa.text("reason IS NOT NULL")
    op.create_index(
        "ix_build_reason", "build", ["reason", "id"], sqlite_where=failed, postgresql_where=failed
    )
