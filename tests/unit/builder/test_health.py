# SPDX-License-Identifier: BSD-3-Clause
"""What is read of a machine: trees of files as a Raspberry Pi, a PC and a container have them."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from piwheels_node import __version__
from piwheels_node.builder.machine.health import slots
from piwheels_node.sensors import Sensors

MEMINFO = "MemTotal:        3884360 kB\nMemFree:          100000 kB\nMemAvailable:    2000000 kB\n"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
ALARM = "sys/class/hwmon/hwmon1/in0_lcrit_alarm"
ZONE = "sys/class/thermal/thermal_zone0"

A_PI = {
    "proc/meminfo": MEMINFO,
    "proc/loadavg": "1.25 0.90 0.50 2/345 6789\n",
    "proc/pressure/memory": "some avg10=12.50 avg60=1.00 avg300=0.10 total=1\nfull avg10=3.00 avg60=0.00\n",
    "proc/pressure/io": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
    "proc/pressure/cpu": "some avg10=99.10 avg60=0.00 avg300=0.00 total=1\n",
    f"{ZONE}/type": "cpu-thermal\n",
    f"{ZONE}/temp": "61322\n",
    "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "sys/class/hwmon/hwmon0/temp1_input": "61322\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    ALARM: "0\n",
    FIRMWARE: "0\n",
}


@pytest.fixture
def machine(tmp_path):
    """Makes sensors of a machine with these files."""

    def make(files):
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Sensors(tmp_path, tmp_path / "root")

    return make


def test_a_pi_tells_everything(machine):
    before = datetime.now(UTC)
    health = machine(A_PI).health(paused_itself="heat")

    assert health.load_1m == 1.25
    assert health.memory_available_bytes == 2000000 * 1024
    pressures = (health.memory_pressure_percent, health.io_pressure_percent, health.cpu_pressure_percent)
    assert pressures == (12.5, 0.0, 99.1)
    assert health.temperature_c == 61.322
    assert (health.undervoltage, health.throttled) == (False, False)
    assert health.disk_free_bytes > 0
    assert health.paused_itself == "heat"
    assert before <= health.at <= datetime.now(UTC)


def test_what_a_machine_does_not_tell_is_unknown(machine):
    health = machine({"proc/meminfo": "nonsense"}).health()

    known = health.model_dump(exclude={"at", "disk_free_bytes", "versions"}, exclude_none=True)
    assert known == {}


def test_a_directory_that_is_gone_has_no_known_disk(tmp_path):
    assert Sensors(tmp_path / "gone", tmp_path).health().disk_free_bytes is None


@pytest.mark.parametrize(
    ("alarm", "bits", "undervoltage", "throttled"),
    [
        ("0", "0", False, False),
        ("1", "0", True, False),  # it was undervoltage a moment ago: the kernel asks every 2 s
        ("1", "50005", True, True),
        ("0", "0x1", True, False),
        ("0", "2", False, True),
        ("0", "4", False, True),
        ("0", "8", False, True),
        ("0", "e0000", False, False),  # it has happened since the machine was started
        ("1", "nonsense", True, None),
        (None, "1", True, False),
        (None, "80008", False, True),
        ("1", None, True, None),
        ("0", None, False, None),
        (None, None, None, None),
    ],
)
def test_power_and_throttling_have_two_sources(machine, alarm, bits, undervoltage, throttled):
    tree = {**A_PI, ALARM: alarm, FIRMWARE: bits}
    health = machine({name: text for name, text in tree.items() if text is not None}).health()

    assert (health.undervoltage, health.throttled) == (undervoltage, throttled)


def test_a_cool_pi_with_good_power_is_not_asked_whether_it_is_throttled(machine):
    """Reading that file leaves a warning with a stack in the kernel's log."""
    health = machine({**A_PI, FIRMWARE: "4", f"{ZONE}/temp": "45000"}).health()

    assert health.throttled is False


@pytest.mark.parametrize("directory", ["soc", "soc@107c000000"])
def test_the_firmware_is_found_where_other_kernels_have_it(machine, directory):
    files = {name: text for name, text in A_PI.items() if name != FIRMWARE}
    files[f"sys/devices/platform/{directory}/{directory}:firmware/get_throttled"] = "4\n"

    assert machine(files).health().throttled is True


@pytest.mark.parametrize(
    ("files", "temperature_c"),
    [
        ({"thermal/thermal_zone0": ("cpu-thermal", "temp", 50000)}, 50.0),
        (
            {
                "thermal/thermal_zone0": ("bigcore0-thermal", "temp", 70100),
                "thermal/thermal_zone1": ("cpu1-thermal", "temp", 71500),
                "thermal/thermal_zone2": ("wifi", "temp", 90000),
            },
            71.5,
        ),
        ({"thermal/thermal_zone0": ("cpu-thermal", "temp", -274000)}, None),  # asleep, or broken
        ({"thermal/thermal_zone0": ("iwlwifi", "temp", 40000)}, None),
        ({"hwmon/hwmon3": ("coretemp", "temp2_input", 66000)}, 66.0),
        (
            {
                "hwmon/hwmon3": ("k10temp", "temp1_input", 48250),
                "hwmon/hwmon4": ("nvme", "temp1_input", 80000),
                "thermal/thermal_zone0": ("acpitz", "temp", 16800),
            },
            48.25,
        ),
    ],
)
def test_the_temperature_is_the_hottest_of_the_processor(machine, files, temperature_c):
    tree = {}
    for directory, (kind, name, value) in files.items():
        label = "type" if directory.startswith("thermal") else "name"
        tree[f"sys/class/{directory}/{label}"] = f"{kind}\n"
        tree[f"sys/class/{directory}/{name}"] = f"{value}\n"

    assert machine(tree).health().temperature_c == temperature_c


def test_every_machine_has_a_slot():
    assert slots() >= 1


def test_this_machine_can_be_read(tmp_path):
    health = Sensors(tmp_path).health()

    assert health.load_1m is not None
    assert health.memory_available_bytes > 0
    assert health.versions["piwheels-node"] == __version__
    assert health.versions["kernel"] == os.uname().release
