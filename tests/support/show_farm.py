# SPDX-License-Identifier: BSD-3-Clause
"""The dashboard on the terminal that this is started in, with a farm in memory: `show_farm.py BUILDERS`.

With 0 it is the farm in which every name is hostile. It asks again seldom, so that a test sees only what it
caused.
"""

from __future__ import annotations

import os
import sys

from made_farms import farm_of, hostile_farm

from piwheels_node.dashboard.app import Dashboard
from piwheels_node.dashboard.look import is_console


def main() -> None:
    """Show it."""
    builders = int(sys.argv[1])
    farm = farm_of(builders) if builders else hostile_farm()
    console = is_console(os.environ.get("TERM", ""))
    sys.exit(Dashboard(farm, console=console, interval_s=3600, now=lambda: farm.now).run())


if __name__ == "__main__":
    main()
