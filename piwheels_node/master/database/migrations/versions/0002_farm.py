# SPDX-License-Identifier: BSD-3-Clause
"""The farm: builders that join and are told what to do, lanes by memory, delayed jobs, blocked bytes.

A job that waited for its not-before time as `ready` is simply ready: it is tried a little sooner.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_WORD = sa.String(32)
_WHY = sa.String(500)


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    _builders()
    _jobs()
    _rest()
    _counters()
    if op.get_bind().dialect.name == "postgresql":
        _room_for_updates()


def _builders() -> None:
    op.create_table(
        "join_token",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("needs_approval", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_join_token"),
        sa.UniqueConstraint("sha256", name="uq_join_token_sha256"),
    )
    op.create_table(
        "builder_event",
        sa.Column("id", _ID, nullable=False),
        sa.Column("builder_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", _WORD, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name="fk_builder_event_builder_id_builder"),
        sa.PrimaryKeyConstraint("id", name="pk_builder_event"),
    )
    op.create_index("ix_builder_event_builder_id", "builder_event", ["builder_id"])
    for column in (
        sa.Column("state", _WORD, server_default="active", nullable=False),
        sa.Column("mode", _WORD, server_default="run", nullable=False),
        sa.Column("why", _WHY, nullable=True),
        sa.Column("paused_itself", _WHY, nullable=True),
        sa.Column("orders", sa.Integer(), server_default="0", nullable=False),
        sa.Column("session", sa.String(length=64), nullable=True),
        sa.Column("slots", sa.Integer(), server_default="1", nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.String(length=50), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("machine", sa.JSON(), nullable=True),
        sa.Column("health_at", _TIME, nullable=True),
    ):
        op.add_column("builder", column)


def _jobs() -> None:
    op.add_column("job", sa.Column("memory_class", sa.Integer(), server_default="0", nullable=False))
    op.drop_index("ix_job_ready", "job")
    ready, delayed = sa.text("state = 'ready'"), sa.text("state = 'delayed'")
    op.create_index(
        "ix_job_ready",
        "job",
        ["target_id", "memory_class", sa.text("priority DESC"), "id"],
        sqlite_where=ready,
        postgresql_where=ready,
    )
    op.create_index(
        "ix_job_delayed", "job", ["not_before_at"], sqlite_where=delayed, postgresql_where=delayed
    )
    poison = sa.text("state = 'quarantined'")
    op.create_index("ix_job_quarantined", "job", ["id"], sqlite_where=poison, postgresql_where=poison)
    op.create_table(
        "job_avoidance",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("builder_id", _ID, nullable=False),
        sa.Column("until_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name="fk_job_avoidance_builder_id_builder"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_job_avoidance_job_id_job"),
        sa.PrimaryKeyConstraint("job_id", "builder_id", name="pk_job_avoidance"),
    )
    op.create_index("ix_build_builder_id", "build", ["builder_id", "started_at"])
    op.add_column("project", sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True))


def _rest() -> None:
    op.add_column("wheel", sa.Column("withdrawn_why", _WHY, nullable=True))
    op.create_table(
        "blocked_wheel",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("blocked_at", _TIME, nullable=False),
        sa.Column("why", _WHY, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_blocked_wheel"),
    )
    op.create_table(
        "flag",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_flag"),
    )


def _counters() -> None:
    """What is ready is counted by target from now on."""
    op.execute(
        "INSERT INTO counter (name, value) SELECT 'jobs.ready.' || target_id, COUNT(*) FROM job"
        " WHERE state = 'ready' GROUP BY target_id"
    )


def _room_for_updates() -> None:
    """Rows that change all the time: room on their page, and vacuum before a tenth of the table is dead."""
    op.execute("ALTER TABLE job SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.01)")
    op.execute("ALTER TABLE counter SET (fillfactor = 20, autovacuum_vacuum_threshold = 1000)")
