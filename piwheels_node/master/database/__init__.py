# SPDX-License-Identifier: BSD-3-Clause
"""The master's database: models, migrations, and the engine that all reads and writes go through."""
