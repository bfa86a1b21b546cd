# SPDX-License-Identifier: BSD-3-Clause
"""What this computer is: its model, its system, and a fingerprint that a copied SD card does not take along.

The fingerprint is made of the system's own number (`/etc/machine-id`), which a copied card has too, and of
one that is in the hardware: a Pi's serial number, else the address of the first network card inside. Both are
for everybody to read, so it is the same for root and for a service account; the number in a PC's firmware
(DMI) is root's alone, and so of no use. Numbers leave the machine as a hash only.
"""

from __future__ import annotations

import hashlib
import platform
import socket
from pathlib import Path

from piwheels_node.core.messages import Machine

_MOST = 200
_PERMANENT = "0"
_ZERO = "00:00:00:00:00:00"


def this_machine(root: Path = Path("/")) -> Machine:
    """What the master is told of this computer; `root` is where its files are."""
    memory = _line(root / "proc/meminfo", "MemTotal:")
    cores = [path for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*") if path.is_dir()]
    return Machine(
        fingerprint=fingerprint(root),
        model=_model(root),
        os=_short((_line(root / "etc/os-release", "PRETTY_NAME=") or "").strip('"')),
        kernel=_short(platform.release()),
        cores=len(cores) or None,
        memory_bytes=int(memory.split()[0]) * 1024 if memory else None,
    )


def fingerprint(root: Path = Path("/")) -> str:
    """64 hex digits that tell this machine from any other."""
    numbers = [_text(root / "etc/machine-id"), _hardware(root)]
    if not any(numbers):
        numbers.append(socket.gethostname())  # a bare container has neither
    return hashlib.sha256("\0".join(["piwheels-node", *numbers]).encode()).hexdigest()


def _hardware(root: Path) -> str:
    """A number that stays with the hardware; empty where there is none."""
    return _text(root / "proc/device-tree/serial-number") or _network_card(root)


def _network_card(root: Path) -> str:
    """The permanent address of a network card; of one at USB, which may go elsewhere, only at last."""
    cards = []
    for card in sorted((root / "sys/class/net").glob("*")):
        device = card / "device"
        address = _text(card / "address")
        if device.exists() and _text(card / "addr_assign_type") == _PERMANENT and address not in {"", _ZERO}:
            cards.append(("/usb" in str(device.resolve()), card.name, address))
    return min(cards)[2] if cards else ""


def _model(root: Path) -> str | None:
    """`Raspberry Pi 4 Model B Rev 1.4`, or what a PC's maker calls it."""
    dmi = root / "sys/class/dmi/id"
    maker = f"{_text(dmi / 'sys_vendor')} {_text(dmi / 'product_name')}"
    return _short(_text(root / "proc/device-tree/model") or maker)


def _text(path: Path) -> str:
    """What a file says, without the NUL at the end of a device tree's; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0 \n\t")
    except OSError:
        return ""


def _line(path: Path, begin: str) -> str | None:
    """The rest of the line that begins so."""
    lines = (line for line in _text(path).splitlines() if line.startswith(begin))
    found = next(lines, None)
    return None if found is None else found.removeprefix(begin).strip()


def _short(text: str) -> str | None:
    return text.strip()[:_MOST] or None
