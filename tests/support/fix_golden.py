# SPDX-License-Identifier: BSD-3-Clause
"""Screens as texts, kept in `tests/golden`: `golden(name, text)` compares, `--golden-again` writes them anew.

Look at each one that changes: a golden is what a person sees.
"""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def pytest_addoption(parser):
    parser.addoption("--golden-again", action="store_true", help="write tests/golden anew")


@pytest.fixture
def golden(request):
    """Compare a text with the one that is kept under a name, or in a file."""

    def compare(name, text):
        path = name if isinstance(name, Path) else GOLDEN / f"{name}.txt"
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--golden-again"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"{path} is not there: look at it after pytest --golden-again"
        assert text == path.read_text()

    return compare
