# SPDX-License-Identifier: BSD-3-Clause
"""`make run`: real packages from source to `pip install`, in front of your eyes.

1. Build packages that people put on Pis and that have no wheel on PyPI, and one that lacks a Debian package.
2. Build two that PyPI has wheels of, because we are told to.
3. Serve the index, make a fresh virtual environment, and install them all from it with pip; import them.
4. Say how long each takes from source, and how long from the index.

Run again, it builds nothing and measures only what is quick: times from source are kept beside the farm.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

MISSING_ON_PYPI = {
    "RPi.GPIO": "RPi._GPIO",
    "spidev": "spidev",
    "rpi-ws281x": "_rpi_ws281x",
    "evdev": "evdev",
    "smbus": "smbus",
    "netifaces": "netifaces",
}
"""Projects with no wheel on PyPI for Linux, each with the module to import."""

FORCED = {"tabulate": "tabulate", "markupsafe": "markupsafe._speedups"}
"""Projects that PyPI has wheels of: built here only because --force says so."""

WORTH_SEEING = "pycups"
"""Lacks the headers of CUPS where they are not installed, and comes back with the package that has them."""

ONLY_ON_A_PI = "yes, on a Pi only"

COMMAND = [sys.executable, "-m", "piwheels_node.cli"]
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable

console = Console(highlight=False)


def main() -> int:
    """Do all four parts; the exit code is 0 when everything that should work did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory of the farm")
    data = parser.parse_args().data.absolute()

    say("1. From source, in a sandbox: what PyPI has no wheel of")
    built = build(data, [*MISSING_ON_PYPI, WORTH_SEEING])
    say("2. With --force: what PyPI has wheels of")
    built |= build(data, ["--force", *FORCED])

    say("3. A fresh virtual environment, and pip")
    with serve(data) as url, tempfile.TemporaryDirectory(prefix="piwheels-node-") as directory:
        faults = install(data, url, Path(directory), built)
    say("Look around")
    command = ".venv/bin/piwheels-node"
    for what, how in (
        ("serve the index again", f"{command} standalone --data {data} --keep"),
        ("ask it for a package", f"{command} build --data {data} NAME"),
        ("what there is", f"ls -R {data}/wheels {data}/logs"),
        ("how it works", "docs/architecture.md"),
    ):
        console.print(f"  {what + ':':22} {how}", soft_wrap=True)
    for fault in faults:
        console.print(f"[red]{fault}[/red]")
    return 1 if faults else 0


def say(title: str) -> None:
    """A heading."""
    console.print(f"\n[bold]{title}[/bold]")


def build(data: Path, arguments: list[str]) -> dict[str, dict[str, object]]:
    """Run `standalone` as a user would, then ask again for the results as JSON: nothing is built twice."""
    command = [*COMMAND, "standalone", "--data", str(data), *arguments]
    code = subprocess.run(command, check=False).returncode
    if code not in {0, 3}:
        sys.exit(code)
    done = subprocess.run(
        [*command, "--json"], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return {str(one["project"]): one for one in json.loads(done.stdout)}


@contextlib.contextmanager
def serve(data: Path) -> Iterator[str]:
    """The index of the farm, for as long as the context lasts; gives its URL."""
    with subprocess.Popen(
        [*COMMAND, "standalone", "--data", str(data), "--keep"], stderr=subprocess.DEVNULL
    ) as process:
        endpoint = data / "endpoint.json"
        try:
            deadline = time.monotonic() + 30
            while not endpoint.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the index did not start: run it by hand to see why")
                time.sleep(0.05)
            yield json.loads(endpoint.read_text())["url"] + "/simple/"
        finally:
            process.terminate()


def install(data: Path, url: str, directory: Path, built: dict[str, dict[str, object]]) -> list[str]:
    """Install and import everything that was built, print the times, and give what went wrong."""
    pip = make_environment(directory / "venv")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("package", "from source", "from the index", "ratio", "import"):
        table.add_column(title, justify="left" if title in {"package", "import"} else "right")
    faults = []
    for name, module in {**MISSING_ON_PYPI, **FORCED}.items():
        result = built[name]
        if result["outcome"] != "built":
            faults.append(f"{name}: {result['outcome']} {result['reason']}")
            continue
        release = f"{name}=={result['version']}"
        option = "--index-url" if name in FORCED else "--extra-index-url"
        command = [
            *pip,
            "install",
            "--no-deps",
            "--no-cache-dir",
            "--only-binary",
            name,
            option,
            url,
            release,
        ]
        quick_s = timed(command)
        slow_s = from_source(data, pip, name, release, directory)
        imported = try_import(directory / "venv", module)
        if imported not in {"yes", ONLY_ON_A_PI}:
            faults.append(f"{name}: {imported}")
        table.add_row(release, f"{slow_s:.1f} s", f"{quick_s:.2f} s", f"{slow_s / quick_s:.0f}x", imported)
    console.print(table)
    console.print(
        f"By --extra-index-url; {' and '.join(FORCED)}, which PyPI has too, by --index-url:\n"
        "pip may prefer PyPI's file of the same version.",
    )
    return faults


def make_environment(path: Path) -> list[str]:
    """A fresh virtual environment of the system's Python; gives the command that runs its pip."""
    subprocess.run([PYTHON, "-m", "venv", str(path)], check=True)
    return [str(path / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]


def timed(command: list[str]) -> float:
    """Run a command that must succeed; seconds of wall time."""
    started = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return time.monotonic() - started


def from_source(data: Path, pip: list[str], name: str, release: str, directory: Path) -> float:
    """Seconds that pip takes for a release without any wheel of it; measured once, then remembered."""
    notes = data / "from-source.json"
    known = json.loads(notes.read_text()) if notes.exists() else {}
    if release not in known:
        target = directory / "from-source"
        source = [*pip, "install", "--no-deps", "--no-cache-dir", "--no-binary", name]
        known[release] = timed([*source, "--target", str(target), release])
        shutil.rmtree(target)
        notes.write_text(json.dumps(known))
    return float(known[release])


def try_import(environment: Path, module: str) -> str:
    """Import a module in the new environment; some load, and then refuse to work on anything but a Pi."""
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", f"import {module}"],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return "yes"
    last = done.stderr.strip().splitlines()[-1]
    return ONLY_ON_A_PI if "on a Raspberry Pi" in last else last


if __name__ == "__main__":
    sys.exit(main())
