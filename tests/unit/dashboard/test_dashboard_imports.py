# SPDX-License-Identifier: BSD-3-Clause
"""Textual is slow to import: nothing does but the command that shows the screen."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported(code):
    """The packages that a new interpreter has imported after some code."""
    told = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        "import piwheels_node.cli.main as m, click; m.group.get_help(click.Context(m.group))",
        "import piwheels_node.cli.status, piwheels_node.cli.build, piwheels_node.cli.standalone",
        (
            "import piwheels_node.dashboard.actions, piwheels_node.dashboard.builders, "
            "piwheels_node.dashboard.polling, piwheels_node.dashboard.look"
        ),
    ],
)
def test_only_the_screen_imports_textual(code):
    assert "textual" not in imported(code)
