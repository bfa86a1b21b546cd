# SPDX-License-Identifier: BSD-3-Clause
"""The pages behind the first one: from a number to the list behind it, to the build, to the line of a log."""

from __future__ import annotations

import os

import pytest
from fake_farm import FakeFarm
from made_farms import farm_of, hostile_farm

from piwheels_node.core.access import Access
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Step
from piwheels_node.core.messages import ProjectPlan, ReleasePlan, TargetPlan
from piwheels_node.dashboard.words import Place

TARGET = "cp313-linux_armv7l-debian13"


def failed(farm, project="lxml", version="1.0", lines=300, evidence=250):
    """A job of which a build failed, with a log of so many lines; gives its number."""
    job = farm.add_job(project, version, TARGET)
    farm.lease(job, "pi-1")
    text = [b"cc -c src/%d.c" % number for number in range(1, lines + 1)]
    text[evidence - 1] = b"fatal error: ffi.h: No such file or directory"
    farm.say(job, b"\n".join(text) + b"\n")
    farm.tick(90)
    farm.fail(
        job,
        FailureReason.MISSING_HEADER,
        captured="ffi.h",
        debian_package="libffi-dev",
        evidence="fatal error: ffi.h: No such file or directory",
        evidence_line=evidence,
    )
    return job


def growing(farm, lines=100):
    """A job that is built now, and its log so far."""
    farm.add_builder("pi-1")
    job = farm.add_job("numpy", "2.3.1", TARGET)
    farm.lease(job, "pi-1", Step.BUILD)
    farm.say(job, b"".join(b"line %d\n" % number for number in range(1, lines + 1)))
    return job


@pytest.fixture
def farm():
    made = FakeFarm()
    made.add_builder("pi-1")
    return made


async def log_is_there(screen):
    log = screen.page.query_one("#log")
    await screen.until(lambda: log.window.lines and not log.window.has_more, "the log")
    return log


# --- one build -----------------------------------------------------------------------------------------


def test_a_build_that_failed_opens_at_the_line_that_shows_why(look_at, farm):
    async def steps(screen):
        await log_is_there(screen)
        await screen.until("fatal error: ffi.h")
        assert "missing-header  ffi.h  A C header is not installed." in screen.text
        assert "line 250  fatal error" in screen.text
        assert "libffi-dev" in screen.text
        shown = [line.rstrip("│█ ") for line in screen.lines[8:-1]]
        assert "fatal error: ffi.h: No such file or directory" in shown

        await screen.press("g")
        await screen.until("cc -c src/1.c")
        await screen.press("e")
        await screen.until(lambda: "cc -c src/249.c" in screen.text, "the evidence again")

    look_at(farm, steps, first=Place("build", str(failed(farm))))


def test_a_log_that_grows_is_followed_until_somebody_scrolls_up(look_at):
    farm = FakeFarm()
    job = growing(farm)

    async def steps(screen):
        log = await log_is_there(screen)
        await screen.until("line 100")
        assert "follows" in screen.text

        farm.say(job, b"line 101\n")
        await screen.refresh()
        await screen.until("line 101")

        await screen.press("pageup")
        await screen.until("stands")
        top = screen.lines[6]
        farm.say(job, b"line 102\nline 103\n")
        await screen.refresh()
        await screen.until("2 new lines")
        assert screen.lines[6] == top
        assert "line 103" not in screen.text

        await screen.press("end")
        await screen.until("line 103")
        assert "follows" in screen.text
        assert "new lines" not in screen.text
        assert log.follow

    look_at(farm, steps, first=Place("build", str(job)))


def test_a_build_that_ends_while_it_is_watched_tells_why_it_failed(look_at):
    farm = FakeFarm()
    job = growing(farm)

    async def steps(screen):
        await log_is_there(screen)
        assert "building: build" in screen.text
        assert "fetch prepare ask [build] inspect upload" in screen.text
        farm.say(job, b"cc1: out of memory\n")
        farm.fail(job, FailureReason.OUT_OF_MEMORY, evidence="cc1: out of memory", evidence_line=101)
        await screen.refresh()
        await screen.until("out-of-memory")
        await screen.press("e")
        await screen.until("cc1: out of memory")

    look_at(farm, steps, first=Place("build", str(job)))


