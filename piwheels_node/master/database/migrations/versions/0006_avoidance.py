# SPDX-License-Identifier: BSD-3-Clause
"""When a builder may have again what it avoids is found by an index."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    op.create_index("ix_job_avoidance_builder_id_until_at", "job_avoidance", ["builder_id", "until_at"])
