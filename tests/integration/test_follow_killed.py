# SPDX-License-Identifier: BSD-3-Clause
"""A follower that is killed again and again ends where a first reading does.

`benchmarks/follow.py` is the same with many more events.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from follow import compare


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_follower_that_is_killed_loses_and_repeats_nothing(request, tmp_path, engine, capsys):
    if engine == "sqlite":
        urls = f"sqlite:///{tmp_path}/followed.db", f"sqlite:///{tmp_path}/scratch.db"
    else:
        new_postgres = request.getfixturevalue("new_postgres")
        urls = new_postgres(), new_postgres()
    code = compare(600, 3, 100, 1, *urls)

    assert code == 0, capsys.readouterr().out
