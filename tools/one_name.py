# SPDX-License-Identifier: BSD-3-Clause
"""Part of `make lint`: no two files of the tests have one name, in whatever directories they are.

Tests and what they share are imported by the names of their files alone. Of two files with one name pytest
takes the first for both, and collects nothing, or somebody imports the wrong one.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path


def complaints(paths: Iterable[Path]) -> Iterator[str]:
    """A line for each name that several files have."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_name[path.name].append(path)
    for name, same in sorted(by_name.items()):
        if len(same) > 1:
            yield f"{name} is the name of {len(same)} files: {', '.join(map(str, sorted(same)))}"


if __name__ == "__main__":
    found = list(complaints(Path("tests").rglob("*.py")))
    print("\n".join(found), end="\n" if found else "")
    sys.exit(bool(found))
