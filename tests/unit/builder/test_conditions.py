# SPDX-License-Identifier: BSD-3-Clause
"""When a builder stands still by its own decision, and when it goes on."""

from __future__ import annotations

import dataclasses

import pytest

from piwheels_node.builder.machine.conditions import Cause, judge, unfit
from piwheels_node.core.messages import Health
from piwheels_node.core.settings import BuilderSettings

MIB = 1 << 20
WELL = Health(
    load_1m=0.5,
    memory_available_bytes=2000 * MIB,
    memory_pressure_percent=0.0,
    disk_free_bytes=20000 * MIB,
    temperature_c=50.0,
    throttled=False,
    undervoltage=False,
)


class Builder:
    """Judges one reading after the other, each so many seconds after the last."""

    def __init__(self, **settings):
        self.settings = dataclasses.replace(BuilderSettings(), **settings)
        self.now_s = 1000.0
        self.judgement = judge(WELL, self.settings, cores=4, before={}, now_s=self.now_s)

    def sees(self, *, after_s=2.0, **readings):
        self.now_s += after_s
        self.judgement = judge(
            WELL.model_copy(update=readings),
            self.settings,
            cores=4,
            before=self.judgement.standing,
            now_s=self.now_s,
        )
        return self.judgement


def test_a_machine_that_is_well_builds():
    builder = Builder(pause_throttled=True, pause_load=2.0)

    assert (builder.judgement.freeze, builder.judgement.idle) == (None, None)


def test_a_machine_that_tells_nothing_builds():
    judgement = judge(Health(), BuilderSettings(pause_load=1.0), cores=1, before={}, now_s=0.0)

    assert judgement.idle is None


@pytest.mark.parametrize(
    ("settings", "readings", "sentence"),
    [
        (
            {},
            {"temperature_c": 80.0},
            "the processor has 80.0 °C (builder.pause_at_c = 80); it goes on at 75",
        ),
        (
            {},
            {"undervoltage": True},
            "the power supply is too weak: undervoltage (builder.pause_undervolted)",
        ),
        (
            {"pause_throttled": True},
            {"throttled": True},
            "the firmware slows the processor down (builder.pause_throttled)",
        ),
        (
            {},
            {"memory_available_bytes": 63 * MIB},
            "63 MiB of memory are left (builder.pause_memory_bytes = 64 MiB)",
        ),
        (
            {},
            {"memory_pressure_percent": 60.0},
            "memory is short: 60 % of the time is lost waiting for it (builder.pause_memory_pressure = 60)",
        ),
    ],
)
def test_what_standing_still_relieves_freezes_builds_too(settings, readings, sentence):
    judgement = Builder(**settings).sees(**readings)

    assert judgement.freeze == sentence
    assert judgement.idle == sentence


@pytest.mark.parametrize(
    ("settings", "readings", "sentence"),
    [
        (
            {},
            {"disk_free_bytes": 511 * MIB},
            "511 MiB of disk are left (builder.pause_disk_bytes = 512 MiB)",
        ),
        (
            {"pause_load": 2.0},
            {"load_1m": 8.0},
            "the machine is busy: a load of 2.0 per core (builder.pause_load = 2)",
        ),
    ],
)
def test_what_standing_still_does_not_relieve_only_keeps_new_jobs_away(settings, readings, sentence):
    judgement = Builder(**settings).sees(**readings)

    assert (judgement.freeze, judgement.idle) == (None, sentence)


@pytest.mark.parametrize(
    ("settings", "readings"),
    [
        ({}, {"throttled": True}),
        ({"pause_undervolted": False}, {"undervoltage": True}),
        ({"pause_memory_bytes": 0}, {"memory_available_bytes": 0}),
        ({"pause_memory_pressure": 0.0}, {"memory_pressure_percent": 100.0}),
        ({"pause_disk_bytes": 0}, {"disk_free_bytes": 0}),
        ({"pause_load": 0.0}, {"load_1m": 400.0}),
        ({"pause_at_c": 90.0}, {"temperature_c": 89.9}),
    ],
)
def test_what_the_settings_do_not_ask_for_is_no_reason(settings, readings):
    assert Builder(**settings).sees(**readings).idle is None


