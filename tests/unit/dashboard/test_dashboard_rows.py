# SPDX-License-Identifier: BSD-3-Clause
"""What pages ask and make of it, without a screen: nothing twice, and words for every case."""

from __future__ import annotations

import pytest
from fake_farm import FakeFarm
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from piwheels_node.core.errors import MasterError, MasterUnreachableError, StorageError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Priority
from piwheels_node.dashboard import builds, failures, packages, queue, statistics
from piwheels_node.dashboard.builds import About
from piwheels_node.dashboard.drawing import Amount, bars, named, trends, wrapped
from piwheels_node.dashboard.logs import Wish
from piwheels_node.dashboard.look import CONSOLE, FULL
from piwheels_node.dashboard.saving import name_of, save_text
from piwheels_node.dashboard.words import Cell, length, short_target


@pytest.fixture
def farm():
    made = FakeFarm()
    made.add_builder("pi-1")
    return made


def ended(farm, project="lxml", reason=FailureReason.TIMEOUT, version="1.0", **facts):
    job = farm.add_job(project, version)
    farm.lease(job, "pi-1")
    farm.tick(5)
    build = farm.fail(job, reason, **facts) if reason else farm.publish(job)
    return job, build


def asked(farm):
    return [name for name, _, _ in farm.calls]


# --- builds --------------------------------------------------------------------------------------------


def test_a_build_that_stands_still_is_not_asked_for_again(farm):
    job, _ = ended(farm)
    before = builds.look_at(farm, About(job), None, None, farm.now)
    farm.calls.clear()

    builds.look_at(farm, About(job), before, None, farm.now)

    assert asked(farm) == ["job"]


def test_the_log_that_is_read_is_that_of_the_build_in_hand_then_that_of_the_build(farm):
    job = farm.add_job("lxml")
    farm.lease(job, "pi-1")
    farm.say(job, b"one\n")
    live = builds.look_at(farm, About(job), None, Wish(), farm.now)
    farm.fail(job, FailureReason.TIMEOUT)
    then = builds.look_at(farm, About(job), live, Wish(offset=4), farm.now)

    assert live.is_live
    assert not then.is_live
    assert "job_log" in asked(farm)
    assert asked(farm)[-1] == "build_log"
    assert live.log.part.name == then.log.part.name


def test_a_log_that_is_not_kept_is_told_and_the_rest_is_there(farm, monkeypatch):
    job, _ = ended(farm)

    def refuse(*_, **__):
        raise MasterError("the log is not kept any more", refused=True)

    monkeypatch.setattr(farm, "build_log", refuse)
    sight = builds.look_at(farm, About(job), None, Wish(), farm.now)

    assert sight.no_log == "the log is not kept any more"
    assert sight.facts is not None


def test_a_master_that_is_away_is_no_refusal(farm):
    job, _ = ended(farm)
    farm.go_away()

    with pytest.raises(MasterUnreachableError):
        builds.look_at(farm, About(job), None, Wish(), farm.now)


@pytest.mark.parametrize(
    ("about", "read"),
    [("17", About(17)), ("17/3", About(17, 3)), ("x", About(0)), ("", About(0)), ("1/x", About(1))],
)
def test_what_a_page_is_about_is_read_and_never_fails(about, read):
    assert About.of(about) == read


def test_a_report_has_all_that_is_known_and_the_end_of_the_log(farm):
    job, _ = ended(farm, reason=FailureReason.MISSING_HEADER, captured="ffi.h", evidence="fatal: ffi.h")
    sight = builds.look_at(farm, About(job), None, None, farm.now)

    text = builds.report(sight, ["one", "two"])

    assert text.startswith("lxml 1.0  cp311-linux_x86_64-debian12  failed\n")
    assert "reason: missing-header  ffi.h" in text
    assert text.endswith("The end of its log:\n\n    one\n    two\n")


@pytest.mark.parametrize("name", ["../../etc/passwd", ".bashrc", "a/b\x1b[31m", "x" * 500, "名前", ""])
def test_a_file_is_named_after_its_build_and_stays_in_its_directory(farm, name):
    job, build = ended(farm, project=name, version=name)
    made = name_of(builds.look_at(farm, About(job), None, None, farm.now), ".log")

    assert "/" not in made
    assert made.isascii()
    assert made.isprintable()
    assert not made.startswith(".")
    assert made.endswith(f"-build-{build}.log")
    assert len(made) < 200


def test_a_file_is_never_overwritten(tmp_path):
    path = tmp_path / "report.md"
    save_text(path, "one")

    with pytest.raises(StorageError, match="is there already"):
        save_text(path, "two")

    assert path.read_text() == "one"


# --- failures ------------------------------------------------------------------------------------------


def test_failures_are_counted_by_project_the_most_frequent_first(farm):
    for project in ("a", "b", "b", "c"):
        ended(farm, project)

    sight = failures.look_at(farm, failures.About(FailureReason.TIMEOUT), 7, farm.now)
    rows = failures.by_project(sight.builds, farm.now)

    assert [(row.project, row.builds) for row in rows] == [("b", 2), ("a", 1), ("c", 1)]
    assert rows[0].newest.build_id == 3


def test_builds_from_before_the_range_are_left_out(farm):
    ended(farm)
    farm.tick(10 * 86400)
    ended(farm)

    about = failures.About(FailureReason.TIMEOUT)
    assert len(failures.look_at(farm, about, 7, farm.now).builds) == 1
    assert len(failures.look_at(farm, about, 30, farm.now).builds) == 2


