# SPDX-License-Identifier: BSD-3-Clause
"""How builders stand, and in which order a master tells them."""

from __future__ import annotations

import random

import pytest

from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.jobs import Step
from piwheels_node.core.messages import BuilderRow, JobInHand
from piwheels_node.core.standing import Standing, in_order, standing, trouble

JOB = JobInHand.model_construct(job_id=1, project="numpy", version="2.3", target="t", step=Step.BUILD)


def row(**more):
    return BuilderRow(**{"name": "pi-1", "state": BuilderState.ACTIVE, "is_up": True, **more})


@pytest.mark.parametrize(
    ("facts", "stands", "wrong"),
    [
        ({}, Standing.IDLE, ""),
        ({"jobs": [JOB]}, Standing.BUSY, ""),
        ({"is_up": False}, Standing.LOST, ""),
        ({"is_up": False, "jobs": [JOB], "temperature_c": 90.0}, Standing.LOST, "it is hot"),
        ({"state": BuilderState.PENDING}, Standing.WAITS_FOR_APPROVAL, ""),
        ({"state": BuilderState.REVOKED, "is_up": False}, Standing.GONE, ""),
        ({"state": BuilderState.LEFT}, Standing.GONE, ""),
        ({"mode": Mode.PAUSE}, Standing.PAUSED, ""),
        ({"mode": Mode.DRAIN, "jobs": [JOB]}, Standing.PAUSED, ""),
        ({"paused_itself": "84 °C", "mode": Mode.PAUSE}, Standing.WRONG, "84 °C"),
        ({"temperature_c": 79.9}, Standing.IDLE, ""),
        ({"temperature_c": 80.0}, Standing.WRONG, "it is hot"),
        ({"undervoltage": True}, Standing.WRONG, "its power supply is too weak"),
        ({"throttled": True, "jobs": [JOB]}, Standing.WRONG, "the firmware slows it down"),
    ],
)
def test_how_a_builder_stands(facts, stands, wrong):
    assert (standing(row(**facts)), trouble(row(**facts))) == (stands, wrong)


def test_those_that_need_a_person_come_first_and_then_names_decide():
    wanted = [
        row(name="c", is_up=False),
        row(name="b", throttled=True),
        row(name="d", state=BuilderState.PENDING),
        row(name="a", jobs=[JOB]),
        row(name="f", jobs=[JOB]),
        row(name="e"),
    ]

    assert in_order(random.Random(1).sample(wanted, len(wanted))) == wanted
