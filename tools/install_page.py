# SPDX-License-Identifier: BSD-3-Clause
"""Put the outputs of a run into docs/install.md: python3 tools/install_page.py OUTPUT PAGE.

OUTPUT has blocks that begin with `@@ NAME`; each replaces what stands below `<!-- output: NAME -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main(output: Path, page: Path) -> None:
    """Write the page anew; a block that the page has no place for, or the run did not make, is an error."""
    blocks = dict(re.findall(r"^@@ (\w+)\n(.*?)(?=^@@ |\Z)", output.read_text(), re.DOTALL | re.MULTILINE))
    text = page.read_text()
    places = re.findall(r"<!-- output: (\w+) -->", text)
    if set(places) != set(blocks):
        sys.exit(f"the page has places for {places}, the run made {list(blocks)}")
    for name, lines in blocks.items():
        block = f"<!-- output: {name} -->\n\n{lines.rstrip()}\n"
        old = re.search(rf"<!-- output: {name} -->\n(?:\n(?=    )|    .*\n)*", text)
        text = text.replace(old[0], block) if old else text
    page.write_text(text)


main(Path(sys.argv[1]), Path(sys.argv[2]))
