# SPDX-License-Identifier: BSD-3-Clause
"""A small network of namespaces: houses with a machine each, joined to one in the middle by cables.

    network.center, network.house("a")      where a program may run: `house.words(["ip", "link"])`
    network.cut("a"), network.mend("a")     pull the cable out, and put it in again

Nobody needs to be root: an ordinary user gets a user namespace around all of it, in which programs still
run as that user. Nothing outside the namespaces is touched, and they go when their last process does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

CENTER = "10.77.0.1"
"""The address of the machine in the middle, for all."""

_READY_S = 60.0


@dataclass(frozen=True)
class House:
    """A namespace, held by a process that sleeps; `user_namespace` where an ordinary user made it."""

    name: str
    holder: int
    user_namespace: bool

    def words(self, words, *, as_admin=False):
        """The command line that runs a program there; as who runs the tests, or `as_admin` of the network."""
        enter = ["nsenter", "--target", str(self.holder), "--net"]
        if self.user_namespace:
            enter += ["--user", "--preserve-credentials"]
            if not as_admin:
                enter += ["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
        return [*enter, "--", *words]


class Network:
    """Houses around a center; `close` ends all."""

    def __init__(self, *names):
        self._closing = contextlib.ExitStack()
        self._user = (
            None if os.geteuid() == 0 else self._hold(["unshare", "--user", "--map-root-user"], "user")
        )
        self.center = self._house("center")
        self.houses = {name: self._house(name) for name in names}
        self._admin(self.center, "ip", "link", "set", "lo", "up")
        self._admin(self.center, "ip", "address", "add", f"{CENTER}/32", "dev", "lo")
        for number, house in enumerate(self.houses.values(), 1):
            self._join(house, number)

    def house(self, name):
        return self.houses[name]

    def cut(self, name):
        """Nothing gets through any more, and nobody is told."""
        self._admin(self.center, "ip", "link", "set", f"to-{name}", "down")

    def mend(self, name):
        self._admin(self.center, "ip", "link", "set", f"to-{name}", "up")

    def slow_down(self, name, rate):
        """From that house, so much gets through a second (`tc`: 1mbit); None: as much as there is."""
        device = ["dev", "eth0", "root"]
        if rate is None:
            self._admin(self.house(name), "tc", "qdisc", "del", *device)
        else:
            shape = ["tbf", "rate", rate, "burst", "16kb", "latency", "200ms"]
            self._admin(self.house(name), "tc", "qdisc", "add", *device, *shape)

    def close(self):
        self._closing.close()

    def _join(self, house, number):
        here, there, cable = f"10.77.{number}.1", f"10.77.{number}.2", f"to-{house.name}"
        center, peer = self.center, str(house.holder)
        self._admin(center, "ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", peer)
        self._admin(center, "ip", "address", "add", f"{here}/24", "dev", cable)
        self._admin(center, "ip", "link", "set", cable, "up")
        self._admin(house, "ip", "link", "set", "lo", "up")
        self._admin(house, "ip", "address", "add", f"{there}/24", "dev", "eth0")
        self._admin(house, "ip", "link", "set", "eth0", "up")
        self._admin(house, "ip", "route", "add", CENTER, "via", here)

    def _admin(self, house, *words):
        done = subprocess.run(house.words(words, as_admin=True), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)} in {house.name}: {done.stderr}"

    def _house(self, name):
        before = []
        if self._user:
            before = ["nsenter", "--target", str(self._user), "--user", "--preserve-credentials"]
        return House(name, self._hold([*before, "unshare", "--net"], "net"), self._user is not None)

    def _hold(self, words, kind):
        """A process that sleeps in a new namespace; gives its number once it is there."""
        process = subprocess.Popen(
            [*words, "sleep", "infinity"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._closing.callback(_end, process)
        ours = os.readlink(f"/proc/self/ns/{kind}")
        deadline = time.monotonic() + _READY_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                there = os.readlink(f"/proc/{process.pid}/ns/{kind}")
                if there != ours and Path(f"/proc/{process.pid}/comm").read_text().strip() == "sleep":
                    return process.pid
            time.sleep(0.01)
        _end(process)
        raise AssertionError(f"no namespace: {process.stderr.read()}")


def _end(process):
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.fixture
def network():
    """A center and two houses, a and b."""
    made = Network("a", "b")
    yield made
    made.close()
