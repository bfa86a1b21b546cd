# SPDX-License-Identifier: BSD-3-Clause
"""How often our index was asked for a project; what changed on PyPI last is found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    op.add_column("pypi_project", sa.Column("asks", sa.Double(), server_default="0", nullable=False))
    op.add_column("pypi_project", sa.Column("asks_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_pypi_note_serial", "pypi_note", ["serial", "name"])
