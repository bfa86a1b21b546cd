# SPDX-License-Identifier: BSD-3-Clause
"""The doctor's checks of files, by tables, on machines made of a few files."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from piwheels_node.consumer import checks, doctor
from piwheels_node.consumer.checks import Finding, Patient, Severity
from piwheels_node.consumer.pip_files import Surroundings
from piwheels_node.consumer.roles import roles_of

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
URL = "https://index.test/simple/"
PIP = f"[global]\nextra-index-url = {URL}\n"
OK, NOTE, WARNING, PROBLEM = Severity
CONSUMER, BUILDER = frozenset({"consumer"}), frozenset({"consumer", "builder"})
USERNS = "proc/sys/kernel/unprivileged_userns_clone"
CONTROLLERS = "sys/fs/cgroup/cgroup.controllers"
CARD = "sys/block/mmcblk0/device"
WORN = {f"{CARD}/life_time": "0x0a 0x01\n"}
SWAP = "Filename\tType\n/var/swap file 100 0 -2\n"


@pytest.fixture
def patient(tmp_path):
    """A machine of these files."""

    def patient(files, roles=CONSUMER, now=NOW, **environ):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Patient(URL, now, Path("/"), roles, Surroundings(tmp_path, Path("/home/pi"), environ))

    return patient


@pytest.mark.parametrize(
    ("check", "files", "roles", "severity", "where"),
    [
        (checks.release, {"etc/os-release": 'ID=debian\nVERSION_ID="13"\n'}, CONSUMER, OK, None),
        (checks.release, {"etc/os-release": 'ID=raspbian\nVERSION_ID="14"\n'}, CONSUMER, OK, None),
        (
            checks.release,
            {"etc/os-release": 'ID=debian\nVERSION_ID="12"\n'},
            CONSUMER,
            NOTE,
            "/etc/os-release",
        ),
        (
            checks.release,
            {"etc/os-release": 'ID=fedora\nVERSION_ID="41"\n'},
            CONSUMER,
            NOTE,
            "/etc/os-release",
        ),
        (checks.release, {"etc/os-release": "ID=debian\n"}, CONSUMER, NOTE, "/etc/os-release"),
        (checks.namespaces, {}, BUILDER, OK, None),
        (checks.namespaces, {USERNS: "1\n"}, BUILDER, OK, None),
        (checks.namespaces, {USERNS: "0\n"}, BUILDER, PROBLEM, f"/{USERNS}"),
        (checks.namespaces, {USERNS: "0\n"}, CONSUMER, NOTE, f"/{USERNS}"),
        (
            checks.namespaces,
            {"proc/sys/user/max_user_namespaces": "0"},
            BUILDER,
            PROBLEM,
            "/proc/sys/user/max_user_namespaces",
        ),
        (checks.memory_controller, {CONTROLLERS: "cpuset cpu io memory pids\n"}, BUILDER, OK, None),
        (
            checks.memory_controller,
            {CONTROLLERS: "cpuset cpu io pids\n"},
            CONSUMER,
            NOTE,
            "the kernel's command line",
        ),
        (
            checks.memory_controller,
            {CONTROLLERS: "cpu\n", "boot/firmware/cmdline.txt": "quiet\n"},
            BUILDER,
            WARNING,
            "/boot/firmware/cmdline.txt",
        ),
        (
            checks.memory_controller,
            {CONTROLLERS: "cpu\n", "boot/cmdline.txt": "quiet\n"},
            BUILDER,
            WARNING,
            "/boot/cmdline.txt",
        ),
        (checks.memory_controller, {"proc/cgroups": "memory\t5\t120\t1\n"}, BUILDER, OK, None),
        (
            checks.memory_controller,
            {"proc/cgroups": "memory\t5\t120\t0\n"},
            BUILDER,
            WARNING,
            "the kernel's command line",
        ),
        (
            checks.disk,
            {"proc/mounts": "/dev/mmcblk0p2 / ext4 ro,noatime 0 0\n"},
            CONSUMER,
            PROBLEM,
            "/dev/mmcblk0p2",
        ),
        (checks.disk, {"proc/mounts": "overlay / overlay ro 0 0\n"}, CONSUMER, OK, "/"),
        (checks.card, {}, CONSUMER, OK, None),
        (
            checks.card,
            {f"{CARD}/life_time": "0x01 0x02\n", f"{CARD}/pre_eol_info": "0x01"},
            CONSUMER,
            OK,
            None,
        ),
        (checks.card, WORN, CONSUMER, WARNING, "/dev/mmcblk0"),
        (checks.card, {f"{CARD}/pre_eol_info": "0x03\n"}, CONSUMER, WARNING, "/dev/mmcblk0"),
        (checks.card, {"sys/fs/ext4/mmcblk0p2/errors_count": "2\n"}, CONSUMER, WARNING, "/dev/mmcblk0p2"),
        (checks.card, {"sys/fs/ext4/mmcblk0p2/errors_count": "0\n"}, CONSUMER, OK, None),
        (checks.card, {"proc/swaps": SWAP}, BUILDER, NOTE, "/var/swap"),
        (checks.card, {"proc/swaps": SWAP}, CONSUMER, OK, None),
        (checks.power, {}, CONSUMER, OK, None),
        (
            checks.power,
            {"sys/class/hwmon/hwmon1/name": "rpi_volt", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1"},
            CONSUMER,
            WARNING,
            None,
        ),
        (
            checks.power,
            {
                "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
                "sys/class/thermal/thermal_zone0/temp": "84000",
            },
            CONSUMER,
            WARNING,
            None,
        ),
        (checks.pip, {"usr/bin/pip": "", "etc/pip.conf": PIP}, CONSUMER, OK, None),
        (checks.pip, {"etc/pip.conf": PIP}, CONSUMER, NOTE, None),
        (checks.pip, {"usr/bin/pip3": ""}, CONSUMER, WARNING, None),
        (checks.pip, {"usr/bin/pip3": ""}, frozenset(), WARNING, None),
        (checks.pip, {"usr/bin/pip3": ""}, frozenset({"builder"}), NOTE, None),
        (checks.pip, {"usr/bin/pip": "", "etc/pip.conf": "[global"}, CONSUMER, PROBLEM, "/etc/pip.conf"),
        (checks.uv, {}, CONSUMER, NOTE, None),
        (checks.uv, {"etc/uv/uv.toml": "x ="}, CONSUMER, PROBLEM, "/etc/uv/uv.toml"),
        (
            checks.uv,
            {"etc/uv/uv.toml": f'[[index]]\nurl = "{URL}"'},
            CONSUMER,
            WARNING,
            "/etc/uv/uv.toml",
        ),
    ],
)
def test_what_is_so_is_found_with_its_severity_and_place(patient, check, files, roles, severity, *, where):
    found = list(check(patient(files, roles)))
    worst = max(found, key=lambda one: one.severity)

    assert worst.severity is severity
    assert worst.where == where
    assert worst.what
    assert bool(worst.hint) == (severity > OK)


@pytest.mark.parametrize(
    ("now", "files", "severity"),
    [
        (NOW, {}, OK),
        (datetime(1970, 1, 1, tzinfo=UTC), {}, PROBLEM),
        (NOW, {"run/systemd/timesync/x": ""}, WARNING),
        (NOW, {"run/systemd/timesync/synchronized": ""}, OK),
    ],
)
def test_a_clock_that_cannot_be_right_is_found(patient, now, files, severity):
    (found,) = checks.clock(patient(files, now=now))

    assert found.severity is severity


@pytest.mark.parametrize(("apart", "count"), [(timedelta(seconds=20), 0), (timedelta(hours=-2), 1)])
def test_a_clock_that_differs_from_the_indexs_is_found(patient, apart, count):
    assert len(list(checks.skew(patient({}), NOW + apart))) == count


def test_a_users_own_file_that_hides_the_index_is_named(patient):
    hiding = {
        "usr/bin/pip": "",
        "etc/pip.conf": PIP,
        "home/pi/.pip/pip.conf": "[global]\nextra-index-url = x\n",
    }
    (found,) = checks.pip(patient(hiding))

    assert found.where == "/home/pi/.pip/pip.conf"
    assert "sudo" not in found.hint


def test_the_way_to_turn_the_memory_controller_on_names_the_file_and_the_word(patient):
    (found,) = checks.memory_controller(patient({CONTROLLERS: "cpu", "boot/firmware/cmdline.txt": ""}))

    assert found.hint == (
        "put cgroup_enable=memory at the end of the one line in /boot/firmware/cmdline.txt, then reboot"
    )


@pytest.mark.parametrize(
    ("severities", "code"), [([], 0), ([OK, NOTE], 0), ([OK, WARNING, NOTE], 1), ([WARNING, PROBLEM], 3)]
)
def test_the_exit_code_is_that_of_the_worst(severities, code):
    assert doctor.exit_code([Finding("x", one, "so") for one in severities]) == code


def test_a_name_that_nobody_knows_is_found(patient):
    on = Patient("https://no-such-host.invalid/simple/", NOW)
    (found,) = doctor.index(on)

    assert (found.check, found.severity) == ("name", PROBLEM)


@pytest.mark.parametrize(
    ("files", "roles"),
    [
        ({}, set()),
        ({"etc/pip.conf": "[global]\nextra-index-url=https://www.piwheels.org/simple\n"}, {"consumer"}),
        ({"data/membership/master.json": "{}"}, {"builder"}),
        ({"data/membership/lock": ""}, set()),
        ({"data/certificate.pem": "", "data/membership/master.json": ""}, {"builder", "master"}),
    ],
)
def test_the_roles_of_a_machine_are_told_by_its_files(patient, tmp_path, files, roles):
    patient(files)

    assert roles_of(tmp_path / "data", tmp_path) == roles


def test_every_check_is_in_the_page_of_the_consumer():
    root = Path(__file__).resolve().parents[3]
    sources = "".join(Path(module.__file__).read_text() for module in (checks, doctor))
    table = (root / "docs" / "consumer.md").read_text().split("| check |")[1]

    named = set(re.findall(r"Finding\(\s*\"([a-z-]+)\"", sources))
    assert len(named) > 10
    assert (
        set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| (`[^|]+)\|", table, re.MULTILINE)))) == named
    )
