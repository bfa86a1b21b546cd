# SPDX-License-Identifier: BSD-3-Clause
"""How the tables came to be: one module in `versions/` for each change, forward only.

`Database.open` runs what is missing. To make the next one: change `models`, then

    python -m piwheels_node.master.database.migrations "what changes"

read what it wrote, and set `HEAD` to its revision. A test compares the result with the models.
A migration never imports the models: they change, it does not. This package imports nothing.
"""

HEAD = "0008"
"""The newest revision; kept here so that a database that is up to date needs no Alembic."""
