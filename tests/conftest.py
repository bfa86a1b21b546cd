# SPDX-License-Identifier: BSD-3-Clause
"""What all tests share: fixtures by subject, each in a plugin of its own in `tests/support`."""

import signal

pytest_plugins = [
    "fix_apt",
    "fix_builder",
    "fix_builds",
    "fix_changes",
    "fix_command",
    "fix_dashboard",
    "fix_database",
    "fix_farm",
    "fix_golden",
    "fix_master",
    "fix_network",
    "fix_postgres",
    "fix_pty",
    "fix_follow",
    "fix_pypi",
    "fix_siege",
    "fix_terminal",
]


def pytest_configure():
    """What is started in the background of a script ignores Ctrl-C, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
