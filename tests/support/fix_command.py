# SPDX-License-Identifier: BSD-3-Clause
"""The command as a person runs it: a process of its own, on a data directory of the test's, before the
home-made PyPI.

    command.standalone("little")            run to the end; gives code, out, err
    with command.start("standalone", ...)   start it; then `.until("little 1.0: build")`, `.end(SIGINT)`

Nothing of the settings and of pip's variables of whoever runs the tests gets through.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import piwheels_node

_DEADLINE_S = 90
_PROGRAM = (sys.executable, "-m", "piwheels_node.cli")


_OURS = {
    "PIWHEELS_NODE_SETTINGS": os.devnull,
    "PIWHEELS_NODE_BUILDER_LAYERS": "false",  # no test asks the mirror of this machine
}


def clean_environ(**more):
    """The environment without what changes our command or pip."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PIWHEELS_NODE_", "PIP_", "PYTEST_")) and key not in {"NO_COLOR", "COLUMNS"}
    }
    return {**kept, **_OURS, "TERM": "dumb", **more}


def processes():
    """All processes: number -> (parent, start time); a number with its start time is never used twice."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] not in "ZX":
            found[int(path.parent.name)] = int(fields[1]), int(fields[19])
    return found


def descendants(root):
    """Processes that came from `root`, itself not among them, as (number, start time)."""
    there = processes()
    found, front = set(), {root}
    while front:
        front = {pid for pid, (parent, _) in there.items() if parent in front} - found
        found |= front
    return {(pid, there[pid][1]) for pid in found}


def still_there(wanted, within_s=20.0):
    """Those of `wanted` that live on; the kernel may need a moment to end them."""
    deadline = time.monotonic() + within_s
    while True:
        there = {(pid, started) for pid, (_, started) in processes().items()}
        left = wanted & there
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def until(holds, what, within_s=_DEADLINE_S):
    """Wait until `holds()`; gives what it gave."""
    deadline = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)
    return value


@dataclass
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str
    took_s: float = 0.0

    @property
    def results(self):
        """What `--json` printed."""
        return json.loads(self.out)

    def one(self):
        """The one result of `--json`."""
        (result,) = self.results
        return result


class Running:
    """A command that has been started."""

    def __init__(self, words, directory, environ, **popen):
        self.family = set()
        self.paths = [directory / f"{name}-{time.monotonic_ns()}" for name in ("out", "err")]
        with self.paths[0].open("wb") as out, self.paths[1].open("wb") as err:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environ,
                cwd=directory,
                start_new_session=True,
                **popen,
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.family |= descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid, _ in self.family & {(pid, started) for pid, (_, started) in processes().items()}:
            os.kill(pid, signal.SIGKILL)

    @property
    def out(self):
        return self.paths[0].read_text(errors="replace")

    @property
    def err(self):
        return self.paths[1].read_text(errors="replace")

    def until(self, text):
        """Wait until standard error has the text."""
        self.until_true(lambda: text in self.err, repr(text))

    def until_true(self, holds, what):
        """Wait until `holds()`, while the command lives."""

        def found():
            if holds():
                return True
            assert self.process.poll() is None, f"it ended before {what}: {self.err}{self.out}"
            return False

        until(found, f"{what}: {self.err}")

    def descendants(self):
        found = descendants(self.process.pid)
        self.family |= found
        return found

    def end(self, number=None):
        """Send a signal where one is named, and wait for the end."""
        started = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(_DEADLINE_S)
        return Ended(code, self.out, self.err, time.monotonic() - started)


class Command:
    """Starts commands on one data directory."""

    def __init__(self, directory, pypi, program=_PROGRAM, **popen):
        self.directory = directory
        self.program = program
        self.popen = popen
        self.data = directory / "farm"
        self.pypi = pypi

    def words(self, name, *words, data=None):
        """The command line, as a list."""
        words = [*self.program, name, "--data", str(data or self.data), *words]
        if name == "standalone":
            words += ["--set", f"pypi.index_url={self.pypi.index_url}", "--set", "pypi.max_age_s=0"]
        return words

    def start(self, name, *words, data=None, environ=None, before=(), **popen):
        """Start a command; `before` are words in front of it: another program that starts it."""
        whole = [*before, *self.words(name, *words, data=data)]
        return Running(whole, self.directory, environ or clean_environ(), **{**self.popen, **popen})

    def run(self, name, *words, **more):
        """Run a command to its end."""
        with self.start(name, *words, **more) as running:
            return running.end()

    def standalone(self, *words, **more):
        """Run `standalone` to its end."""
        return self.run("standalone", *words, **more)

    def rows(self, query):
        """What the database says, read without the program."""
        connection = sqlite3.connect(f"file:{self.data}/database.sqlite?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def wheels(self):
        """All files below wheels/, whole or partial."""
        return sorted(path.name for path in (self.data / "wheels").rglob("*") if path.is_file())

    def builds(self):
        """What is left of builds."""
        builder = self.data / "builder"
        memory = builder / "memory"
        rooms = list(Path(memory.read_text()).iterdir()) if memory.exists() else []
        return rooms + list((builder / "builds").iterdir())


@pytest.fixture
def command(open_tmp_path, pypi):
    """Commands on a data directory that package code's account can reach."""
    return Command(open_tmp_path, pypi)


@pytest.fixture
def made(tmp_path):
    """A place for sdists."""
    place = tmp_path / "made"
    place.mkdir()
    return place


@pytest.fixture
def ordinary(open_tmp_path, pypi):
    """Commands as an ordinary user: `nobody` where the tests run as root."""
    if os.geteuid() != 0:
        return Command(open_tmp_path, pypi)
    place = open_tmp_path / "ordinary"
    place.mkdir()
    shutil.chown(place, "nobody")
    return Command(place, pypi, program_for_all(), user="nobody", group="nogroup", extra_groups=[])


def program_for_all():
    """The command by a Python that every user can run: the tests' own, or Debian's with the same packages."""
    packages = Path(click.__file__).parent.parent
    repository = Path(piwheels_node.__file__).parent.parent
    debian = Path("/usr/bin/python3")
    for path in (packages, repository):
        if not _all_may_reach(path):
            pytest.skip(f"an ordinary user cannot reach {path}")
    if _all_may_reach(Path(sys.executable).resolve()):
        return _PROGRAM
    if f"python3.{sys.version_info[1]}" != debian.resolve().name:
        pytest.skip(f"an ordinary user cannot reach {sys.executable}, and {debian} is another version")
    return ("env", f"PYTHONPATH={repository}:{packages}", "HOME=/nonexistent", str(debian), *_PROGRAM[1:])


def _all_may_reach(path):
    return all(one.stat().st_mode & 0o001 for one in (path, *path.parents))
