# SPDX-License-Identifier: BSD-3-Clause
"""`pip wheel` and `uv build`, as everybody has them, for `build.py`: each with its own caches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


class Contenders:
    """Both tools, in one directory; sdists are fetched once, for uv, which cannot fetch them itself."""

    def __init__(self, work: Path, projects: Sequence[str]) -> None:
        self.work = work
        self.uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        subprocess.run([PYTHON, "-m", "venv", str(work / "venv")], check=True)
        self.python = str(work / "venv" / "bin" / "python")
        subprocess.run([self.python, "-m", "pip", "-q", "install", "--upgrade", "pip"], check=True)
        self.sdists = {name: self._fetch(name) for name in projects}

    @property
    def builders(self) -> dict[str, Callable[[str], float]]:
        """How each tool builds a project; gives seconds. uv is there where it is installed."""
        return {"pip": self.pip, **({"uv": self.build_by_uv} if self.uv else {})}

    def pip(self, name: str) -> float:
        """`pip wheel`; `forget` before it, or it takes the wheel that it has built before."""
        cache = self.work / "pip-cache"
        out = tempfile.mkdtemp(dir=self.work)
        command = [self.python, "-m", "pip", "-q", "wheel", "--cache-dir", str(cache), "--no-deps"]
        try:
            return timed([*command, "--no-binary", name, "-w", out, name])
        finally:
            shutil.rmtree(out)

    def build_by_uv(self, name: str) -> float:
        """`uv build` of an sdist that lies on the disk."""
        out = tempfile.mkdtemp(dir=self.work)
        cache = ("--cache-dir", str(self.work / "uv-cache"))
        command = [str(self.uv), "build", "-q", *cache, "--wheel", "--python", PYTHON]
        try:
            return timed([*command, "-o", out, str(self.sdists[name])])
        finally:
            shutil.rmtree(out)

    def forget(self, *, everything: bool) -> None:
        """Empty pip's cache of wheels, or all caches."""
        for cache in ("pip-cache", "uv-cache") if everything else ("pip-cache/wheels",):
            shutil.rmtree(self.work / cache, ignore_errors=True)

    def _fetch(self, name: str) -> Path:
        """The sdist: by pip, which runs the package's code to do it."""
        out = Path(tempfile.mkdtemp(dir=self.work))
        command = [self.python, "-m", "pip", "-q", "download", "--no-deps", "--no-binary", name]
        timed([*command, "-d", str(out), name])
        return next(out.iterdir())


def all_of(build: Callable[[str], float], projects: Sequence[str], slots: int) -> float:
    """Build them all, so many at a time; seconds of wall time."""
    started = time.monotonic()
    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(build, projects))
    return time.monotonic() - started


def timed(command: list[str]) -> float:
    """Run a command that must succeed; seconds of wall time."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return time.monotonic() - started
