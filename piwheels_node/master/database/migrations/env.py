# SPDX-License-Identifier: BSD-3-Clause
"""What Alembic runs for each command: our connection, our tables. Never imported by us."""

from alembic import context

from piwheels_node.master.database.models import Model

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Model.metadata,
    transactional_ddl=True,  # SQLite has it too, once the driver leaves transactions to us
    render_as_batch=True,  # SQLite alters a table by making it anew
)
with context.begin_transaction():
    context.run_migrations()
