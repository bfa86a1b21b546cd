# SPDX-License-Identifier: BSD-3-Clause
"""The page of the machine itself: with a master, with one that is away, and with none."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fake_farm import NOW, FakeFarm
from made_farms import HOSTILE, HOSTILE_LOG

from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Step
from piwheels_node.core.messages import Health, LocalBuild, LocalBuilder, LocalEnd, NodeView
from piwheels_node.dashboard.words import Place

TARGET = "cp311-linux_armv7l-debian12"


class Pi:
    """A machine that builds, and looks as it is told."""

    def __init__(self, **more):
        self.view = NodeView(
            at=NOW,
            roles=["consumer", "builder"],
            services={"piwheels-builder.service": "active (running)"},
            index="https://pi-hub:8080/simple/",
            pip_asks=True,
            pip_by="/etc/xdg/pip/pip.conf",
            masters=["https://pi-hub:8080"],
            health=Health(temperature_c=61, load_1m=2.1, memory_available_bytes=300 << 20),
            **more,
        )

    def look(self):
        return self.view


def building(**more):
    facts = {"log_tail": "gcc one.c\ngcc two.c\n", "log_bytes": 20, "project": "numpy", "version": "2.3"}
    build = LocalBuild(
        job_id=1, target=TARGET, step=Step.BUILD, begun_at=NOW - timedelta(seconds=100), **facts | more
    )
    ended = [
        LocalEnd(job_id=3, project="lxml", version="6.0", target=TARGET, ended_at=NOW, outcome=Outcome.BUILT),
        LocalEnd(
            job_id=2,
            project="pyhs",
            version="0.9",
            target=TARGET,
            ended_at=NOW - timedelta(minutes=9),
            outcome=Outcome.FAILED,
            reason=FailureReason.COMPILER_ERROR,
        ),
    ]
    return LocalBuilder(
        at=NOW,
        started_at=NOW - timedelta(hours=3),
        data="/var/lib/piwheels-node",
        name="pi-03",
        master="https://pi-hub:8080",
        version="1.0",
        paused="the processor has 84 °C",
        builds=[build],
        ended=ended,
    )


@pytest.mark.parametrize("console", [False, True])
def test_a_builder_is_seen_so(look_at, golden, console):
    async def steps(screen):
        golden(f"dashboard/node-80x24{'-console' if console else ''}", screen.text)

    look_at(FakeFarm(), steps, first=Place("node"), machine=Pi(builder=building()), console=console)


def test_a_consumer_without_a_master_is_shown_alone(look_at, golden):
    async def steps(screen):
        golden("dashboard/node-consumer-80x24", screen.text)
        await screen.press("1", "2", "escape", "colon")
        assert "queue" not in screen.text
        await screen.press("escape", "q")

    assert look_at(None, steps, first=Place("node"), machine=Pi()) == 0


def test_what_it_does_is_shown_while_its_master_is_away(look_at):
    farm = FakeFarm()
    farm.go_away()

    async def steps(screen):
        await screen.until("gcc two.c")
        assert "Connection refused" not in screen.text
        assert not screen.app.screen.has_class("-stale")
        await screen.press("escape")
        await screen.until("Connection refused")

    look_at(farm, steps, first=Place("node"), machine=Pi(builder=building()), ready=False)


def test_its_own_name_leads_to_what_the_master_knows_of_it(look_at):
    farm = FakeFarm()
    farm.add_builder("pi-03")

    async def steps(screen):
        await screen.press("shift+tab")
        await screen.until("[pi-03]")
        await screen.press("enter")
        await screen.arrive("builder")
        assert screen.page.about == "pi-03"

    look_at(farm, steps, first=Place("node"), machine=Pi(builder=building()))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_package_is_shown_and_not_obeyed(look_at, text):
    tail = HOSTILE_LOG.decode(errors="replace")[-5000:] + text
    hostile = building(project=text, version=text, log_tail=tail)

    async def steps(screen):
        assert all(line.isprintable() for line in screen.lines)

    look_at(None, steps, first=Place("node"), machine=Pi(builder=hostile, notes=[text]))