@pytest.mark.parametrize(
    ("settings", "at_limit", "between", "over"),
    [
        ({}, {"temperature_c": 84.0}, {"temperature_c": 75.1}, {"temperature_c": 75.0}),
        (
            {},
            {"memory_available_bytes": 10 * MIB},
            {"memory_available_bytes": 127 * MIB},
            {"memory_available_bytes": 128 * MIB},
        ),
        ({}, {"disk_free_bytes": 10 * MIB}, {"disk_free_bytes": 560 * MIB}, {"disk_free_bytes": 564 * MIB}),
        ({"pause_load": 1.0}, {"load_1m": 4.0}, {"load_1m": 3.3}, {"load_1m": 3.2}),
    ],
)
def test_a_condition_ends_some_way_behind_its_limit(settings, at_limit, between, over):
    builder = Builder(**settings)
    began = builder.sees(**at_limit).idle

    assert began
    assert builder.sees(**between).idle == began  # the sentence is news once
    assert builder.sees(**over).idle is None
    assert builder.sees(**between).idle is None


@pytest.mark.parametrize(
    ("settings", "bad", "calm_s"),
    [
        ({}, {"undervoltage": True}, 60.0),
        ({"pause_throttled": True}, {"throttled": True}, 60.0),
        ({}, {"memory_pressure_percent": 90.0}, 15.0),
    ],
)
def test_what_building_itself_may_bring_about_must_be_gone_for_a_while(settings, bad, calm_s):
    builder = Builder(**settings)
    builder.sees(**bad)
    builder.sees(after_s=100.0, **bad)

    assert builder.sees(after_s=calm_s - 0.1).freeze
    assert builder.sees(after_s=0.1).freeze is None


def test_a_sensor_that_falls_silent_is_believed_for_a_minute():
    builder = Builder()
    builder.sees(temperature_c=85.0)

    assert builder.sees(after_s=59.0, temperature_c=None).freeze
    assert builder.sees(after_s=2.0, temperature_c=None).freeze is None


def test_the_gravest_cause_is_told_and_the_next_one_when_it_is_over():
    builder = Builder()

    assert "°C" in builder.sees(temperature_c=85.0, disk_free_bytes=0).idle
    judgement = builder.sees(temperature_c=60.0, disk_free_bytes=0)
    assert judgement.freeze is None
    assert "of disk" in judgement.idle


def test_how_long_a_condition_lasts_is_counted_from_its_beginning():
    builder = Builder()
    builder.sees(memory_available_bytes=0)
    began_s = builder.now_s
    judgement = builder.sees(after_s=30.0, memory_available_bytes=0)

    assert judgement.standing[Cause.MEMORY].since_s == began_s
    assert judgement.standing[Cause.MEMORY].seen_s == began_s + 30.0


@pytest.mark.parametrize(
    ("sdist_bytes", "free_bytes", "why"),
    [
        (100 * MIB, 400 * MIB, None),
        (100 * MIB, 399 * MIB, "it needs 400 MiB of disk, and 399 MiB are free"),
        (100 << 30, 20 << 30, "it needs 108 GiB of disk, and 20 GiB are free"),  # no more than it may
        (None, 0, None),
        (100 * MIB, None, None),
    ],
)
def test_a_job_that_the_disk_has_no_room_for_does_not_fit(sdist_bytes, free_bytes, why):
    assert unfit(sdist_bytes, Health(disk_free_bytes=free_bytes), BuilderSettings()) == why


def test_where_disk_is_no_condition_every_job_is_tried():
    assert unfit(1 << 40, Health(disk_free_bytes=0), BuilderSettings(pause_disk_bytes=0)) is None
