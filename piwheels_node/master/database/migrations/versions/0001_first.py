# SPDX-License-Identifier: BSD-3-Clause
"""The first tables: releases, builders, jobs, wheels."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_WORD = sa.String(32)


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    _releases()
    _builders()
    _jobs()
    _builds()
    _wheels()


def _releases() -> None:
    op.create_table(
        "project",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
        sa.UniqueConstraint("name", name="uq_project_name"),
    )
    op.create_table(
        "release",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_release_project_id_project"),
        sa.PrimaryKeyConstraint("id", name="pk_release"),
        sa.UniqueConstraint("project_id", "version", name="uq_release_project_id_version"),
    )
    op.create_table(
        "pypi_file",
        sa.Column("id", _ID, nullable=False),
        sa.Column("release_id", _ID, nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("url", sa.String(length=1000), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("requires_python", sa.String(length=500), nullable=True),
        sa.Column("yanked", sa.String(length=500), nullable=True),
        sa.Column("uploaded_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"], name="fk_pypi_file_release_id_release"),
        sa.PrimaryKeyConstraint("id", name="pk_pypi_file"),
        sa.UniqueConstraint("release_id", "filename", name="uq_pypi_file_release_id_filename"),
    )


def _builders() -> None:
    op.create_table(
        "builder",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=True),
        sa.Column("health", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_builder"),
        sa.UniqueConstraint("name", name="uq_builder_name"),
    )
    op.create_table(
        "target",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_target"),
        sa.UniqueConstraint("name", name="uq_target_name"),
    )
    op.create_table(
        "builder_target",
        sa.Column("builder_id", _ID, nullable=False),
        sa.Column("target_id", _ID, nullable=False),
        sa.Column("environment_id", sa.String(length=64), nullable=False),
        sa.Column("offered_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name="fk_builder_target_builder_id_builder"),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_builder_target_target_id_target"),
        sa.PrimaryKeyConstraint("builder_id", "target_id", name="pk_builder_target"),
    )
    op.create_table(
        "token",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("builder_id", _ID, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name="fk_token_builder_id_builder"),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
        sa.UniqueConstraint("sha256", name="uq_token_sha256"),
    )


def _jobs() -> None:
    op.create_table(
        "counter",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
    )
    op.create_table(
        "job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("release_id", _ID, nullable=False),
        sa.Column("target_id", _ID, nullable=False),
        sa.Column("sdist_id", _ID, nullable=False),
        sa.Column("state", _WORD, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("not_before_at", _TIME, nullable=False),
        sa.Column("blocked_on_id", _ID, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("step", _WORD, nullable=True),
        sa.Column("lease_token", sa.String(length=64), nullable=True),
        sa.Column("lease_until_at", _TIME, nullable=True),
        sa.Column("leased_at", _TIME, nullable=True),
        sa.Column("builder_id", _ID, nullable=True),
        sa.ForeignKeyConstraint(["blocked_on_id"], ["job.id"], name="fk_job_blocked_on_id_job"),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name="fk_job_builder_id_builder"),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"], name="fk_job_release_id_release"),
        sa.ForeignKeyConstraint(["sdist_id"], ["pypi_file.id"], name="fk_job_sdist_id_pypi_file"),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_job_target_id_target"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.UniqueConstraint("release_id", "target_id", name="uq_job_release_id_target_id"),
    )
    op.create_index(
        "ix_job_ready",
        "job",
        ["target_id", sa.text("priority DESC"), "id"],
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_index(
        "ix_job_leased",
        "job",
        ["lease_until_at"],
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )


def _builds() -> None:
    op.create_table(
        "build",
        sa.Column("id", _ID, nullable=False),
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("builder_id", _ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("cpu_s", sa.Double(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("outcome", _WORD, nullable=False),
        sa.Column("reason", _WORD, nullable=True),
        sa.Column("captured", sa.String(length=500), nullable=True),
        sa.Column("debian_package", sa.String(length=200), nullable=True),
        sa.Column("evidence", sa.String(length=1000), nullable=True),
        sa.Column("evidence_line", sa.Integer(), nullable=True),
        sa.Column("environment_id", sa.String(length=64), nullable=True),
        sa.Column("environment", sa.JSON(), nullable=True),
        sa.Column("steps", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name="fk_build_builder_id_builder"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_build_job_id_job"),
        sa.PrimaryKeyConstraint("id", name="pk_build"),
    )
    op.create_index("ix_build_job_id", "build", ["job_id"])
    op.create_table(
        "event",
        sa.Column("id", _ID, nullable=False),
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_event_job_id_job"),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_job_id", "event", ["job_id"])


def _wheels() -> None:
    op.create_table(
        "wheel",
        sa.Column("id", _ID, nullable=False),
        sa.Column("build_id", _ID, nullable=False),
        sa.Column("release_id", _ID, nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("metadata_sha256", sa.String(length=64), nullable=False),
        sa.Column("requires_python", sa.String(length=500), nullable=True),
        sa.Column("published_at", _TIME, nullable=False),
        sa.Column("withdrawn_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["build_id"], ["build.id"], name="fk_wheel_build_id_build"),
        sa.ForeignKeyConstraint(["release_id"], ["release.id"], name="fk_wheel_release_id_release"),
        sa.PrimaryKeyConstraint("id", name="pk_wheel"),
        sa.UniqueConstraint("build_id", name="uq_wheel_build_id"),
        sa.UniqueConstraint("filename", name="uq_wheel_filename"),
    )
    op.create_index("ix_wheel_release_id", "wheel", ["release_id"])
    op.create_table(
        "wheel_library",
        sa.Column("wheel_id", _ID, nullable=False),
        sa.Column("soname", sa.String(length=200), nullable=False),
        sa.Column("debian_package", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["wheel_id"], ["wheel.id"], name="fk_wheel_library_wheel_id_wheel"),
        sa.PrimaryKeyConstraint("wheel_id", "soname", name="pk_wheel_library"),
    )
