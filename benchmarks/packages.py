# SPDX-License-Identifier: BSD-3-Clause
"""What the benchmarks build: projects whose sdists need nothing but a C compiler, at most.

`QUICK_...` are for what takes a while per package, the whole lists for what does not.
"""

from __future__ import annotations

QUICK_PURE = (
    *("six", "tabulate", "idna", "colorama", "click", "packaging", "attrs", "tomlkit", "pyparsing"),
    "requests",
)
QUICK_C = ("spidev", "RPi.GPIO", "netifaces", "smbus")

PURE = (
    *QUICK_PURE,
    *("flask", "rich", "pygments", "python-dateutil", "gpiozero", "urllib3", "jinja2", "hatchling", "pytz"),
    "more-itertools",
)
C = (*QUICK_C, "markupsafe", "msgpack", "psutil", "wrapt", "simplejson", "bitarray")
