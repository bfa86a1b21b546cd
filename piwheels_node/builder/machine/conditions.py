# SPDX-License-Identifier: BSD-3-Clause
"""When a builder stands still by its own decision: it stays somebody's Pi.

    judge(health, settings, cores=, before=, now_s=) -> Judgement

A condition begins at its limit and ends some way behind it, for some while: a machine between the two would
start and stop all the time. Its sentence is that of its beginning, so that it is news once.

Heat, a weak power supply, throttling and want of memory freeze the builds in hand, since that relieves the
machine. Want of disk and load only keep new jobs away: no build frees disk by waiting, and the load may
be our own. Pure: no clock, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from piwheels_node.core.messages import Health
from piwheels_node.core.settings import BuilderSettings

_COOLER_C = 5.0
_ROOM_OF_SDIST = 4
"""An archive and what comes out of it take so many times its size, at the least."""

_MANY_BYTES = 10 << 30
_UNKNOWN_S = 60.0
"""How long a condition outlasts the sensor that it was read from."""


class Cause(Enum):
    """What a builder stands still for, the gravest first."""

    TEMPERATURE = "temperature"
    UNDERVOLTAGE = "undervoltage"
    THROTTLED = "throttled"
    MEMORY = "memory"
    MEMORY_PRESSURE = "memory-pressure"
    DISK = "disk"
    LOAD = "load"


_FREEZING = frozenset(Cause) - {Cause.DISK, Cause.LOAD}


@dataclass(frozen=True)
class Standing:
    """A condition that lasts: since when, when it was last seen at its limit, and the sentence about it."""

    since_s: float
    seen_s: float
    sentence: str


@dataclass(frozen=True)
class Judgement:
    """Whether to stand still. `standing` is what the next judgement wants as `before`."""

    standing: Mapping[Cause, Standing] = field(default_factory=dict)

    @property
    def freeze(self) -> str | None:
        """Why builds in hand must stand still; None: they may go on."""
        return self._first(_FREEZING)

    @property
    def idle(self) -> str | None:
        """Why no new jobs are taken; None: they are."""
        return self._first(frozenset(Cause))

    def _first(self, causes: frozenset[Cause]) -> str | None:
        return next(
            (self.standing[one].sentence for one in Cause if one in causes & set(self.standing)), None
        )


@dataclass(frozen=True)
class _Rule:
    """One condition: what is read, when it begins, when it may end, and what is said about it."""

    value: Callable[[Health], float | None]
    begins: Callable[[float], bool]
    ends: Callable[[float], bool]
    sentence: Callable[[float], str]
    calm_s: float = 0.0
    "How long it must have been below its limit before it ends."


def judge(
    health: Health,
    settings: BuilderSettings,
    *,
    cores: int,
    before: Mapping[Cause, Standing],
    now_s: float,
) -> Judgement:
    """What to stand still for, now that the machine is doing so; `now_s` is of any steady clock."""
    standing = {}
    for cause, rule in _rules(settings, cores).items():
        value, earlier = rule.value(health), before.get(cause)
        if value is not None and rule.begins(value):
            sentence = earlier.sentence if earlier else rule.sentence(value)
            standing[cause] = Standing(earlier.since_s if earlier else now_s, now_s, sentence)
        elif earlier is not None:
            calm_s = _UNKNOWN_S if value is None else rule.calm_s
            over = value is None or rule.ends(value)
            if not over or now_s - earlier.seen_s < calm_s:
                standing[cause] = earlier
    return Judgement(standing)


def _rules(settings: BuilderSettings, cores: int) -> dict[Cause, _Rule]:
    """The conditions that the settings ask for."""
    hot, memory, pressure = settings.pause_at_c, settings.pause_memory_bytes, settings.pause_memory_pressure
    disk, load = settings.pause_disk_bytes, settings.pause_load
    rules = {
        Cause.TEMPERATURE: _Rule(
            lambda health: health.temperature_c,
            lambda c: c >= hot,
            lambda c: c <= hot - _COOLER_C,
            lambda c: (
                f"the processor has {c:.1f} °C (builder.pause_at_c = {hot:g}); it goes on at "
                f"{hot - _COOLER_C:g}"
            ),
        )
    }
    if settings.pause_undervolted:
        rules[Cause.UNDERVOLTAGE] = _switch(
            lambda health: health.undervoltage,
            "the power supply is too weak: undervoltage (builder.pause_undervolted)",
        )
    if settings.pause_throttled:
        rules[Cause.THROTTLED] = _switch(
            lambda health: health.throttled,
            "the firmware slows the processor down (builder.pause_throttled)",
        )
    if memory:
        rules[Cause.MEMORY] = _Rule(
            lambda health: health.memory_available_bytes,
            lambda free: free < memory,
            lambda free: free >= 2 * memory,
            lambda free: f"{_size(free)} of memory are left (builder.pause_memory_bytes = {_size(memory)})",
        )
    if pressure:
        rules[Cause.MEMORY_PRESSURE] = _Rule(
            lambda health: health.memory_pressure_percent,
            lambda percent: percent >= pressure,
            lambda percent: percent <= pressure / 2,
            lambda percent: (
                f"memory is short: {percent:.0f} % of the time is lost waiting for it "
                f"(builder.pause_memory_pressure = {pressure:g})"
            ),
            calm_s=15.0,
        )
    if disk:
        rules[Cause.DISK] = _Rule(
            lambda health: health.disk_free_bytes,
            lambda free: free < disk,
            lambda free: free >= disk * 1.1,
            lambda free: f"{_size(free)} of disk are left (builder.pause_disk_bytes = {_size(disk)})",
        )
    if load:
        rules[Cause.LOAD] = _Rule(
            lambda health: None if health.load_1m is None else health.load_1m / cores,
            lambda each: each >= load,
            lambda each: each <= load * 0.8,
            lambda each: (
                f"the machine is busy: a load of {each:.1f} per core (builder.pause_load = {load:g})"
            ),
        )
    return rules


def _switch(value: Callable[[Health], bool | None], sentence: str) -> _Rule:
    """A condition that is there or not. Building may bring it about, so it must be gone for a while."""
    return _Rule(value, lambda on: on > 0, lambda on: not on, lambda _: sentence, calm_s=60.0)


def _size(size: float) -> str:
    return f"{size / (1 << 20):.0f} MiB" if size < _MANY_BYTES else f"{size / (1 << 30):.0f} GiB"


def unfit(sdist_bytes: int | None, health: Health, settings: BuilderSettings) -> str | None:
    """Why a job cannot be built here now, though another builder may well; None: it can be tried."""
    if not settings.pause_disk_bytes or sdist_bytes is None or health.disk_free_bytes is None:
        return None
    wanted = min(sdist_bytes * _ROOM_OF_SDIST, sdist_bytes + settings.disk_max_bytes)
    if wanted > health.disk_free_bytes:
        return f"it needs {_size(wanted)} of disk, and {_size(health.disk_free_bytes)} are free"
    return None
