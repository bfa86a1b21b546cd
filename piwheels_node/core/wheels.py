# SPDX-License-Identifier: BSD-3-Clause
"""Wheel file names (PEP 427, PEP 425).

This module imports only the standard library and `packaging`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from piwheels_node.core.errors import WheelError
from piwheels_node.core.failure import FailureReason

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+!-]{0,250}\.whl")  # 255 bytes are what a file system takes


_ABI = re.compile(r"none|abi3|cp3\d{1,2}t?", re.ASCII)
_PLATFORM = re.compile(r"any|linux_(armv[678]l|aarch64|x86_64|i686)", re.ASCII)
_MOST_KINDS = 3
OTHER = "other"
"""What tags are called in statistics that no wheel of ours is expected to have."""


@dataclass(frozen=True)
class WheelName:
    """A wheel's file name, taken apart. `build` is `()` or the build tag: `(1, '')`."""

    filename: str
    project: str
    version: Version
    build: tuple[()] | tuple[int, str]
    tags: frozenset[Tag]

    @classmethod
    def parse(cls, filename: str) -> WheelName:
        """Take a file name apart; raises WheelError.

        What is taken is safe as the last part of a path or URL; packaging alone would take `tiny-1-1/../x`.
        """
        if not _PLAIN.fullmatch(filename):
            raise WheelError(
                FailureReason.WHEEL_INVALID, "it is not the file name of a wheel", where=filename[:300]
            )
        try:
            project, version, build, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename as error:
            raise WheelError(FailureReason.WHEEL_INVALID, str(error), where=filename) from error
        return cls(filename, project, version, build, tags)

    @property
    def is_pure(self) -> bool:
        """True where the wheel fits every platform."""
        return any(tag.platform == "any" for tag in self.tags)

    @property
    def abi(self) -> str:
        """For statistics: the ABI tag, as in `cp311`, `abi3` or `none`; of several `cp311.cp312`."""
        return _kinds({tag.abi for tag in self.tags}, _ABI)

    @property
    def platform(self) -> str:
        """For statistics: the platform tag, as in `any` or `linux_armv6l.linux_armv7l`."""
        return _kinds({tag.platform for tag in self.tags}, _PLATFORM)

    def with_build(self, number: int) -> str:
        """The file name of the same wheel with another build tag (PEP 427: it must begin with a digit)."""
        stem = self.filename.removesuffix(".whl").split("-")
        return "-".join([*stem[:2], str(number), *stem[-3:]]) + ".whl"


def free_filename(filename: str, taken: frozenset[str]) -> str:
    """The name under which a wheel may be published: its own, or with the first build tag that is free.

    A file name that was once published keeps its bytes for ever, and a name that PyPI uses is PyPI's.
    """
    name = WheelName.parse(filename)
    number = (name.build[0] if name.build else 0) + 1
    while filename in taken:
        filename = name.with_build(number)
        number += 1
    return filename


def same_project(one: str, other: str) -> bool:
    """True where two spellings name the same project (PEP 503)."""
    return canonicalize_name(one) == canonicalize_name(other)


def _kinds(tags: set[str], known: re.Pattern[str]) -> str:
    """A word for some tags; of few different ones, whatever strangers call their wheels."""
    kinds = sorted({tag if known.fullmatch(tag) else OTHER for tag in tags})
    return ".".join(kinds) if len(kinds) <= _MOST_KINDS else OTHER
