# SPDX-License-Identifier: BSD-3-Clause
"""Twenty releases of PyPI that are awkward, and what is true of each on two small computers.

Releases as old as these get no files any more, so the truth about them stays. `files` are those that decide,
by the names that PyPI has; the others are for machines that these targets are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OLD = "cp311-linux_armv6l-debian12"
NEW = "cp313-linux_armv7l-debian13"

_ARM = "manylinux_2_17_armv7l.manylinux2014_armv7l"


@dataclass(frozen=True)
class Awkward:
    """A release: what is to be said of it for `OLD` and for `NEW`, and its files; `more` is true of all."""

    project: str
    version: str
    old: str
    new: str
    files: tuple[str, ...]
    more: dict[str, object] = field(default_factory=dict)

    def page(self) -> list[dict[str, object]]:
        """The files as PEP 691 lists them."""
        sha = {"hashes": {"sha256": "0" * 64}}
        return [{"filename": name, "url": f"/{name}", **sha, **self.more} for name in self.files]


def _needs(python: str) -> dict[str, object]:
    return {"requires-python": python}


AWKWARD = (
    Awkward(  # wheels for many machines, and none for these
        "numpy",
        "1.26.4",
        *("build: from numpy-1.26.4.tar.gz",) * 2,
        ("numpy-1.26.4.tar.gz", "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"),
    ),
    Awkward(  # one wheel for all, tagged for two Pythons
        "six",
        "1.16.0",
        *("covered: PyPI has six-1.16.0-py2.py3-none-any.whl",) * 2,
        ("six-1.16.0.tar.gz", "six-1.16.0-py2.py3-none-any.whl"),
    ),
    Awkward(  # names with dots, kept from before PEP 625; wheels of piwheels' kind for old Pythons only
        "RPi.GPIO",
        "0.7.1",
        *("build: from RPi.GPIO-0.7.1.tar.gz",) * 2,
        ("RPi.GPIO-0.7.1.tar.gz", "RPi.GPIO-0.7.1-cp39-cp39-linux_armv6l.whl"),
    ),
    Awkward(  # wheels for armv7l serve one of the two
        "pydantic_core",
        "2.27.0",
        "build: from pydantic_core-2.27.0.tar.gz",
        f"covered: PyPI has pydantic_core-2.27.0-cp313-cp313-{_ARM}.whl",
        (
            "pydantic_core-2.27.0.tar.gz",
            f"pydantic_core-2.27.0-cp313-cp313-{_ARM}.whl",
            f"pydantic_core-2.27.0-cp311-cp311-{_ARM}.whl",
        ),
        _needs(">=3.8"),
    ),
    Awkward(  # armv7l of musl is no armv7l of Debian
        "orjson",
        "3.10.0",
        *("build: from orjson-3.10.0.tar.gz",) * 2,
        ("orjson-3.10.0.tar.gz", "orjson-3.10.0-cp311-cp311-musllinux_1_2_aarch64.whl"),
        _needs(">=3.8"),
    ),
    Awkward(  # wheels only
        "tensorflow",
        "2.15.0",
        *("refused: no-sdist",) * 2,
        ("tensorflow-2.15.0-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",),
        _needs(">=3.9"),
    ),
    Awkward(  # for Windows only
        "pywin32",
        "306",
        *("refused: no-sdist",) * 2,
        ("pywin32-306-cp311-cp311-win_amd64.whl",),
    ),
    Awkward(  # Python 2 only
        "futures",
        "3.3.0",
        *("refused: requires-python: It wants Python >=2.6, <3;",) * 2,
        ("futures-3.3.0.tar.gz", "futures-3.3.0-py2-none-any.whl"),
        _needs(">=2.6, <3"),
    ),
    Awkward(  # one Python only, which is none of these, though the wheel would fit
        "dataclasses",
        "0.8",
        *("refused: requires-python: It wants Python >=3.6, <3.7;",) * 2,
        ("dataclasses-0.8.tar.gz", "dataclasses-0.8-py3-none-any.whl"),
        _needs(">=3.6, <3.7"),
    ),
    Awkward(  # a range with holes
        "typing",
        "3.10.0.0",
        *("refused: requires-python",) * 2,
        ("typing-3.10.0.0.tar.gz", "typing-3.10.0.0-py3-none-any.whl"),
        _needs(">=2.7, !=3.0.*, !=3.1.*, !=3.2.*, !=3.3.*, <3.5"),
    ),
    Awkward(  # two pure wheels, of which one is for Python 2
        "enum34",
        "1.1.10",
        *("covered: PyPI has enum34-1.1.10-py3-none-any.whl",) * 2,
        ("enum34-1.1.10.tar.gz", "enum34-1.1.10-py2-none-any.whl", "enum34-1.1.10-py3-none-any.whl"),
    ),
    Awkward(  # an sdist alone: what it is like, the first build shows
        "bs4",
        "0.0.1",
        "build: from bs4-0.0.1.tar.gz",
        "waits: first it is built for cp311-linux_armv6l-debian12",
        ("bs4-0.0.1.tar.gz",),
    ),
    Awkward(  # a version that is a year and a letter: PEP 440 reads 2004b0
        "pytz",
        "2004b",
        "build: from pytz-2004b.tar.gz",
        "waits: first it is built for cp311-linux_armv6l-debian12",
        ("pytz-2004b.tar.gz",),
    ),
    Awkward(  # a zip
        "distribute",
        "0.7.3",
        "build: from distribute-0.7.3.zip",
        "waits: first it is built for cp311-linux_armv6l-debian12",
        ("distribute-0.7.3.zip",),
    ),
    Awkward(  # yanked, and its wheel is there for who names the version
        "attrs",
        "21.1.0",
        *("covered: PyPI has attrs-21.1.0-py2.py3-none-any.whl",) * 2,
        ("attrs-21.1.0.tar.gz", "attrs-21.1.0-py2.py3-none-any.whl"),
        {"yanked": "Installable but not importable on Python 3.4.", **_needs(">=2.7, !=3.0.*")},
    ),
    Awkward(  # a pre-release
        "black",
        "23.1a1",
        *("covered: PyPI has black-23.1a1-py3-none-any.whl",) * 2,
        ("black-23.1a1.tar.gz", "black-23.1a1-py3-none-any.whl"),
        _needs(">=3.7"),
    ),
    Awkward(  # compiled, and a pure wheel beside
        "protobuf",
        "4.25.1",
        *("covered: PyPI has protobuf-4.25.1-py3-none-any.whl",) * 2,
        ("protobuf-4.25.1.tar.gz", "protobuf-4.25.1-cp37-abi3-win32.whl", "protobuf-4.25.1-py3-none-any.whl"),
        _needs(">=3.8"),
    ),
    Awkward(  # abi3 for other machines: one build serves later Pythons of a platform, and these are two
        "polars",
        "1.0.0",
        *("build: from polars-1.0.0.tar.gz",) * 2,
        ("polars-1.0.0.tar.gz", "polars-1.0.0-cp38-abi3-win_amd64.whl"),
        _needs(">=3.8"),
    ),
    Awkward(  # a namespace: dots in the file's name, dashes in the project's
        "zope-interface",
        "5.4.0",
        *("build: from zope.interface-5.4.0.tar.gz",) * 2,
        ("zope.interface-5.4.0.tar.gz", "zope.interface-5.4.0-cp39-cp39-win32.whl"),
    ),
    Awkward(  # four numbers
        "lgpio",
        "0.0.0.2",
        *("covered: PyPI has lgpio-0.0.0.2-py3-none-any.whl",) * 2,
        ("lgpio-0.0.0.2.tar.gz", "lgpio-0.0.0.2-py3-none-any.whl"),
    ),
)
