# SPDX-License-Identifier: BSD-3-Clause
"""How a rule "this project needs these Debian packages" stands, and what Debian's names look like.

This module imports only the standard library.
"""

from __future__ import annotations

import re
from enum import Enum

_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,98}[a-z0-9+]")


class FixState(Enum):
    """How far a rule has come."""

    PROPOSED = "proposed"
    "A build missed something that the package has; nobody has tried it."

    TRYING = "trying"
    "Builds of the project get the packages; none of them has succeeded yet."

    WORKS = "works"
    "A build with the packages succeeded, so all builds of the project get them from the start."

    FAILED = "failed"
    "With the packages the build missed the very same thing; they are not tried for it again."

    OFF = "off"
    "A person does not want it; it is neither used nor proposed again."

    @property
    def is_used(self) -> bool:
        """True where builds of the project get the packages."""
        return self in _USED


_USED = frozenset({FixState.TRYING, FixState.WORKS})


def is_debian_name(text: str) -> bool:
    """True for what Debian policy 5.6.7 allows as the name of a package; 100 characters at most.

    None that ends with a `-`: apt would take the package away. There is none.

    >>> is_debian_name("libstdc++6"), is_debian_name("-o"), is_debian_name("a b")
    (True, False, False)
    """
    return _DEBIAN_NAME.fullmatch(text) is not None