def test_words_are_found_in_the_log_forward_and_backward(look_at, farm):
    async def steps(screen):
        log = await log_is_there(screen)
        await screen.press("g", "slash", *"src/10", "enter")
        await screen.until('"src/10"')
        found = [log.found]
        await screen.press("n")
        found.append(log.found)
        await screen.press("N", "N")
        found.append(log.found)
        assert found == [9, 99, 108]

        await screen.press("escape")
        await screen.until(lambda: '"src/10"' not in screen.text, "no search any more")
        assert screen.page.NAME == "build"

    look_at(farm, steps, first=Place("build", str(failed(farm))))


def test_words_that_are_in_no_line_are_told(look_at, farm):
    async def steps(screen):
        await log_is_there(screen)
        await screen.press("slash", *"nowhere", "enter")
        await screen.until("no line has 'nowhere'")

    look_at(farm, steps, first=Place("build", str(failed(farm))))


def test_words_are_found_in_the_part_of_a_long_log_that_is_not_held(look_at, farm):
    job = failed(farm, lines=60_000, evidence=59_990)
    name = farm.build_logs[1]
    farm.logs[name][:14] = b"needle in hay\n"

    async def steps(screen):
        log = screen.page.query_one("#log")
        await screen.until(lambda: log.window.lines, "the log")
        assert log.window.begin > 0
        await screen.press("slash", *"needle", "enter")
        await screen.until("needle in hay")

    look_at(farm, steps, first=Place("build", str(job)))


def test_the_start_of_a_long_log_is_read_when_it_is_wanted(look_at, farm):
    job = failed(farm, lines=60_000, evidence=59_990)

    async def steps(screen):
        log = screen.page.query_one("#log")
        await screen.until(lambda: log.window.lines, "the log")
        await screen.press("g")
        await screen.until("cc -c src/1.c")
        assert log.top_number == 1
        await screen.press("G")
        await screen.until("cc -c src/60000.c")

    look_at(farm, steps, first=Place("build", str(job)))


def test_long_lines_can_be_wrapped(look_at):
    farm = FakeFarm()
    job = growing(farm, lines=1)
    farm.say(job, b"x" * 79 + b"end of the line\n")

    async def steps(screen):
        await log_is_there(screen)
        await screen.until("line 1")
        assert "end of the line" not in screen.text
        await screen.press("w")
        await screen.until("wrapped")
        assert "end of the line" in screen.text

    look_at(farm, steps, first=Place("build", str(job)))


