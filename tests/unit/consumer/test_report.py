# SPDX-License-Identifier: BSD-3-Clause
"""The lines of `status`: what they say, and which of them count as changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from piwheels_node.consumer import pip_files, report, uv_config
from piwheels_node.consumer.report import Known, Report, Seen, changes, health_words, lines
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import BuilderView, BuildView, Health, JobView, Status

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
URL = "https://index.test/simple/"


def job(name, *, reason=None, build=True):
    made = BuildView(
        build_id=1,
        builder="pi",
        outcome=Outcome.FAILED if reason else Outcome.BUILT,
        reason=reason,
        started_at=AT,
        duration_s=1.0,
    )
    return JobView(
        job_id=1,
        project=name,
        version="1.0",
        target="t",
        state=JobState.BUILT,
        attempts=1,
        created_at=AT,
        build=made if build else None,
    )


def seen(**changed):
    status = Status(version="0", targets=["t"], queue={"t": 3}, wheels=12, builders=2)
    builder = BuilderView(
        builder_id=1, name="pi", state=BuilderState.ACTIVE, mode=Mode.RUN, created_at=AT, built=7
    )
    jobs = [job("waits", build=False), job("good"), job("bad", reason=FailureReason.MISSING_HEADER)]
    return Seen(**{"url": "https://farm", "status": status, "builder": builder, "jobs": jobs, **changed})


@pytest.fixture
def whole(tmp_path):
    """The report of a machine with pip.conf, joined to a master."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pip.conf").write_text(f"[global]\nextra-index-url = {URL}\n")
    at = pip_files.Surroundings(tmp_path, Path("/home/pi"))

    def whole(**changed):
        facts = {
            "roles": ["consumer", "builder"],
            "services": {"piwheels-builder.service": "active (running)"},
            "index": URL,
            "pip": pip_files.look(at),
            "uv": uv_config.look(at),
            "masters": [seen()],
            "health": Health(temperature_c=51.6, memory_available_bytes=437 << 20, load_1m=0.4),
        }
        return Report(**{**facts, **changed})

    return whole


def test_all_is_said_in_plain_lines(whole):
    said = lines(whole())

    assert said[:6] == [
        ("roles", "consumer, builder"),
        ("service", "piwheels-builder.service active (running)"),
        ("pip", f"asks {URL} (by /etc/pip.conf)"),
        ("uv", f"does not ask {URL}"),
        ("master", "https://farm answers: 12 wheels, 3 jobs ready, 2 builders"),
        ("builder", "pi is active, building nothing, 7 built"),
    ]
    assert [words.split(" by ")[0] for topic, words in said if topic == "built"] == [
        "good 1.0: built",
        "bad 1.0: failed (missing-header)",
    ]
    assert said[-1] == ("health", "52 °C, 430 MiB of memory free, load 0")


def test_a_master_that_is_away_is_one_line(whole):
    said = lines(whole(masters=[Seen("https://farm", "no route")]))

    assert ("master", "https://farm does not answer: no route") in said
    assert not [topic for topic, _ in said if topic in {"builder", "built"}]


def test_only_lines_that_differ_are_changes(whole):
    before = lines(whole())

    assert changes(before, lines(whole())) == []
    away = changes(before, lines(whole(masters=[Seen("https://farm", "no route")])))
    assert away == [("master", "https://farm does not answer: no route"), ("builder", "-"), ("built", "-")]


def test_a_little_less_memory_is_no_change():
    one, two = (Health(memory_available_bytes=amount << 20) for amount in (4391, 4320))

    assert health_words(one) == health_words(two) == "4300 MiB of memory free"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (Health(), "not known"),
        (
            Health(undervoltage=True, throttled=True),
            "the power supply is too weak, slowed down by the firmware",
        ),
    ],
)
def test_trouble_of_the_machine_is_in_the_line(known, words):
    assert health_words(known) == words


def test_nobody_at_the_other_end_is_said_and_not_raised():
    answer = report.see(Known("http://127.0.0.1:1"))

    assert answer.status is None
    assert answer.error


def test_the_report_for_scripts_has_the_same(whole):
    told = whole().as_json()

    assert told["roles"] == ["consumer", "builder"]
    assert told["pip"] == {"asks": True, "by": "/etc/pip.conf"}
    assert told["masters"][0]["builder"]["name"] == "pi"
    assert told["masters"][0]["jobs"][1]["project"] == "good"
