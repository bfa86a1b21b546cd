# SPDX-License-Identifier: BSD-3-Clause
"""A home-made PyPI for the services of the package: quick builds, slow never ends, hog takes all memory.

python3 pypi.py DIR     writes its index-url to DIR/index-url, and serves until it is ended
"""

from __future__ import annotations

import signal
import sys
import types
from pathlib import Path

# The fixtures want pytest; what is used here does not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
sys.modules.setdefault("pytest", types.SimpleNamespace(fixture=lambda function: function))  # type: ignore[arg-type]

from fix_pypi import HomeMadePyPI  # noqa: E402
from sdists import c_extension, make_sdist  # noqa: E402


def main(place: Path) -> None:
    """Serve."""
    place.mkdir(exist_ok=True)
    pypi = HomeMadePyPI()
    pypi.add(make_sdist(place, "quick", "1.0", c_source=c_extension("_quick")), project="quick")
    pypi.add(make_sdist(place, "slow", "1.0", setup="import time; time.sleep(600)"), project="slow")
    hog = "held = []\nwhile True: held.append(bytearray(1 << 20))"
    pypi.add(make_sdist(place, "hog", "1.0", setup=hog), project="hog")
    (place / "index-url").write_text(pypi.index_url)
    signal.sigwait({signal.SIGTERM})
    pypi.close()


main(Path(sys.argv[1]))
