# SPDX-License-Identifier: BSD-3-Clause
"""A real builder beside a real master, in one process: the master can be stopped, the machine be made hot.

`site` is both on loopback; `BuilderAtWork` is a `BuilderService` whose machine is a tree of files.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import threading
import time

import pytest

from piwheels_node.builder.farm.service import BuilderService
from piwheels_node.builder.interpreter import probe
from piwheels_node.builder.workshop import Workshop
from piwheels_node.client import MasterClient
from piwheels_node.core.messages import BuilderOrder, BuildRequest
from piwheels_node.core.settings import BuilderSettings, MasterSettings, PypiSettings, Settings
from piwheels_node.master.running.service import Master
from piwheels_node.sensors import Sensors

TICKING = """
import time
for tick in range({ticks}):
    print('tick', tick, flush=True)
    time.sleep(0.05)
"""
"""The part of a package that shows whether its build goes on."""


def wait_until(condition, *, within_s=60.0):
    """What the condition gives, as soon as that is true; gives how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, condition
        time.sleep(0.02)
    return time.monotonic() - began


class Site:
    """A master with an operator; `add_builder` makes builders of it."""

    def __init__(self, root, pypi, **master_settings):
        self.root = root
        self.pypi = pypi
        self.settings = Settings(
            pypi=PypiSettings(index_url=pypi.index_url, timeout_s=2.0, max_age_s=0.0),
            master=MasterSettings(**master_settings),
        )
        self.master = Master(root / "master", self.settings)
        self.url = self.master.start()
        self.operator = MasterClient(self.url, self.master.create_key("operator"))
        self.builders = []

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    def add_builder(self, name="pi", **how):
        builder = BuilderAtWork(self, name, **how)
        self.builders.append(builder)
        return builder

    def stop_master(self):
        """The master goes away; what it has is in its directory."""
        self.master.stop()

    def start_master(self):
        """The master comes back where it was."""
        settings = dataclasses.replace(
            self.settings, master=dataclasses.replace(self.settings.master, port=self.port)
        )
        self.master = Master(self.root / "master", settings)
        assert self.master.start() == self.url

    def close(self):
        self.master.drain()
        for builder in self.builders:
            builder.close()
        self.operator.close()
        self.master.stop()

    def request(self, sdist, **listed):
        """Offer an sdist and ask for it; gives the job's id."""
        project = sdist.name.rsplit("-", 1)[0].replace("_", "-")
        self.pypi.add(sdist, project=project, **listed)
        answer = self.operator.request(BuildRequest(project=project))
        assert answer.job, answer
        return answer.job.job_id

    def order(self, mode, name="pi", why=None):
        return self.operator.order(name, BuilderOrder(mode=mode, why=why))

    def job(self, job_id):
        return self.operator.job(job_id)

    def wait_for_end(self, job_id):
        wait_until(lambda: self.job(job_id).state.is_final)
        return self.job(job_id)

    def events(self, job_id):
        return [event.kind for event in self.operator.events(job_id)]


class BuilderAtWork:
    """A builder's service in this process. `site.operator` knows it by its name."""

    def __init__(self, site, name, *, slots=1, shares=0, observer=None, url=None, key=None, **settings):
        self.site = site
        self.name = name
        self.key = key or site.master.create_key("builder", name)
        self.machine_files = site.root / f"{name}-files"
        self.heat(50.0)
        self.leave_memory(3_000_000_000)
        self.settings = dataclasses.replace(
            site.settings, builder=BuilderSettings(**{"pause_disk_bytes": 1, "slots": shares, **settings})
        )
        self.workshop = Workshop(site.root / name, probe(), self.settings, stop=threading.Event())
        self.client = MasterClient(url or site.url, self.key, session=secrets.token_urlsafe(16))
        self.service = BuilderService(
            self.client,
            self.workshop,
            slots=slots,
            observer=observer,
            sensors=Sensors(self.workshop.root, self.machine_files),
        )
        self.service.start()

    def heat(self, celsius):
        """Let the processor have this temperature."""
        self._tell("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
        self._tell("sys/class/thermal/thermal_zone0/temp", f"{celsius * 1000:.0f}\n")

    def leave_memory(self, size_bytes):
        """Let so much memory be available, of 4 GB."""
        self._tell("proc/meminfo", f"MemTotal: 4000000 kB\nMemAvailable: {size_bytes // 1024} kB\n")

    def _tell(self, name, text):
        path = self.machine_files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)  # who reads meanwhile reads the one or the other

    def ticks(self):
        """How far the builds in hand have come, all together, by what is printed here."""
        logs = (self.workshop.root / "builds").glob("build-*/log")
        return sum(log.read_bytes().count(b"tick ") for log in logs)

    def wait_for_ticks(self, count):
        return wait_until(lambda: self.ticks() >= count)

    def stands_still(self, *, for_s=1.0):
        """True as soon as no build here has got on for so many seconds; False where one always does."""
        for _ in range(20):
            before = self.ticks()
            time.sleep(for_s)
            if self.ticks() == before:
                return True
        return False

    def sandboxes(self):
        """Processes that have a directory of this builder's mounted: those of its sandboxes."""
        ours = str(self.workshop.root)
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if b"bwrap" in (line := file.read()) and ours.encode() in line:
                        found.append(int(pid))
            except OSError:
                pass  # it is gone
        return found

    def view(self):
        """What the master says of it."""
        return self.site.operator.builder(self.name)

    def close(self):
        self.service.stop()
        self.client.close()
        self.workshop.close()


@pytest.fixture
def make_site(open_tmp_path, pypi):
    """Makes a site with some settings of the master."""
    made = []

    def make(**master_settings):
        made.append(Site(open_tmp_path / f"site-{len(made)}", pypi, **master_settings))
        return made[-1]

    yield make
    pypi.close_hanging()
    for site in made:
        site.close()


@pytest.fixture
def site(make_site):
    """A site with the default settings."""
    return make_site()
