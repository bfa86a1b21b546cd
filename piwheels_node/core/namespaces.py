# SPDX-License-Identifier: BSD-3-Clause
"""The one .pth file that a wheel may have: setuptools' own, for projects that share a namespace.

A .pth file runs at each start of Python, so that a wheel with any other is refused. Projects with
`namespace_packages` in their setup.py (luma.oled 2.2, many of zope and sphinxcontrib) get one that is known
word for word but for the names: `setuptools/namespaces.py` has it, and had a longer form for Python 2 before.
This module imports only the standard library.
"""

from __future__ import annotations

import re

MAX_BYTES = 64 << 10

_PACKAGE = re.compile(r"PathFinder\.find_spec\('([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)', ")
_NEW = (
    "import sys, types, os",
    "p = os.path.join(sys._getframe(1).f_locals['sitedir'], *{parts!r})",
    "importlib = __import__('importlib.util')",
    "__import__('importlib.machinery')",
    (
        "m = sys.modules.setdefault({package!r}, importlib.util.module_from_spec("
        "importlib.machinery.PathFinder.find_spec({package!r}, [os.path.dirname(p)])))"
    ),
    "m = m or sys.modules.setdefault({package!r}, types.ModuleType({package!r}))",
    "mp = (m or []) and m.__dict__.setdefault('__path__',[])",
    "(p not in mp) and mp.append(p)",
)
_OLD = (
    _NEW[0],
    "has_mfs = sys.version_info > (3, 5)",
    _NEW[1],
    "importlib = has_mfs and __import__('importlib.util')",
    "has_mfs and __import__('importlib.machinery')",
    "m = has_mfs and " + _NEW[4].removeprefix("m = "),
    *_NEW[5:],
)
_NESTED = "m and setattr(sys.modules[{parent!r}], {child!r}, m)"


def only_joins_namespaces(content: bytes) -> bool:
    """True for what setuptools writes into `*-nspkg.pth`, and nothing else."""
    try:
        lines = content.decode("ascii").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return False
    return all(_joins_a_namespace(line) for line in lines)


def _joins_a_namespace(line: str) -> bool:
    named = _PACKAGE.search(line)
    if named is None:
        return False
    package = named[1]
    parent, _, child = package.rpartition(".")
    names = {"package": package, "parts": tuple(package.split(".")), "parent": parent, "child": child}
    last = (_NESTED,) if parent else ()
    return any(line == ";".join((*form, *last)).format(**names) for form in (_OLD, _NEW))
