# SPDX-License-Identifier: BSD-3-Clause
"""Which roles this machine has, as far as whoever asks can see: the files of each tell.

This module imports only `core` and the consumer's own.
"""

from __future__ import annotations

from pathlib import Path

from piwheels_node.consumer import pip_files
from piwheels_node.consumer.index import PUBLIC_INDEX, enabled_index
from piwheels_node.core.errors import StorageError
from piwheels_node.core.places import CERTIFICATE, ENDPOINT, MEMBERSHIP, OPERATOR_KEY


def roles_of(data: Path, root: Path = Path("/")) -> frozenset[str]:
    """Those of consumer, builder and master that a machine has; what is for others' eyes counts as there."""
    roles = set()
    if _is_consumer(root):
        roles.add("consumer")
    if _there(data / MEMBERSHIP / "master.json"):
        roles.add("builder")
    if any(_there(data / place) for place in (CERTIFICATE, ENDPOINT, OPERATOR_KEY)):
        roles.add("master")
    return frozenset(roles)


def _is_consumer(root: Path) -> bool:
    try:
        if enabled_index(root):
            return True
    except StorageError:
        return True
    return pip_files.look_at_system(root).uses(PUBLIC_INDEX)


def _there(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return path.parent.is_dir()
    except OSError:
        return False
    return True
