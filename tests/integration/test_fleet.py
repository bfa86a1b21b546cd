# SPDX-License-Identifier: BSD-3-Clause
"""A small fleet with faults closes its account on both engines; an account that should not close does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FLEET = Path(__file__).parents[2] / "benchmarks" / "fleet.py"
SMALL = ["--builders", "20", "--jobs", "100", "--lease", "2", "--scale", "0.002", "--timeout", "40", "--json"]


def run_fleet(*words):
    """The figures of a run."""
    done = subprocess.run(
        [sys.executable, str(FLEET), *SMALL, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout, done.stderr
    results = json.loads(done.stdout)
    assert done.returncode == (0 if results["closes"] else 1)
    return results


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_fleet_with_faults_loses_nothing_and_doubles_nothing(engine):
    results = run_fleet("--engine", engine, "--faults", "3", "--seed", "11")

    assert results["complaints"] == [], results["examples"]
    assert results["closes"]
    assert sum(results["account"][state] for state in ("built", "failed")) >= 90
    assert {"killed", "silent", "report_unanswered", "upload_cut"} <= results["faults"].keys()


def test_three_masters_of_which_one_is_killed_now_and_then_lose_nothing():
    results = run_fleet(
        "--engine", "postgresql", "--masters", "3", "--faults", "1", "--jobs", "300", "--seed", "12"
    )

    assert results["complaints"] == [], results["examples"]
    assert results["masters_killed"] >= 1
