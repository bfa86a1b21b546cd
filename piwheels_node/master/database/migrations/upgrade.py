# SPDX-License-Identifier: BSD-3-Clause
"""Runs migrations on an open connection. Imported only where a database is not up to date."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from piwheels_node.core.errors import StorageError

HERE = Path(__file__).parent


def config_for(connection: Connection) -> Config:
    """Alembic's configuration for a connection; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def to_head(connection: Connection, where: str) -> None:
    """Bring the tables to the newest revision, inside the connection's transaction.

    Raises StorageError where the database has a revision that this program does not know: its data may
    be laid out as nobody here can tell, so nothing is touched.
    """
    config = config_for(connection)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        raise StorageError(
            "the database was made by a newer piwheels-node than this one",
            where=where,
            hint=f"upgrade piwheels-node; this one knows revisions up to {max(known)}",
        ) from error
