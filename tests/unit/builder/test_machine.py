# SPDX-License-Identifier: BSD-3-Clause
"""What a machine tells of itself, from trees of files like those of real ones."""

from __future__ import annotations

import re

import pytest

from piwheels_node.builder.machine.identity import fingerprint, this_machine


class Tree:
    """A machine as its files."""

    def __init__(self, root):
        self.root = root

    def file(self, path, content):
        there = self.root / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(content)
        return self

    def card(self, name, address, *, assigned="0", at="pci0000:00"):
        """A network card; `at` is the bus that it is at, None for one that is no device."""
        self.file(f"sys/class/net/{name}/address", f"{address}\n")
        self.file(f"sys/class/net/{name}/addr_assign_type", f"{assigned}\n")
        if at:
            device = self.root / "sys/devices" / at / name
            device.mkdir(parents=True)
            (self.root / "sys/class/net" / name / "device").symlink_to(device)
        return self


@pytest.fixture
def tree(tmp_path):
    made = iter(range(100))

    def make():
        return Tree(tmp_path / str(next(made)))

    return make


def pi(tree, serial="10000000abcdef01", machine_id="c0ffee" * 5):
    return (
        tree()
        .file("etc/machine-id", f"{machine_id}\n")
        .file("etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
        .file("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        .file("proc/device-tree/serial-number", f"{serial}\0")
        .file("proc/meminfo", "MemTotal:        3884340 kB\nMemFree: 1 kB\n")
        .file("sys/devices/system/cpu/cpu0/online", "1")
        .file("sys/devices/system/cpu/cpu1/online", "1")
        .file("sys/devices/system/cpu/cpufreq/policy0", "")
        .root
    )


def test_a_pi_tells_its_model_system_cores_and_memory(tree):
    machine = this_machine(pi(tree))

    assert machine.model == "Raspberry Pi 4 Model B Rev 1.4"
    assert machine.os == "Debian GNU/Linux 13 (trixie)"
    assert (machine.cores, machine.memory_bytes) == (2, 3884340 * 1024)
    assert machine.kernel


def test_a_copied_card_in_another_pi_is_another_machine(tree):
    assert fingerprint(pi(tree, serial="1")) != fingerprint(pi(tree, serial="2"))


def test_another_system_on_the_same_pi_is_another_machine(tree):
    assert fingerprint(pi(tree, machine_id="a")) != fingerprint(pi(tree, machine_id="b"))


def test_the_same_machine_is_the_same_each_time_and_its_numbers_stay_secret(tree):
    root = pi(tree)

    assert fingerprint(root) == fingerprint(root)
    assert re.fullmatch(r"[0-9a-f]{64}", fingerprint(root))
    assert "abcdef01" not in this_machine(root).model_dump_json()


def pc(tree, **cards):
    made = tree().file("etc/machine-id", "same\n").file("proc/meminfo", "")
    for name, card in cards.items():
        made.card(name, **card)
    return made.root


FIRST, SECOND = {"address": "52:54:00:00:00:01"}, {"address": "52:54:00:00:00:02"}


def test_a_pc_is_told_by_its_first_network_card(tree):
    assert fingerprint(pc(tree, eth0=FIRST)) != fingerprint(pc(tree, eth0=SECOND))
    assert fingerprint(pc(tree, eth0=FIRST)) == fingerprint(pc(tree, eth0=FIRST, eth1=SECOND))


def test_cards_that_come_and_go_make_no_other_machine_of_it(tree):
    alone = fingerprint(pc(tree, eth0=FIRST))

    for card in (
        SECOND | {"assigned": "3"},  # set by somebody
        SECOND | {"assigned": "1"},  # drawn at random
        SECOND | {"at": None},  # a bridge, or what containers have
        SECOND | {"at": "pci0000:00/usb1/1-1"},
        {"address": "00:00:00:00:00:00"},
    ):
        assert fingerprint(pc(tree, aaa0=card, eth0=FIRST)) == alone


def test_a_card_at_usb_is_better_than_none(tree):
    usb = {"at": "pci0000:00/usb1/1-1"}

    assert fingerprint(pc(tree, eth0=FIRST | usb)) != fingerprint(pc(tree, eth0=SECOND | usb))


def test_a_machine_without_any_number_has_a_fingerprint_all_the_same(tree):
    machine = this_machine(tree().root)

    assert re.fullmatch(r"[0-9a-f]{64}", machine.fingerprint)
    assert (machine.model, machine.os, machine.cores, machine.memory_bytes) == (None, None, None, None)


def test_a_pc_tells_what_its_maker_calls_it_and_no_more_than_fits(tree):
    machine = this_machine(
        tree()
        .file("sys/class/dmi/id/sys_vendor", "ACME\n")
        .file("sys/class/dmi/id/product_name", "x" * 500)
        .root
    )

    assert machine.model.startswith("ACME xxx")
    assert len(machine.model) == 200


def test_this_very_machine_has_one_fingerprint():
    assert this_machine() == this_machine()
