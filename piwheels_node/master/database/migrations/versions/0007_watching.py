# SPDX-License-Identifier: BSD-3-Clause
"""What screens show: builds counted by hour and by builder, wheels by their tags; the newest failed builds.

Names of projects are searched by how they begin. What is there already is counted once, here, which takes
minutes where there are millions. A builder's builds are found by their numbers, no more by their times.
"""

import re
from collections import Counter

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BEGAN = {
    "sqlite": "replace(substr(started_at, 1, 13), ' ', 'T')",
    "postgresql": "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24')",
}
_BY_RESULT = (
    "sum(CASE WHEN reason IS NULL THEN 1 ELSE 0 END), sum(CASE WHEN reason IS NULL THEN 0 ELSE 1 END)"
)
_ABI = re.compile(r"none|abi3|cp3\d{1,2}t?", re.ASCII)
_PLATFORM = re.compile(r"any|linux_(armv[678]l|aarch64|x86_64|i686)", re.ASCII)


def upgrade() -> None:
    """Forward; there is no way back but a backup."""
    op.create_table(
        "hour_count",
        sa.Column("hour", sa.String(13), nullable=False),
        *_built_and_failed(),
        sa.PrimaryKeyConstraint("hour", name="pk_hour_count"),
    )
    op.create_table(
        "builder_count",
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("builder_id", _ID, nullable=False),
        *_built_and_failed(),
        sa.ForeignKeyConstraint(["builder_id"], ["builder.id"], name="fk_builder_count_builder_id_builder"),
        sa.PrimaryKeyConstraint("day", "builder_id", name="pk_builder_count"),
    )
    hour = _BEGAN[op.get_bind().dialect.name]
    op.execute(f"INSERT INTO hour_count SELECT {hour}, {_BY_RESULT} FROM build GROUP BY 1")  # noqa: S608 - our own words
    op.execute(
        f"INSERT INTO builder_count SELECT substr({hour}, 1, 10), builder_id, {_BY_RESULT}"  # noqa: S608 - our own words
        " FROM build GROUP BY 1, 2"
    )
    _count_wheels()
    op.drop_index("ix_build_builder_id", "build")
    op.create_index("ix_build_builder_id", "build", ["builder_id", "id"])
    failed = sa.text("reason IS NOT NULL")
    op.create_index("ix_build_failed", "build", ["id"], sqlite_where=failed, postgresql_where=failed)
    if op.get_bind().dialect.name == "postgresql":  # SQLite always compares bytes
        for table in ("project", "pypi_project"):
            op.create_index(f"ix_{table}_prefix", table, [sa.text('name COLLATE "C"')])


def _built_and_failed() -> tuple[sa.Column[int], sa.Column[int]]:
    return (
        sa.Column("built", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
    )


def _count_wheels() -> None:
    """Wheels in the index by what their names say."""
    counts: Counter[str] = Counter()
    connection = op.get_bind()
    names = sa.text("SELECT filename FROM wheel WHERE withdrawn_at IS NULL")
    for (filename,) in connection.execute(names, execution_options={"yield_per": 5000}):
        _, abi, platform = filename.removesuffix(".whl").rsplit("-", 2)
        counts[f"wheels.abi.{_kinds(abi, _ABI)}"] += 1
        counts[f"wheels.platform.{_kinds(platform, _PLATFORM)}"] += 1
    counter = sa.table("counter", sa.column("name"), sa.column("value"))
    if counts:
        connection.execute(
            sa.insert(counter), [{"name": name, "value": value} for name, value in counts.items()]
        )


def _kinds(tags: str, known: re.Pattern[str]) -> str:
    kinds = sorted({tag if known.fullmatch(tag) else "other" for tag in tags.split(".")})
    return ".".join(kinds) if len(kinds) <= 3 else "other"  # noqa: PLR2004 - as `core.wheels` has it