def test_a_log_is_saved_whole_and_never_over_another_file(look_at, farm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = failed(farm, lines=60_000)

    async def steps(screen):
        await screen.press("s")
        await screen.until("bytes are in")
        await screen.press("s")
        await screen.until("is there already")

    look_at(farm, steps, first=Place("build", str(job)))

    (path,) = tmp_path.iterdir()
    assert path.name == "lxml-1.0-build-1.log"
    assert path.read_bytes() == bytes(farm.logs[farm.build_logs[1]])


def test_a_report_has_what_whoever_mends_it_needs(look_at, farm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = failed(farm)

    async def steps(screen):
        await log_is_there(screen)
        await screen.press("B")
        await screen.until("the report is in")

    look_at(farm, steps, first=Place("build", str(job)))

    (path,) = tmp_path.iterdir()
    text = path.read_text()
    assert "reason: missing-header  ffi.h" in text
    assert "    cc -c src/300.c" in text


def test_a_directory_that_cannot_be_written_to_is_told(look_at, farm, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def steps(screen):
        await screen.press("s")
        await screen.until("cannot be written")

    try:
        look_at(farm, steps, first=Place("build", str(failed(farm))))
    finally:
        os.chdir(tmp_path)


def test_other_builds_of_the_project_are_a_view_of_the_page(look_at, farm):
    failed(farm, version="0.9")
    job = failed(farm)

    async def steps(screen):
        await screen.press("v", "v")
        await screen.until("Builds of lxml (2)")
        await screen.press("end", "enter")
        await screen.until("job 1, build 1")

    look_at(farm, steps, first=Place("build", str(job)))


def test_a_job_that_failed_is_built_once_more(look_at, farm):
    job = failed(farm)

    async def steps(screen):
        await screen.press("R")
        await screen.until("is ready again")
        assert farm.jobs_by_id[job].state is JobState.READY

    look_at(farm, steps, first=Place("build", str(job)))


def test_who_may_only_read_is_offered_no_deed(look_at):
    farm = FakeFarm(access=Access.READER)
    farm.add_builder("pi-1")
    job = failed(farm)

    async def steps(screen):
        assert "retry" not in screen.lines[-1]
        await screen.press("R")
        assert "retry" not in screen.calls

    look_at(farm, steps, first=Place("build", str(job)))


def test_a_job_that_nobody_knows_is_told(look_at, farm):
    async def steps(screen):
        await screen.until("there is no such job")

    look_at(farm, steps, first=Place("build", "99"), ready=False)


# --- failures ------------------------------------------------------------------------------------------


def test_from_reasons_to_a_project_to_its_builds_to_the_line_of_the_log(look_at, farm):
    failed(farm)
    failed(farm, version="2.0")

    async def steps(screen):
        assert "missing-header" in screen.text
        await screen.press("enter")
        await screen.until("A C header is not installed (1)")
        await screen.press("enter")
        await screen.until("A C header is not installed: lxml (2)")
        assert "fatal error: ffi.h" in screen.text, "the evidence of the selected build is shown below"
        await screen.press("enter")
        await screen.until("build  job 2, build 2")
        await log_is_there(screen)
        await screen.until("cc -c src/249.c")
        await screen.press("escape", "escape", "escape")
        await screen.until("Why builds failed (1)")

    look_at(farm, steps, first=Place("failures"))


def test_the_range_of_time_is_made_longer(look_at, farm):
    failed(farm)
    farm.tick(20 * 86400)

    async def steps(screen):
        assert "no build has failed in this time" in screen.text
        await screen.press("t")
        await screen.until("30 days: 0 built, 1 failed")
        assert "missing-header" in screen.text

    look_at(farm, steps, first=Place("failures"))


def test_all_that_failed_for_a_reason_is_built_again_after_a_question(look_at, farm):
    jobs = [failed(farm), failed(farm, version="2.0")]

    async def steps(screen):
        await screen.press("A")
        await screen.until("Build all jobs once more")
        await screen.press("enter")
        assert "retry_failed" not in screen.calls, "the focus is on Cancel"
        await screen.press("A")
        await screen.until("Build all jobs once more")
        await screen.press("y")
        await screen.until("2 jobs are queued again")
        assert {farm.jobs_by_id[job].state for job in jobs} == {JobState.READY}

    look_at(farm, steps, first=Place("failures"))


# --- packages ------------------------------------------------------------------------------------------


def planned(farm):
    """A project that PyPI has, of which one target has a wheel there and one is refused."""
    targets = [
        TargetPlan(target=TARGET, verdict="covered", what="PyPI has tiny-1.0-py3-none-any.whl"),
        TargetPlan(target="cp311-linux_armv7l-debian12", verdict="refused", what="requires-python: >=3.12"),
    ]
    releases = [ReleasePlan(version="1.0", sdists=["tiny-1.0.tar.gz"], wheels=1, targets=targets)]
    farm.plans["tiny"] = ProjectPlan(name="tiny", known=1, releases=releases)


def test_a_project_is_found_by_a_part_of_its_name_and_explained(look_at, farm):
    planned(farm)

    async def steps(screen):
        await screen.press(*"tin")
        await screen.until("Projects like tin (1)")
        await screen.press("enter")
        await screen.until("tiny: PyPI has 1 release that tools can install")
        assert "covered   PyPI has tiny-1.0-py3-none" in screen.text
        assert "refused   requires-python: >=" in screen.text
        assert "here: no wheel" in screen.text

    look_at(farm, steps, first=Place("packages"))


def test_a_release_is_asked_for_with_its_target(look_at, farm):
    planned(farm)

    async def steps(screen):
        await screen.press("b")
        await screen.until("tiny 1.0: job 1 is ready")
        assert farm.jobs_by_id[1].target == TARGET

    look_at(farm, steps, first=Place("packages", "tiny"))


def test_a_project_that_nobody_knows_says_so(look_at, farm):
    async def steps(screen):
        await screen.until("PyPI has no such project")

    look_at(farm, steps, first=Place("packages", "nothing-like-it"))


# --- queue and statistics ------------------------------------------------------------------------------


def test_the_queue_tells_lanes_turns_and_what_others_wait_for(look_at):
    async def steps(screen):
        assert "ready 63   delayed 3   blocked 3" in screen.text
        assert "a builder; it is next" in screen.text
        await screen.press("exclamation_mark")
        await screen.until("a person to set it free")
        assert "1m00s more" in screen.text
        assert "cython, job" in screen.text
        await screen.press("enter")
        await screen.until("the job is quarantined")

    look_at(farm_of(12), steps, first=Place("queue"))


def test_one_target_of_the_queue_is_a_page_of_its_own(look_at):
    async def steps(screen):
        await screen.press("tab", "enter")
        await screen.until(lambda: screen.page.about.startswith("cp311"), "the queue of one target")
        await screen.until("Next for cp311")

    look_at(farm_of(12), steps, first=Place("queue"))


def test_the_four_pictures_lead_to_the_failures(look_at):
    async def steps(screen):
        for words in ("Builds over time", "Why builds failed", "Builds per builder", "Wheels by tag"):
            assert words in screen.text
        assert "linux_armv7l" in screen.text
        await screen.press("t")
        await screen.until("90 days")
        await screen.press("tab", "enter")
        await screen.until(lambda: screen.page.NAME == "failures", "the failures")

    look_at(farm_of(12), steps, first=Place("statistics"))


# --- a terminal that changes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        *(Place("build", "198"), Place("build", "310"), Place("failures"), Place("queue")),
        *(Place("packages", "lxml"), Place("packages"), Place("statistics")),
    ],
    ids=str,
)
def test_a_page_is_as_it_was_after_the_terminal_was_tiny_and_huge(look_at, place):
    async def steps(screen):
        if place.page == "build":
            await log_is_there(screen)
        await screen.refresh()
        before = screen.text
        for size in ((20, 5), (1, 1), (250, 80), (80, 24)):
            await screen.pilot.resize_terminal(*size)
            await screen.refresh()
        await screen.until(lambda: screen.text == before, "the same page")

    look_at(farm_of(12), steps, first=place)


# --- hostile words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("console", [False, True], ids=["full", "console"])
@pytest.mark.parametrize(
    "place",
    [
        *(Place("build", str(job)) for job in (1, 4, 6)),
        *(Place("failures", about) for about in ("", "no-sdist", "no-sdist/[/red]")),
        *(Place("queue"), Place("statistics"), Place("packages", "[/red]"), Place("packages", "[bold]x[/]")),
    ],
    ids=str,
)
def test_what_strangers_write_is_shown_as_text_on_every_page(look_at, place, console):
    async def steps(screen):
        await screen.refresh()
        for line in screen.lines:
            assert line.isprintable(), line
        await screen.press("down", "G", "w", "g", "o", "O")
        assert place.page == screen.page.NAME

    look_at(hostile_farm(), steps, first=place, console=console)
