# SPDX-License-Identifier: BSD-3-Clause
"""What the files of a machine tell of its troubles: a small function for each thing, on any root directory.

Each gives what it found, be it that all is well; a finding says what is so, where, and what to try. Nothing
is changed, and nothing is asked of the network: what must be tried out is in `doctor`.
This module imports only the standard library, the consumer's own, `core` and our `sensors`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path

from piwheels_node.consumer import pip_files, uv_config
from piwheels_node.consumer.pip_files import Kind, Surroundings, same_index
from piwheels_node.core.builders import HOT_C
from piwheels_node.sensors import Sensors

_BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)
"""Nothing of this program is older: a clock that says less is wrong."""

_LITTLE_DISK_BYTES = 512 << 20
_NO_DISK_BYTES = 64 << 20
_OLDEST_DEBIAN = 13
_WORN = 9  # tenths of the life that the maker gave it (JEDEC 84-B51, EXT_CSD 268 and 269)
_URGENT = 3  # PRE_EOL_INFO of the same


class Severity(IntEnum):
    """How bad it is; people and scripts see the name."""

    OK = 0
    NOTE = 1
    WARNING = 2
    PROBLEM = 3


@dataclass(frozen=True)
class Finding:
    """What one check found: `check` is its name, `where` a file or a URL, `hint` what to try."""

    check: str
    severity: Severity
    what: str
    where: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class Patient:
    """The machine that is looked at; `roles` are those of consumer, builder and master that it has."""

    url: str
    now: datetime
    data: Path = Path("/var/lib/piwheels-node")
    roles: frozenset[str] = frozenset({"consumer"})
    at: Surroundings = field(default_factory=Surroundings)

    @property
    def builds(self) -> bool:
        """True where builds are meant to run here."""
        return "builder" in self.roles

    def text(self, path: str) -> str:
        """A file's content, stripped; empty where there is none to read."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.at.root / path).read_text().strip()
        return ""


def release(on: Patient) -> Iterator[Finding]:
    """Which Debian this is."""
    said = dict(re.findall(r"^(\w+)=\"?([^\"\n]*)\"?$", on.text("etc/os-release"), re.MULTILINE))
    name = said.get("PRETTY_NAME", "an unknown system")
    is_debian = "debian" in {said.get("ID"), *said.get("ID_LIKE", "").split()} or said.get("ID") == "raspbian"
    with contextlib.suppress(ValueError):
        if is_debian and float(said.get("VERSION_ID", "")) >= _OLDEST_DEBIAN:
            yield Finding("release", Severity.OK, name)
            return
    hint = "Raspberry Pi OS and Debian from 13 (trixie) on are what this was made for"
    yield Finding("release", Severity.NOTE, f"{name} was not tried out", "/etc/os-release", hint)


def clock(on: Patient) -> Iterator[Finding]:
    """Whether the time can be right; a Pi without a battery begins in the past."""
    shown = f"{on.now:%Y-%m-%d %H:%M} UTC"
    hint = "sudo timedatectl set-ntp true, and wait for the network"
    if on.now < _BUILT_AT:
        what = f"the clock says {shown}, which is past: certificates will not be believed"
        yield Finding("clock", Severity.PROBLEM, what, hint=hint)
    elif (on.at.root / "run/systemd/timesync").is_dir() and not (
        on.at.root / "run/systemd/timesync/synchronized"
    ).exists():
        yield Finding(
            "clock", Severity.WARNING, f"the clock says {shown}, and was not set by the network", hint=hint
        )
    else:
        yield Finding("clock", Severity.OK, f"the clock says {shown}")


