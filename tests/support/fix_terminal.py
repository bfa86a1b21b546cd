# SPDX-License-Identifier: BSD-3-Clause
"""A real terminal: a window in tmux, in which a test types and whose lines it reads."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from fix_command import clean_environ, until


class Terminal:
    """A tmux server of the test's own, with one window of 80 columns and 24 lines."""

    def __init__(self, directory, environ):
        self.directory = directory
        self.tmux = ["tmux", "-f", "/dev/null", "-S", str(directory / "tmux")]
        self.environ = environ
        self("new-session", "-d", "-x", "80", "-y", "24", "sh")

    def __call__(self, *words):
        return subprocess.run(
            [*self.tmux, *words], env=self.environ, check=True, capture_output=True, text=True, timeout=20
        ).stdout

    def type(self, words):
        line = f"clear; {shlex.join(words)}; echo code $?"
        (self.directory / "line").write_text(line)
        self("send-keys", f". {self.directory / 'line'}", "Enter")

    def lines(self, *, colours=False):
        """What the window shows, with `-J` for lines that were broken at its edge."""
        return self("capture-pane", "-p", *(["-e"] if colours else [])).rstrip("\n").split("\n")

    def until(self, text):
        return until(lambda: (found := self.lines()) and any(text in one for one in found) and found, text)


@pytest.fixture
def terminal(tmp_path):
    if not shutil.which("tmux"):
        pytest.skip("needs tmux")
    opened = []

    def start(**environ):
        opened.append(Terminal(tmp_path, clean_environ(TERM="xterm-256color", **environ)))
        return opened[-1]

    yield start
    for one in opened:
        one("kill-server")
