# SPDX-License-Identifier: BSD-3-Clause
"""For developers: write the next migration from the difference between models and migrations."""

from __future__ import annotations

import sys

from alembic import command
from sqlalchemy import create_engine

from piwheels_node.master.database.migrations import HEAD, upgrade


def main(message: str) -> None:
    """Make `versions/NNNN_message.py`."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        upgrade.to_head(connection, "memory")
    with engine.connect() as connection:
        revision = f"{int(HEAD) + 1:04}"
        config = upgrade.config_for(connection)
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        command.revision(config, message, autogenerate=True, rev_id=revision)
    engine.dispose()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