def namespaces(on: Patient) -> Iterator[Finding]:
    """Whether the kernel lets an ordinary user make the namespaces that confine a build."""
    bad = Severity.PROBLEM if on.builds else Severity.NOTE
    off = [
        ("proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        (
            "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ]
    found = [(path, setting) for path, value, setting in off if on.text(path) == value]
    for path, setting in found:
        hint = f"echo {setting} | sudo tee /etc/sysctl.d/60-piwheels-node.conf && sudo sysctl --system"
        what = "ordinary users may make no namespaces, so no build can be confined here"
        yield Finding("namespaces", bad, what, f"/{path}", hint)
    if not found:
        yield Finding("namespaces", Severity.OK, "the kernel's settings allow user namespaces")


def memory_controller(on: Patient) -> Iterator[Finding]:
    """Whether the kernel can hold a build to its memory; Raspberry Pi OS boots without."""
    controllers = on.text("sys/fs/cgroup/cgroup.controllers").split()
    legacy = re.search(r"^memory\s+\d+\s+\d+\s+1$", on.text("proc/cgroups"), re.MULTILINE)
    if "memory" in controllers or (not controllers and legacy):
        yield Finding("memory-controller", Severity.OK, "the kernel can limit the memory of builds")
        return
    names = ("boot/firmware/cmdline.txt", "boot/cmdline.txt")
    file = next((name for name in names if (on.at.root / name).is_file()), None)
    place = f"/{file}" if file else "the kernel's command line"
    yield Finding(
        "memory-controller",
        Severity.WARNING if on.builds else Severity.NOTE,
        "the kernel does not limit memory: a build that needs too much is only noticed and ended by sampling",
        place,
        f"put cgroup_enable=memory at the end of the one line in {place}, then reboot",
    )


def disk(on: Patient) -> Iterator[Finding]:
    """Whether there is room to write, and whether anything can be written at all."""
    for line in on.text("proc/mounts").splitlines():
        device, place, kind, options = (*line.split(), "", "", "", "")[:4]
        if place == "/" and "ro" in options.split(",") and kind not in {"overlay", "squashfs"}:
            what = "the root file system is read-only: errors of the card do that"
            yield Finding(
                "disk", Severity.PROBLEM, what, device, "sudo dmesg | grep -i error; save what you need"
            )
    wanted = {"/": on.at.root, str(on.data): on.at.real(on.data)}
    for name, path in wanted.items():
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(path).free
            what = f"{free >> 20} MiB free"
            if free < _NO_DISK_BYTES:
                yield Finding(
                    "disk", Severity.PROBLEM, what, name, "sudo apt-get clean; du -xh / | sort -h | tail"
                )
            elif free < _LITTLE_DISK_BYTES:
                bad = Severity.WARNING if on.roles > {"consumer"} else Severity.NOTE
                yield Finding("disk", bad, what, name, "sudo apt-get clean")
            else:
                yield Finding("disk", Severity.OK, what, name)


def card(on: Patient) -> Iterator[Finding]:
    """Whether the SD card or the file system on it says that it is failing."""
    found = False
    for block in sorted(on.at.root.glob("sys/block/mmcblk*")):
        if "boot" in block.name or "rpmb" in block.name:
            continue
        device = f"sys/block/{block.name}/device"
        lives = [int(word, 16) for word in re.findall(r"0x[0-9a-fA-F]+", on.text(f"{device}/life_time"))]
        urgent = re.fullmatch(r"0x0*(\d)", on.text(f"{device}/pre_eol_info"))
        if max(lives, default=0) >= _WORN or (urgent and int(urgent[1]) >= _URGENT):
            found = True
            what = f"the card says that it is worn: {on.text(f'{device}/life_time') or 'near its end'}"
            yield Finding("card", Severity.WARNING, what, f"/dev/{block.name}", "copy it to a new one soon")
    for counter in sorted(on.at.root.glob("sys/fs/ext4/*/errors_count")):
        name = counter.parent.name
        count = on.text(f"sys/fs/ext4/{name}/errors_count")
        if count not in {"", "0"}:
            found = True
            what = f"the file system has met {count} errors"
            hint = "put fsck.mode=force on the kernel's command line for the next boot, and copy the card"
            yield Finding("card", Severity.WARNING, what, f"/dev/{name}", hint)
    if on.builds and (
        swap := re.search(r"^(/dev/mmcblk\S+|/var/swap|/swapfile)\s", on.text("proc/swaps"), re.MULTILINE)
    ):
        what = "swap lies on the card, which wears it"
        yield Finding("card", Severity.NOTE, what, swap[1], "sudo apt install systemd-zram-generator")
    if not found:
        yield Finding("card", Severity.OK, "no card or file system says that it fails")


def power(on: Patient) -> Iterator[Finding]:
    """Whether the machine is slowed down by its power supply or by heat."""
    health = Sensors(on.at.root, on.at.root).health()
    if health.undervoltage:
        hint = "use the power supply that is made for this Pi, and a short cable"
        yield Finding("power", Severity.WARNING, "the power supply is too weak", hint=hint)
    if health.throttled:
        yield Finding("power", Severity.WARNING, "the firmware slows the processor down", hint="cool it")
    if health.temperature_c is not None and health.temperature_c >= HOT_C:
        what = f"{health.temperature_c:.0f} °C: builds pause at that"
        yield Finding("power", Severity.WARNING, what, hint="cool it: a heat sink, a fan")
    if not (health.undervoltage or health.throttled or (health.temperature_c or 0) >= HOT_C):
        known = "" if health.temperature_c is None else f", {health.temperature_c:.0f} °C"
        yield Finding("power", Severity.OK, f"nothing slows it down{known}")


def pip(on: Patient) -> Iterator[Finding]:
    """Whether pip can start, and asks the index that it is meant to."""
    view = pip_files.look(on.at)
    if view.broken:
        what = f"pip stops at its configuration: {view.broken.error}"
        yield Finding("pip", Severity.PROBLEM, what, view.broken.name, "mend or remove that file")
        return
    if not any((on.at.root / name).exists() for name in ("usr/bin/pip", "usr/bin/pip3")):
        yield Finding("pip", Severity.NOTE, "the system has no pip", hint="sudo apt install python3-pip")
    for source in view.sources:
        if source.error:
            yield Finding(
                "pip", Severity.NOTE, f"pip cannot read one of its files: {source.error}", source.name
            )
    if view.uses(on.url):
        yield Finding("pip", Severity.OK, f"pip asks {on.url}")
        return
    decided = view.decision(pip_files.NO_INDEX) if view.no_index else view.decision(pip_files.EXTRA)
    where = decided.source.name if decided else None
    hint = "sudo piwheels-node pip enable"
    if decided and decided.source.kind is not Kind.SYSTEM:
        hint = f"add {on.url} there, if you want its wheels"
    bad = Severity.NOTE if on.roles and "consumer" not in on.roles else Severity.WARNING
    yield Finding("pip", bad, f"pip does not ask {on.url}", where, hint)


def uv(on: Patient) -> Iterator[Finding]:
    """Whether uv would start, and compare all indexes."""
    view = uv_config.look(on.at)
    if view.broken:
        what = f"uv stops at its configuration: {view.broken.error}"
        yield Finding("uv", Severity.PROBLEM, what, view.broken.name, "mend or remove that file")
    elif view.uses(on.url) and view.strategy != uv_config.STRATEGY:
        what = "uv may take older releases from the index than PyPI has"
        hint = f'index-strategy = "{uv_config.STRATEGY}"'
        where = next(file.name for file in view.files if any(same_index(on.url, url) for url in file.urls))
        yield Finding("uv", Severity.WARNING, what, where, hint)
    elif view.uses(on.url):
        yield Finding("uv", Severity.OK, f"uv asks {on.url}")
    else:
        yield Finding("uv", Severity.NOTE, f"uv does not ask {on.url}", hint="sudo piwheels-node pip enable")


def skew(on: Patient, said: datetime) -> Iterator[Finding]:
    """What another machine's clock tells about ours."""
    apart = abs(on.now - said)
    if apart > timedelta(minutes=5):
        what = f"the clock differs from the index's by {apart.total_seconds() / 60:.0f} min"
        yield Finding("clock", Severity.WARNING, what, on.url, "sudo timedatectl set-ntp true")


ALL = (release, clock, namespaces, memory_controller, disk, card, power, pip, uv)
"""Every check of files, in the order in which they are told."""
