# SPDX-License-Identifier: BSD-3-Clause
"""The page of the machine itself: with a master, with one that is away, and with none."""

from __future__ import annotations

import pytest
from fake_farm import FakeFarm
from fake_node import builder, consumer, local_build
from made_farms import HOSTILE, HOSTILE_LOG

from piwheels_node.dashboard.words import Place

NODE = Place("node")


@pytest.mark.parametrize("console", [False, True])
def test_a_builder_is_seen_so(look_at, golden, console):
    async def steps(screen):
        golden(f"dashboard/node-80x24{'-console' if console else ''}", screen.text)

    machine = builder(paused="the processor has 84 °C")
    look_at(FakeFarm(), steps, first=NODE, machine=machine, console=console)


def test_a_consumer_without_a_master_is_shown_alone(look_at, golden):
    async def steps(screen):
        golden("dashboard/node-consumer-80x24", screen.text)
        await screen.press("1", "2", "escape", "colon")
        assert "queue" not in screen.text
        await screen.press("escape", "q")

    assert look_at(None, steps, first=NODE, machine=consumer()) == 0


def test_what_it_does_is_shown_while_its_master_is_away(look_at):
    farm = FakeFarm()
    farm.go_away()

    async def steps(screen):
        await screen.until("cc -c math.c")
        assert "Connection refused" not in screen.text
        assert not screen.app.screen.has_class("-stale")
        await screen.press("escape")
        await screen.until("Connection refused")

    look_at(farm, steps, first=NODE, machine=builder(), ready=False)


def test_the_end_of_a_log_that_grows_is_always_seen(look_at):
    machine = builder()

    async def steps(screen):
        machine.change(
            builder=machine.view.builder.model_copy(
                update={"builds": [local_build(log_tail="\n".join(f"line {one}" for one in range(500)))]}
            )
        )
        await screen.refresh()
        assert "line 499" in screen.text

    look_at(FakeFarm(), steps, first=NODE, machine=machine)


def test_its_own_name_leads_to_what_the_master_knows_of_it(look_at):
    farm = FakeFarm()
    farm.add_builder("pi-1")

    async def steps(screen):
        await screen.press("shift+tab")
        await screen.until("[pi-1]")
        await screen.press("enter")
        await screen.arrive("builder")
        assert screen.page.about == "pi-1"

    look_at(farm, steps, first=NODE, machine=builder())


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_package_is_shown_and_not_obeyed(look_at, text):
    tail = HOSTILE_LOG.decode(errors="replace")[-5000:] + text
    machine = builder(builds=[local_build(project=text, version=text, log_tail=tail)])
    machine.change(notes=[text])

    async def steps(screen):
        assert all(line.isprintable() for line in screen.lines)

    look_at(None, steps, first=NODE, machine=machine)
