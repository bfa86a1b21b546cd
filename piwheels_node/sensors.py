# SPDX-License-Identifier: BSD-3-Clause
"""How this machine is doing: memory, load, pressure, temperature, power, disk.

Everything is read from files of the kernel, which may all be missing: what cannot be told is None.

    /proc/meminfo, loadavg           memory that can be had, load
    /proc/pressure/*                 PSI; Raspberry Pi OS has it only where the kernel is started with psi=1
    /sys/class/thermal, hwmon        the hottest sensor of the processor
    /sys/class/hwmon (rpi_volt)      undervoltage of a Pi; the kernel asks the firmware every 2 s
    .../soc:firmware/get_throttled   whether the firmware slows a Pi down: bits 1 to 3; bit 0 is undervoltage

A builder draws conclusions from it (`builder.machine.conditions`), a consumer shows it. This module imports
only the standard library and `core`.
"""

from __future__ import annotations

import contextlib
import platform
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from piwheels_node import __version__
from piwheels_node.core.messages import Health

_PROCESSOR_ZONE = re.compile(r"cpu|soc|core|pkg|package", re.IGNORECASE)
_PROCESSOR_CHIPS = frozenset({"cpu_thermal", "soc_thermal", "coretemp", "k10temp", "zenpower"})
_PLAUSIBLE_C = (-40.0, 150.0)
"""A sensor that says anything else is broken, or asleep."""

_UNDERVOLTAGE_BIT = 1 << 0
_SLOWED_BITS = 0b1110  # frequency capped, throttled, soft limit of temperature: each as it is now
_NEVER_SLOWED_BELOW_C = 55.0
"""The firmware's lowest limit is 60 °C, on a Pi 3B+."""


class Sensors:
    """Reads the machine. `directory` is where builds take disk, `root` what /proc and /sys are below."""

    def __init__(self, directory: Path, root: Path = Path("/")) -> None:
        self.directory = directory
        self.root = root.absolute()

    def health(self, *, paused_itself: str | None = None) -> Health:
        """Everything, as it is now."""
        load = self._text("proc/loadavg")
        temperature_c = self._temperature_c()
        undervoltage, throttled = self._power(temperature_c)
        return Health(
            at=datetime.now(UTC),
            load_1m=_number(load.split()[0]) if load else None,
            memory_available_bytes=self.memory_bytes("MemAvailable"),
            memory_pressure_percent=self._pressure("memory"),
            io_pressure_percent=self._pressure("io"),
            cpu_pressure_percent=self._pressure("cpu"),
            disk_free_bytes=self._disk_free_bytes(),
            temperature_c=temperature_c,
            throttled=throttled,
            undervoltage=undervoltage,
            paused_itself=paused_itself,
            versions=_versions(),
        )

    def memory_bytes(self, name: str) -> int | None:
        """A line of /proc/meminfo."""
        found = re.search(rf"^{name}:\s+(\d+) kB$", self._text("proc/meminfo"), re.MULTILINE)
        return int(found[1]) * 1024 if found else None

    def _disk_free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self.directory).free
        except OSError:
            return None

    def _pressure(self, resource: str) -> float | None:
        found = re.search(r"^some avg10=([0-9.]+)", self._text(f"proc/pressure/{resource}"), re.MULTILINE)
        return _number(found[1]) if found else None

    def _temperature_c(self) -> float | None:
        """The hottest of the processor's thermal zones; without such, of its hwmon chips."""
        zones = [
            self._celsius(zone / "temp")
            for zone in self._all("sys/class/thermal/thermal_zone*")
            if _PROCESSOR_ZONE.search(self._text(zone / "type"))
        ]
        readings = [one for one in zones if one is not None]
        if not readings:
            chips = [
                self._celsius(sensor)
                for chip in self._all("sys/class/hwmon/hwmon*")
                if self._text(chip / "name") in _PROCESSOR_CHIPS
                for sensor in chip.glob("temp*_input")
            ]
            readings = [one for one in chips if one is not None]
        return max(readings, default=None)

    def _celsius(self, path: Path) -> float | None:
        value = _number(self._text(path))
        if value is None or not _PLAUSIBLE_C[0] <= value / 1000 <= _PLAUSIBLE_C[1]:
            return None
        return value / 1000

    def _power(self, temperature_c: float | None) -> tuple[bool | None, bool | None]:
        """Whether the power supply is too weak, and whether the firmware slows the processor down.

        Reading get_throttled leaves a warning with a stack in the kernel's log, once after each boot; so it
        is not read where there is another source, and nothing that it could tell about.
        """
        alarm = next(
            (
                self._text(chip / "in0_lcrit_alarm")
                for chip in self._all("sys/class/hwmon/hwmon*")
                if self._text(chip / "name") == "rpi_volt"
            ),
            "",
        )
        firmware = next(self._all("sys/devices/platform/soc*/*firmware/get_throttled"), None)
        if firmware is None:
            return (alarm != "0" if alarm else None), None
        if alarm == "0" and temperature_c is not None and temperature_c < _NEVER_SLOWED_BELOW_C:
            return False, False
        try:
            bits = int(self._text(firmware), 16)
        except ValueError:
            return (alarm != "0" if alarm else None), None
        return bool(bits & _UNDERVOLTAGE_BIT) or alarm == "1", bool(bits & _SLOWED_BITS)

    def _all(self, pattern: str) -> Iterator[Path]:
        return iter(sorted(self.root.glob(pattern)))

    def _text(self, path: Path | str) -> str:
        """A file's only content; empty where it cannot be read, as PSI that is switched off."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.root / path).read_text().strip()
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@cache
def _versions() -> dict[str, str]:
    kernel = platform.release()
    return {"piwheels-node": __version__, "python": platform.python_version(), "kernel": kernel[:100]}
