# SPDX-License-Identifier: BSD-3-Clause
"""Farms in memory with a past: three Pis, thirty, or three hundred, and one where every name is hostile.

The same words give the same farm, to the second.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from fake_farm import NOW, FakeFarm

from piwheels_node.core.access import Access
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Priority, Step
from piwheels_node.core.messages import (
    BuildEnvironment,
    Health,
    Machine,
    ProjectPlan,
    ReleasePlan,
    StepTime,
    TargetPlan,
)

HOSTILE = (
    "[/red]",
    "[bold]pkg[extra][/]",
    "[@click=app.quit]x[/]",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "a\tb\rc\nd",
    "\u202eevil\u202c",
    "名前の長いパッケージ",
    "e\u0301\u0301\u0301 🥧👩‍👩‍👧",
    "\x00\x07\x9b31m",
    "x" * 2000,
    "",
    "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
)
"""What strangers can put into a text: markup, escapes, wide and joined characters, length."""

HOSTILE_LOG = b"\n".join(
    [
        b"ok",
        b"\x1b[2J\x1b[1;31mred\x1b[0m \x1b]52;c;ZXZpbA==\x07",
        b"[/red] [bold]",
        b"50%\r60%\r100%",
        b"a\tb\x08\x08\x00\x07\xff\xfe",
        "名前\u202e\U0001f967".encode(),
        b"x" * (1 << 20),
        b"end without a line feed",
    ]
)

TARGETS = ("cp311-linux_armv7l-debian12", "cp313-linux_armv7l-debian13", "cp313-linux_aarch64-debian13")
MODELS = (
    ("Raspberry Pi 4 Model B Rev 1.5", 4, 4 << 30),
    ("Raspberry Pi 3 Model B Plus Rev 1.3", 4, 1 << 30),
    ("Raspberry Pi Zero 2 W Rev 1.0", 4, 512 << 20),
    ("Raspberry Pi 5 Model B Rev 1.0", 4, 8 << 30),
)
PROJECTS = (
    "numpy",
    "scipy",
    "lxml",
    "grpcio",
    "pyhs",
    "pillow",
    "cryptography",
    "pandas",
    "cffi",
    "pycups",
    "opencv-python",
    "h5py",
    "psutil",
    "uvloop",
    "pyzmq",
    "pygame",
    "matplotlib",
    "bcrypt",
    "regex",
    "orjson",
)
FAILURES = (
    (FailureReason.MISSING_HEADER, "ffi.h", "libffi-dev", "fatal error: ffi.h: No such file or directory"),
    (FailureReason.MISSING_HEADER, "libxml/xmlversion.h", "libxml2-dev", "fatal error: libxml/xmlversion.h"),
    (FailureReason.COMPILER_ERROR, None, None, "error: expected ';' before '}' token"),
    (FailureReason.TIMEOUT, None, None, None),
    (FailureReason.RUST_TOO_OLD, "1.85", None, "error: package requires rustc 1.85 or newer"),
    (FailureReason.OUT_OF_MEMORY, None, None, "cc1plus: out of memory"),
    (FailureReason.MISSING_TOOL, "cmake", "cmake", "No such file or directory: 'cmake'"),
)


def farm_of(
    builders: int, *, builds: int | None = None, seed: int = 1, access: Access = Access.OPERATOR
) -> FakeFarm:
    """A farm with so many builders, and `builds` (20 for each) over the last ten days."""
    chance = random.Random(seed)
    farm = FakeFarm(access=access)
    begun_at = farm.now = NOW - timedelta(days=10)
    names = [f"pi-{number:0{len(str(builders))}}" for number in range(1, builders + 1)]
    for name in names:
        _add_builder(farm, name, chance)
    builds = 20 * builders if builds is None else builds
    for number in range(builds):
        farm.now = begun_at + (NOW - begun_at) * (number / builds)
        _build(farm, number, chance.choice(names), chance)
    farm.now = NOW
    _queue(farm, builders, chance)
    for number, name in enumerate(names):
        _now(farm, number, name, chance)
    for project in PROJECTS:
        farm.plans[project] = _plan(project)
    return farm


def hostile_farm() -> FakeFarm:
    """A farm in which every text is hostile that a stranger can choose: projects, versions, logs, reasons."""
    farm = FakeFarm()
    for number, text in enumerate(HOSTILE):
        name = f"pi-{number:02}"
        farm.add_builder(
            name,
            machine=Machine.model_construct(fingerprint="0" * 64, model=text, os=text, kernel=text),
            version=text,
            paused_itself=text or None,
            why=text or None,
        )
        for project in (text, f"{number}-{text}"):
            failed = farm.add_job(project, text)
            farm.lease(failed, name)
            farm.say(failed, HOSTILE_LOG)
            farm.tick(1)
            farm.fail(
                failed,
                list(FailureReason)[number],
                captured=text,
                debian_package=text,
                evidence=text,
                evidence_line=2,
            )
        held = farm.add_job(text, text)
        farm.lease(held, name, Step.BUILD)
        farm.say(held, HOSTILE_LOG)
        farm.add_job(text, text, priority=Priority.BACKLOG)
        farm.plans[text] = ProjectPlan(
            name=text,
            known=1,
            releases=[
                ReleasePlan(
                    version=text, sdists=[text], targets=[TargetPlan(target=text, verdict=text, what=text)]
                )
            ],
        )
    return farm


def _add_builder(farm: FakeFarm, name: str, chance: random.Random) -> None:
    model, cores, memory = chance.choice(MODELS)
    machine = Machine(
        fingerprint=f"{chance.getrandbits(256):064x}",
        model=model,
        os="Raspbian GNU/Linux 13 (trixie)",
        kernel="6.12.47+rpt-rpi-v7",
        cores=cores,
        memory_bytes=memory,
    )
    targets = sorted(chance.sample(TARGETS, chance.choice((1, 1, 2))))
    farm.add_builder(name, targets=targets, machine=machine, version="1.0", slots=1)


def _build(farm: FakeFarm, number: int, builder: str, chance: random.Random) -> None:
    project = PROJECTS[number % len(PROJECTS)]
    view = farm.builders_by_name[builder]
    job = farm.add_job(project, f"{1 + number // 100}.{number % 100}", chance.choice(view.targets))
    farm.lease(job, builder)
    duration_s = round(chance.lognormvariate(3.5, 1.0), 1)
    steps = [StepTime(step=step, duration_s=round(duration_s * share, 2)) for step, share in _SHARES]
    facts: dict[str, Any] = {
        "duration_s": duration_s,
        "steps": steps,
        "cpu_s": round(duration_s * 1.7, 1),
        "peak_memory_bytes": chance.randrange(30 << 20, 400 << 20),
        "written_bytes": chance.randrange(64 << 20),
        "environment": BuildEnvironment(
            environment_id="3f2a", python="3.13.5", release="debian13", tools={"gcc": "14.2.0"}
        ),
    }
    lines = [f"building {project}\n", *(f"cc -c src/{one}.c\n" for one in range(chance.randrange(20)))]
    if chance.random() < 0.85:
        farm.say(job, "".join([*lines, "done\n"]).encode())
        libraries = {"libffi.so.8": "libffi8"} if chance.random() < 0.5 else {}
        farm.publish(job, chance.randrange(5 << 10, 20 << 20), libraries=libraries, **facts)
        return
    reason, captured, package, evidence = chance.choice(FAILURES)
    farm.say(job, "".join([*lines, f"{evidence or 'it was stopped'}\n"]).encode())
    state = JobState.QUARANTINED if chance.random() < 0.02 else JobState.FAILED
    farm.fail(
        job,
        reason,
        state=state,
        captured=captured,
        debian_package=package,
        evidence=evidence,
        evidence_line=len(lines) + 1 if evidence else None,
        **facts,
    )


_SHARES = (
    (Step.FETCH, 0.05),
    (Step.PREPARE, 0.1),
    (Step.ASK, 0.05),
    (Step.BUILD, 0.7),
    (Step.INSPECT, 0.05),
    (Step.UPLOAD, 0.05),
)


def _queue(farm: FakeFarm, builders: int, chance: random.Random) -> None:
    """What waits: of every kind some."""
    for number in range(5 * builders):
        priority = chance.choice(list(Priority))
        project = PROJECTS[number % len(PROJECTS)]
        farm.add_job(project, f"9.{number}", chance.choice(TARGETS), priority=priority)
    for number in range(2 + builders // 10):
        at = farm.now + timedelta(minutes=3 * number + 1)
        farm.add_job("grpcio", f"8.{number}", TARGETS[0], state=JobState.DELAYED, not_before_at=at)
        on = farm.add_job("cython", f"3.{number}", TARGETS[1])
        farm.add_job("scikit-learn", f"1.{number}", TARGETS[1], state=JobState.BLOCKED, blocked_on=on)


def _now(farm: FakeFarm, number: int, name: str, chance: random.Random) -> None:
    """What a builder does at this moment: most build, and of each kind of trouble there is one in thirty."""
    health = Health(
        at=farm.now,
        load_1m=round(chance.uniform(0, 4), 2),
        memory_available_bytes=chance.randrange(50 << 20, 900 << 20),
        disk_free_bytes=chance.randrange(1 << 30, 60 << 30),
        temperature_c=round(chance.uniform(41, 72), 1),
        throttled=False,
        undervoltage=False,
    )
    changes: dict[str, Any] = {"last_seen_at": farm.now - timedelta(seconds=chance.randrange(20))}
    builds = True
    match number % 30:
        case 1:
            changes["last_seen_at"], builds = farm.now - timedelta(minutes=12), False
        case 2:
            health = health.model_copy(update={"temperature_c": 84.0, "throttled": True})
            changes["paused_itself"] = "the processor has 84 °C"
        case 5:
            changes |= {"mode": Mode.PAUSE, "why": "the fan is being changed"}
            builds = False
        case 8:
            changes |= {"mode": Mode.DRAIN, "why": "new card tonight"}
        case 11:
            changes |= {"state": BuilderState.PENDING}
            builds = False
        case 14:
            changes |= {"state": BuilderState.REVOKED, "last_seen_at": farm.now - timedelta(days=3)}
            builds = False
        case 17:
            health = health.model_copy(update={"undervoltage": True})
        case 20 | 4:
            builds = False
    farm.change_builder(name, health=health, health_at=farm.now, **changes)
    if builds:
        _take(farm, name, farm.now, chance)


def _take(farm: FakeFarm, name: str, now: datetime, chance: random.Random) -> None:
    step = chance.choice((Step.PREPARE, Step.BUILD, Step.BUILD, Step.BUILD, Step.INSPECT))
    job = farm.add_job(
        chance.choice(PROJECTS), f"7.{farm.now.minute}", farm.builders_by_name[name].targets[0]
    )
    farm.now = now - timedelta(seconds=chance.randrange(1, 4000))
    farm.lease(job, name)
    farm.go_to(job, step)
    farm.now = now
    farm.say(job, b"".join(b"cc -c src/%d.c\n" % one for one in range(chance.randrange(1, 200))))


def _plan(project: str) -> ProjectPlan:
    verdicts = (
        ("made", f"the index has {project}-7.0-cp311-cp311-linux_armv7l.whl"),
        ("under-way", "there is a job, which is ready"),
        ("covered", f"PyPI has {project}-7.0-cp313-cp313-manylinux_2_17_aarch64.whl"),
    )
    targets = [
        TargetPlan(target=target, verdict=verdict, what=what)
        for target, (verdict, what) in zip(TARGETS, verdicts, strict=True)
    ]
    releases = [
        ReleasePlan(
            version=f"7.{number}",
            uploaded_at=NOW - timedelta(days=3),
            sdists=[f"{project}-7.{number}.tar.gz"],
            wheels=12,
            targets=targets,
        )
        for number in (1, 0)
    ]
    return ProjectPlan(name=project, known=2, releases=releases)