def test_ranges_come_one_after_the_other_and_round():
    ranges = [failures.RANGES_DAYS[0]]
    for _ in failures.RANGES_DAYS:
        ranges.append(failures.next_range(ranges[-1]))

    assert ranges == [*failures.RANGES_DAYS, failures.RANGES_DAYS[0]]


def test_a_reason_that_nobody_knows_is_all_reasons():
    assert failures.About.of("no-such-reason/lxml") == failures.About()
    assert failures.About.of("timeout/lxml") == failures.About(FailureReason.TIMEOUT, "lxml")


# --- queue ---------------------------------------------------------------------------------------------


def test_what_jobs_wait_for_is_told(farm):
    first = farm.add_job("first")
    farm.add_job("second")
    farm.add_job("later", state=JobState.DELAYED, not_before_at=farm.now)
    farm.add_job("after", state=JobState.BLOCKED, blocked_on=first)
    farm.add_job("feared", state=JobState.QUARANTINED)

    rows = queue.rows(queue.look_at(farm, "", farm.now))

    assert [(row.job.project, queue.waits_for(row).words) for row in rows] == [
        ("feared", "a person to set it free"),
        ("first", "a builder; it is next"),
        ("second", "a builder; turn 2"),
        ("later", "any moment"),
        ("after", "first, job 1"),
    ]


@pytest.mark.parametrize(
    ("priority", "lane"),
    [(0, Priority.BACKLOG), (150, Priority.RELEASED), (300, Priority.REQUESTED), (-5, Priority.BACKLOG)],
)
def test_a_job_is_in_the_highest_lane_that_it_reaches(priority, lane):
    assert queue.lane_of(priority) is lane


def test_every_lane_has_a_word():
    assert set(queue.WORDS) == set(Priority)


# --- packages ------------------------------------------------------------------------------------------


def test_a_project_that_is_only_here_and_not_on_pypi_is_told_by_its_jobs(farm):
    ended(farm, reason=None)
    ended(farm, version="2.0", reason=FailureReason.TIMEOUT)

    sight = packages.look_at(farm, "lxml", farm.now)

    assert sight.no_plan == "PyPI has no such project"
    rows = packages.offers(sight)
    assert [(row.version, row.verdict) for row in rows] == [("2.0", "failed"), ("1.0", "built")]
    assert rows[0].what == "timeout: The build took longer than it may."
    assert rows[1].what.startswith("the index has lxml-1.0-")
    assert rows[1].wheel is not None


def test_nothing_is_asked_while_nothing_is_typed(farm):
    assert packages.search(farm, "", farm.now).found == ()
    assert asked(farm) == []


# --- drawing -------------------------------------------------------------------------------------------

NAMES = st.text(max_size=60)


@given(
    st.lists(st.tuples(NAMES, st.integers(0, 10**7)), max_size=20),
    st.integers(20, 150),
    st.sampled_from([FULL, CONSOLE]),
)
def test_no_bar_is_wider_than_its_room(amounts, width, look):
    lines = bars([Amount(name, value) for name, value in amounts], width, look.glyphs)

    assert all(length(line) <= width for line in lines)


@given(
    st.lists(st.tuples(NAMES, st.lists(st.integers(0, 99), max_size=400)), max_size=8), st.integers(30, 150)
)
def test_no_trend_is_wider_than_its_room(rows, width):
    lines = trends([(name, values, str(sum(values))) for name, values in rows], width, FULL.glyphs)

    assert all(length(line) <= width for line in lines)


@given(st.text(max_size=300), st.integers(4, 80))
def test_wrapped_words_fit(text, width):
    assert all(cell_len(line) <= width for line in wrapped(text, width))


def test_names_stand_in_front_of_their_values_and_what_is_empty_is_left_out():
    lines = named([("a", [Cell("1")]), ("longer", [Cell("2")]), ("none", [Cell("")])], 80)

    assert ["".join(cell.words for cell in line) for line in lines] == [" a       1", " longer  2"]


def test_pictures_of_nothing_say_so(farm):
    sight = statistics.look_at(farm, 7, farm.now)
    pictures = (statistics.over_time, statistics.per_builder, statistics.reasons, statistics.tags)

    for picture in pictures:
        (line,) = picture(sight, 40, 10, FULL.glyphs)
        assert line[0].words.strip()


@given(st.integers(20, 130), st.integers(3, 30))
def test_pictures_have_the_size_of_their_room(width, height):
    farm = FakeFarm()
    farm.add_builder("pi-1")
    for number in range(12):
        ended(farm, f"project-{number}", None if number % 3 else list(FailureReason)[number])
    sight = statistics.look_at(farm, 30, farm.now)

    for picture in (statistics.over_time, statistics.per_builder, statistics.reasons, statistics.tags):
        lines = picture(sight, width, height, CONSOLE.glyphs)
        assert len(lines) <= max(height, 6), picture
        assert all(length(line) <= width for line in lines[1:]), picture


@pytest.mark.parametrize(
    ("name", "short"),
    [("cp313-linux_armv7l-debian13", "cp313 armv7l deb13"), ("anything else", "anything else"), ("", "")],
)
def test_a_target_is_told_in_few_characters(name, short):
    assert short_target(name) == short
