# SPDX-License-Identifier: BSD-3-Clause
"""Which index this machine's pip is meant to use.

Where a person has named none it is what was enabled before (`switch`), else that of the master that was
joined, else the public index of the piwheels project. This module imports only the consumer's own.
"""

from __future__ import annotations

from pathlib import Path

from piwheels_node.consumer import pip_config, pip_files, switch

PUBLIC_INDEX = "https://www.piwheels.org/simple/"
"""Where nobody has named another one: it was there first, and Raspberry Pi OS asks it too."""


def enabled_index(root: Path) -> str | None:
    """The index that was enabled here, by the command or by the package's installation; None: none was.

    Raises StorageError where that cannot be told.
    """
    urls = [change.url for change in switch.noted(root)]
    if urls:
        return urls[0]
    try:
        content = (root / pip_files.PACKAGE_FILE.relative_to("/")).read_bytes()
    except OSError:
        return None
    if not pip_config.is_own_file(content):
        return None
    return pip_files.parse(content)[pip_files.GLOBAL_SECTION, pip_files.EXTRA]
