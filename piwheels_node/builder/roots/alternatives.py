# SPDX-License-Identifier: BSD-3-Clause
"""Links that a package would have made by `update-alternatives` when it was installed: read, not run.

`libblas.so` of libopenblas-dev, `mpicc` of openmpi-bin and their like are in no package: its postinst names
them, and Debian's are so alike that they can be read as text. What is not plain words (variables, loops) is
passed over. The script is hostile input like the rest of a package.

    update-alternatives --install LINK NAME PATH PRIORITY --slave LINK NAME PATH ...

This module imports nothing of ours but what unpacks packages.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from piwheels_node.builder.roots.unpack import add_link

_SCRIPT_BYTES = 1 << 20
_MOST_LINKS = 1000
_PLAIN = re.compile(r"/usr/[\w.+/-]+")


def lay_alternatives(package: Path, tree: Path, directory: Path) -> None:
    """Make the links of a `.deb` below `directory`, to what it has in `tree`, where it is unpacked.

    Raises BuildError (layer-failed) where a link would be made elsewhere.
    """
    for link, path in list(alternatives(_postinst(package)).items())[:_MOST_LINKS]:
        if _is_there(tree, path):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
            add_link(directory, link, path)


def alternatives(script: str) -> dict[str, str]:
    """Which links a postinst would make, and to what; the first of a name counts."""
    found: dict[str, str] = {}
    for line in script.replace("\\\n", " ").splitlines():
        if "update-alternatives" not in line:
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quote that ends elsewhere
            continue
        for link, path in _pairs(words):
            if _PLAIN.fullmatch(link) and _PLAIN.fullmatch(path):
                found.setdefault(link, path)
    return found


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    for place, word in enumerate(words):
        if word in {"--install", "--slave"} and place + 3 < len(words):
            link, _, path = words[place + 1 : place + 4]
            yield link, path


def _postinst(package: Path) -> str:
    """The script; empty where there is none."""
    command = ["dpkg-deb", "--info", str(package), "postinst"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        said = process.stdout.read(_SCRIPT_BYTES)
        process.kill()
    return said.decode(errors="replace")


def _is_there(tree: Path, path: str) -> bool:
    """True for a file of the package; manuals, say, are not unpacked."""
    parts = path.strip("/").split("/")
    return ".." not in parts and os.path.lexists(tree.joinpath(*parts))
