# SPDX-License-Identifier: BSD-3-Clause
"""What each job is like, decided by the seed alone: how long it takes, whether it fails, what comes of it.

Lengths are those of the real farm in rough: 95 % 2 s, 4 % a minute, 1 % an hour, all times `scale`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import random
import zipfile
from dataclasses import dataclass

from piwheels_node.core.failure import FailureReason

TARGETS = ("cp311-linux_armv7l-debian12", "cp313-linux_armv7l-debian13", "cp313-linux_aarch64-debian13")
_LENGTHS_S = ((0.95, 2.0), (0.99, 60.0), (1.0, 3600.0))
_REASONS = (
    FailureReason.MISSING_HEADER,
    FailureReason.MISSING_HEADER,
    FailureReason.COMPILER_ERROR,
    FailureReason.COMPILER_ERROR,
    FailureReason.NEEDS_NETWORK,
    FailureReason.FETCH_FAILED,
    FailureReason.OUT_OF_MEMORY,
    FailureReason.UNKNOWN,
)
_LARGE_SHARE = 0.04
_LARGE_BYTES = 600_000
_BOTH_SHARE = 0.03


@dataclass(frozen=True)
class World:
    """All that is to be built. Job number N is of project `fleet-N/4`, version `N%4`."""

    seed: int
    jobs: int
    scale: float
    failures: float = 0.1

    def release(self, number: int) -> tuple[str, str]:
        """The project and version of a release."""
        return f"fleet-{number // 4:05d}", f"1.{number % 4}"

    def any_job(self, chance: random.Random) -> int:
        """The number of some job."""
        return chance.randint(1, self.jobs)

    def targets_of(self, number: int) -> tuple[str, ...]:
        """Which targets a release is built for: one, or two for a few, whose wheels then have one name."""
        first = number % len(TARGETS)
        both = random.Random(f"{self.seed}/both/{number}").random() < _BOTH_SHARE
        return (TARGETS[first], TARGETS[(first + 1) % len(TARGETS)]) if both else (TARGETS[first],)

    def nature(self, project: str, version: str) -> Nature:
        """What building a release is like, on whatever builder."""
        chance = random.Random(f"{self.seed}/{project}/{version}")
        drawn = chance.random()
        length_s = next(length for most, length in _LENGTHS_S if drawn < most) * self.scale
        reason = chance.choice(_REASONS) if chance.random() < self.failures else None
        padding = _LARGE_BYTES if chance.random() < _LARGE_SHARE else chance.randrange(100, 4000)
        return Nature(length_s * chance.uniform(0.5, 1.5), reason, padding)


@dataclass(frozen=True)
class Nature:
    """How long a build takes, why it fails if it does, and how much is in the wheel."""

    length_s: float
    reason: FailureReason | None
    padding_bytes: int


def wheel_filename(project: str, version: str) -> str:
    """The name that a wheel of the release has if it is free."""
    return f"{project.replace('-', '_')}-{version}-py3-none-any.whl"


def make_wheel(project: str, version: str, maker: str, padding_bytes: int) -> bytes:
    """A small valid wheel; `maker` is written into it, so that no two attempts give the same bytes."""
    module = project.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    noise = random.Random(maker).randbytes(padding_bytes)
    content = {
        f"{module}/__init__.py": f"MAKER = {maker!r}\n".encode(),
        f"{module}/data": noise,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: fleet\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items()]
    content[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for path, data in content.items():
            one = zipfile.ZipInfo(path)
            one.create_system = 3
            one.external_attr = 0o100644 << 16
            archive.writestr(one, data)
    return made.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
