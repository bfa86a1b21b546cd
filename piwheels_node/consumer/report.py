# SPDX-License-Identifier: BSD-3-Clause
"""How this machine stands, in lines that a serial console can show, and as one object for scripts.

    roles, services    what it is, and what systemd says of that
    pip, uv            whether they ask the index
    master             each one that is known here: whether it answers, and with what
    builder, built     what is being built, and what became of the last builds
    health             memory, temperature, disk

A line is a topic and its words; a line that changes is printed anew by `--watch`. What cannot be told is
said to be so, and nothing raises. This module imports the consumer's own, the client, `core` and `sensors`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from piwheels_node.client import MasterClient
from piwheels_node.consumer import pip_files, uv_config
from piwheels_node.core.builders import Mode
from piwheels_node.core.errors import MasterError
from piwheels_node.core.messages import BuilderView, Health, JobView, Status
from piwheels_node.sensors import Sensors

UNITS = ("piwheels-builder.service", "piwheels-master.service")
_BUILDS = 3
_TIMEOUT_S = 5.0
_MIB = 1 << 20


@dataclass(frozen=True)
class Known:
    """A master that this machine knows: as `builder` there, or because it runs here."""

    url: str
    certificate: str | None = None
    builder: str | None = None


@dataclass(frozen=True)
class Seen:
    """What a master said; `error` in place of all where it did not answer."""

    url: str
    error: str | None = None
    status: Status | None = None
    builder: BuilderView | None = None
    jobs: Sequence[JobView] = ()


@dataclass(frozen=True)
class Report:
    """Everything at one moment."""

    roles: Sequence[str]
    services: dict[str, str]
    index: str
    pip: pip_files.PipView
    uv: uv_config.UvView
    masters: Sequence[Seen]
    health: Health
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def pip_by(self) -> str | None:
        """The file that decides what pip asks."""
        if self.pip.broken:
            return self.pip.broken.name
        decided = self.pip.decision(pip_files.EXTRA)
        return decided.source.name if decided else None

    def as_json(self) -> dict[str, Any]:
        """The same for scripts."""
        return {
            "roles": list(self.roles),
            "services": self.services,
            "index": self.index,
            "pip": {"asks": self.pip.uses(self.index), "by": self.pip_by},
            "uv": {"asks": self.uv.uses(self.index)},
            "masters": [
                {
                    "url": one.url,
                    "error": one.error,
                    "status": one.status and one.status.model_dump(mode="json"),
                    "builder": one.builder and one.builder.model_dump(mode="json"),
                    "jobs": [job.model_dump(mode="json") for job in one.jobs],
                }
                for one in self.masters
            ],
            "health": self.health.model_dump(mode="json"),
            "notes": list(self.notes),
        }


def lines(report: Report) -> list[tuple[str, str]]:
    """Topic and words, in a fixed order; a topic may come several times."""
    said = [("roles", ", ".join(report.roles) or "none: pip asks no index of ready-made wheels")]
    said += [("service", f"{unit} {state}") for unit, state in report.services.items()]
    asks = report.pip.uses(report.index)
    by = f" (by {report.pip_by})" if report.pip_by else ""
    said.append(("pip", f"{'asks' if asks else 'does not ask'} {report.index}{by}"))
    said.append(("uv", f"{'asks' if report.uv.uses(report.index) else 'does not ask'} {report.index}"))
    for master in report.masters:
        said += _master_lines(master)
    said.append(("health", health_words(report.health)))
    said += [("note", one) for one in report.notes]
    return said


def see(known: Known) -> Seen:
    """Ask a master how it stands; what it does not answer is in `error`."""
    with MasterClient(known.url, certificate=known.certificate, timeout_s=_TIMEOUT_S) as client:
        try:
            status = client.status()
            builder = client.builder(known.builder) if known.builder else None
            return Seen(known.url, None, status, builder, client.jobs(limit=20))
        except MasterError as error:
            return Seen(known.url, error.what)


def services() -> dict[str, str]:
    """The state of our units, by systemd; nothing where it is not there, or has none of them."""
    found = {}
    for unit in UNITS:
        try:
            said = subprocess.run(
                ["systemctl", "show", "--property=LoadState,ActiveState,SubState,Result", unit],
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT_S,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            return {}
        facts = dict(re.findall(r"^(\w+)=(.*)$", said, re.MULTILINE))
        if facts.get("LoadState") == "loaded":
            result = facts.get("Result", "success")
            why = "" if result in {"", "success"} else f", ended by {result}"
            found[unit] = f"{facts.get('ActiveState')} ({facts.get('SubState')}{why})"
    return found


def health(data: Path) -> Health:
    """How the machine is doing, now; the disk is that of the data directory, or of /."""
    return Sensors(data if data.is_dir() else Path("/")).health()


def health_words(health: Health) -> str:
    """Health in one line, in units that do not change with every look."""
    words = []
    if health.temperature_c is not None:
        words.append(f"{health.temperature_c:.0f} °C")
    if health.memory_available_bytes is not None:
        words.append(f"{_round(health.memory_available_bytes)} MiB of memory free")
    if health.disk_free_bytes is not None:
        words.append(f"{_round(health.disk_free_bytes)} MiB of disk free")
    if health.load_1m is not None:
        words.append(f"load {health.load_1m:.0f}")
    words += ["the power supply is too weak"] if health.undervoltage else []
    words += ["slowed down by the firmware"] if health.throttled else []
    return ", ".join(words) or "not known"


def changes(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The lines that were not there before; a topic that has gone is told once."""
    gone = {topic for topic, _ in before} - {topic for topic, _ in after}
    return [line for line in after if line not in before] + [(topic, "-") for topic in sorted(gone)]


def _master_lines(master: Seen) -> list[tuple[str, str]]:
    if master.status is None:
        return [("master", f"{master.url} does not answer: {master.error}")]
    status = master.status
    words = f"{master.url} answers: {status.wheels} wheels, {sum(status.queue.values())} jobs ready"
    words += f", {status.builders} builders"
    if status.mode is not Mode.RUN:
        words += f", told to {status.mode.value}" + (f" ({status.why})" if status.why else "")
    said = [("master", words)]
    if master.builder:
        said.append(("builder", builder_words(master.builder)))
    ended = [job for job in master.jobs if job.build]
    said += [("built", job_words(job)) for job in ended[:_BUILDS]]
    return said


def builder_words(view: BuilderView) -> str:
    """What a master says of the builder of this machine."""
    words = [f"{view.name} is {view.state.value}"]
    if view.mode is not Mode.RUN:
        words.append(f"told to {view.mode.value}" + (f" ({view.why})" if view.why else ""))
    if view.paused_itself:
        words.append(f"standing still: {view.paused_itself}")
    building = ", ".join(f"{job.project} {job.version}" for job in view.jobs)
    words += [f"building {building}" if building else "building nothing", f"{view.built} built"]
    return ", ".join(words)


def job_words(job: JobView) -> str:
    """One job whose newest build has ended."""
    if job.build is None:
        return f"{job.project} {job.version}: {job.state.value}"
    reason = f" ({job.build.reason.value})" if job.build.reason else ""
    at = _shown(job.build.started_at)
    return f"{job.project} {job.version}: {job.build.outcome.value}{reason} by {job.build.builder}, {at}"


def _shown(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def _round(amount_bytes: int) -> int:
    """MiB, rounded to two digits: a console that shows each byte scrolls for ever."""
    amount = amount_bytes // _MIB
    step = int(10 ** max(0, len(str(amount)) - 2))
    return amount // step * step
