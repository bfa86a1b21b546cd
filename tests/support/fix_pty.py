# SPDX-License-Identifier: BSD-3-Clause
"""A program on a terminal of its own, of which a test holds the other end: what it sends, what ends it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from fix_command import clean_environ

PATIENCE_S = 60.0


class Pty:
    """A program on a terminal; `sent` is all that it wrote so far."""

    def __init__(self, words, *, size=(80, 24), ignore_hangup=False, **environ):
        self.sent = b""
        self.end, theirs = os.openpty()
        self._size(*size)

        def begin():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if ignore_hangup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self.process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=clean_environ(**environ),
            start_new_session=True,
            preexec_fn=begin,  # noqa: PLW1509 - nothing else runs in the test's process then
        )
        os.close(theirs)

    def _size(self, columns, lines):
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns, lines):
        """The window is another one."""
        self._size(columns, lines)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def type(self, keys):
        """Keys, as bytes."""
        os.write(self.end, keys)

    def until(self, text, since=0):
        """Read until it has sent a text after the first `since` bytes."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.sent[since:]:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come; the end of what came: {self.sent[-3000:]!r}"
            self.read(min(left, 1.0))
        return self.sent

    def read(self, wait_s):
        """Read what is there, or comes within a time."""
        if select.select([self.end], [], [], wait_s)[0]:
            with contextlib.suppress(OSError):  # the program's end is closed
                self.sent += os.read(self.end, 1 << 16)

    def hang_up(self):
        """The terminal is gone."""
        os.close(self.end)
        self.end = -1

    def ended(self):
        """Wait for its end; gives the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            if self.end >= 0:
                self.read(0.1)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.1)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.end >= 0:
            os.close(self.end)


@pytest.fixture
def on_pty():
    """Start a program on a terminal: `on_pty(words, size=(80, 24), ignore_hangup=False, TERM="xterm")`."""
    opened = []

    def start(words, **more):
        opened.append(Pty(words, **more))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
