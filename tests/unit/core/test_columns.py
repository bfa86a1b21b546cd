# SPDX-License-Identifier: BSD-3-Clause
"""Rows of builders, as they go over the wire and come back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import BuilderColumns, BuilderRow, JobInHand

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
JOB = JobInHand(
    job_id=7,
    project="lxml",
    version="7.0",
    target="cp313-linux_armv7l-debian13",
    step=Step.BUILD,
    leased_at=NOW,
)


def there_and_back(rows):
    return BuilderColumns.model_validate_json(BuilderColumns.of(rows).model_dump_json()).rows()


def test_rows_come_back_as_they_were():
    rows = [
        BuilderRow("pi-1", BuilderState.ACTIVE, jobs=[JOB], targets=["cp313-linux_armv7l-debian13"]),
        BuilderRow("pi-2", BuilderState.PENDING, Mode.PAUSE, targets=[], jobs=[], is_up=True, load_1m=0.5),
        BuilderRow("pi-3", BuilderState.LEFT, targets=[], jobs=[], last_seen_at=NOW, throttled=False),
    ]

    assert there_and_back(rows) == rows


def test_no_builders_are_no_rows():
    assert there_and_back([]) == []


def test_a_column_that_says_nothing_special_is_not_sent():
    said = BuilderColumns.of([BuilderRow("pi-1", BuilderState.ACTIVE, built=3)])

    assert said.model_dump(exclude_defaults=True).keys() == {"name", "state", "built"}
    assert said.rows() == [BuilderRow("pi-1", BuilderState.ACTIVE, built=3)]


@pytest.mark.parametrize(
    "columns",
    [
        '{"name": ["a", "b"], "state": ["active"]}',
        '{"name": ["a"]}',
        '{"state": ["active"]}',
        '{"name": ["a"], "state": ["active"], "built": [1, 2]}',
    ],
)
def test_columns_that_do_not_fit_together_are_refused(columns):
    with pytest.raises(ValidationError):
        BuilderColumns.model_validate_json(columns)
