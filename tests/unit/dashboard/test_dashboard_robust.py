# SPDX-License-Identifier: BSD-3-Clause
"""What the dashboard does while its master is away, slow or refuses; hostile names; the mouse; deeds."""

from __future__ import annotations

import pytest
from fake_farm import FakeFarm
from made_farms import farm_of, hostile_farm
from rich.color import Color
from textual import events
from textual.geometry import Size

from piwheels_node.core.access import Access
from piwheels_node.core.builders import BuilderState, Mode
from piwheels_node.core.errors import MasterError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import WhoAmI
from piwheels_node.dashboard import app as app_module
from piwheels_node.dashboard.look import FULL
from piwheels_node.dashboard.polling import Answer
from piwheels_node.dashboard.snapshot import LinkState
from piwheels_node.dashboard.words import Place


def busy_farm():
    """Two builders, of which one builds."""
    farm = FakeFarm()
    for name in ("pi-1", "pi-2"):
        farm.add_builder(name)
    farm.job = farm.add_job("numpy", "2.3.1")
    farm.lease(farm.job, "pi-1")
    return farm


# --- the master ----------------------------------------------------------------------------------------


def test_a_master_that_is_away_at_first_is_told_and_shown_when_it_comes(look_at):
    farm = busy_farm()
    farm.go_away()

    async def steps(screen):
        await screen.until("Connection refused")
        assert "nothing was heard so far" in screen.text

        farm.error = None
        screen.app.poll()
        await screen.until("builders 2/2")
        assert "live" in screen.lines[0]
        assert "Connection refused" not in screen.text

    look_at(farm, steps, ready=False)


def test_a_master_that_goes_away_leaves_what_it_said_faint_and_with_its_age(look_at):
    farm = busy_farm()

    async def steps(screen):
        farm.go_away()
        farm.tick(65)
        screen.app.poll()
        await screen.until("no answer")

        assert screen.app.screen.has_class("-stale")
        assert "numpy 2.3.1" in screen.text
        assert "what you see is 1m05s old, asking again every 3600s" in " ".join(screen.text.split())

        farm.error = None
        screen.app.poll()
        await screen.until("live")
        assert not screen.app.screen.has_class("-stale")

    look_at(farm, steps, size=(120, 24))


def test_a_log_is_faint_too_while_the_master_is_away(look_at):
    farm = farm_of(12)

    async def steps(screen):
        log = screen.page.query_one("#log")
        await screen.until(lambda: log.window.lines and not log.window.has_more, "the log")
        styles = {True: set(), False: set()}
        for is_away in (False, True):
            if is_away:
                farm.go_away()
                screen.app.poll()
                await screen.until("no answer")
            for y in range(log.size.height):
                styles[is_away] |= {one.style.color for one in log.render_line(y) if one.text.strip()}

        plain = Color.parse(FULL.foreground)
        assert plain in styles[False]
        assert plain not in styles[True]

    look_at(farm, steps, first=Place("build", "310"))


def test_a_master_that_takes_long_is_told_and_not_asked_again_meanwhile(look_at, monkeypatch):
    monkeypatch.setattr(app_module, "SLOW_S", 0.01)
    farm = busy_farm()

    async def steps(screen):
        farm.gate.clear()
        screen.app.poll()
        await screen.until("takes long to answer")
        asked = len(farm.calls)
        for _ in range(5):
            screen.app.poll()
        await screen.press("down", "r")
        assert len(farm.calls) == asked

        farm.gate.set()
        await screen.until("live")

    look_at(farm, steps)


def test_an_answer_to_something_else_is_none_to_what_takes_long(look_at, monkeypatch):
    farm = busy_farm()

    async def steps(screen):
        monkeypatch.setattr(app_module, "SLOW_S", 0.5)
        farm.gate.clear()
        screen.app.poll()
        screen.app._tell(Answer(screen.app, value=WhoAmI(access=farm.access)))
        await screen.until("takes long to answer")
        farm.gate.set()
        await screen.until("live")

    look_at(farm, steps)


def test_who_asks_while_an_answer_is_under_way_gets_another_one_after_it(look_at):
    farm = busy_farm()

    async def steps(screen):
        asked = screen.calls.count("farm")
        farm.gate.clear()
        for _ in range(3):
            screen.app.poll()
        farm.gate.set()

        await screen.until(lambda: screen.calls.count("farm") == asked + 2, "two answers")
        await screen.until(lambda: screen.app._next is not None, "the end of both")
        assert screen.calls.count("farm") == asked + 2

    look_at(farm, steps)


def test_quitting_waits_for_no_answer(look_at):
    farm = busy_farm()

    async def steps(screen):
        farm.gate.clear()
        screen.app.poll()
        await screen.press("q")

    assert look_at(farm, steps) == 0
    farm.gate.set()


def test_nothing_is_asked_while_nobody_looks(look_at):
    farm = busy_farm()

    async def steps(screen):
        screen.app.post_message(events.AppBlur())
        await screen.until(lambda: not screen.app._has_focus)
        asked = len(farm.calls)
        screen.app.poll()
        await screen.pilot.pause()
        assert len(farm.calls) == asked

        screen.app.post_message(events.AppFocus())
        await screen.until(lambda: len(farm.calls) > asked)

    look_at(farm, steps)


def test_a_builder_that_the_master_does_not_know_is_told(look_at):
    async def steps(screen):
        await screen.until("there is no such builder")
        assert screen.app.link.state is LinkState.LIVE

    look_at(busy_farm(), steps, first=Place("builder", "nobody"), ready=False)


def test_a_value_that_comes_when_its_page_is_left_is_dropped(look_at):
    farm = busy_farm()

    async def steps(screen):
        await screen.press("enter")
        await screen.arrive("builder")
        page = screen.page
        farm.gate.clear()
        screen.app.poll()
        await screen.press("escape")
        farm.gate.set()
        await screen.until(lambda: screen.page.NAME == "home")
        await screen.refresh()
        assert not page.is_attached

    look_at(farm, steps)


# --- what strangers write ------------------------------------------------------------------------------


@pytest.mark.parametrize("console", [False, True])
def test_hostile_names_go_through_every_column_and_every_builder(look_at, console):
    farm = hostile_farm()
    for name in list(farm.logs)[1:]:
        del farm.logs[name][100:]  # one of a megabyte will do

    async def steps(screen):
        for number in range(len(farm.builders_by_name)):
            screen.app.go(Place("builder", f"pi-{number:02}"))
            await screen.arrive("builder")
            await screen.press("v")
            assert all(line.isprintable() for line in screen.lines)
            await screen.press("escape")
        await screen.press(*["o"] * 15)
        assert all(line.isprintable() for line in screen.lines)

    look_at(farm, steps, size=(200, 50), console=console)


def test_a_terminal_of_any_size_is_drawn_on(look_at):
    async def steps(screen):
        for size in ((20, 5), (1, 1), (40, 10), (300, 80), (80, 24)):
            await screen.pilot.resize_terminal(*size)
            await screen.pilot.pause()
            assert len(screen.lines) == size[1]
            assert max(map(len, screen.lines)) <= size[0]
        assert "Builders (12)" in screen.text

    look_at(farm_of(12), steps)


def test_a_size_that_is_told_too_late_is_not_believed_for_long(look_at, monkeypatch):
    """Signals of two sizes may be handled one inside the other; then the older one is told last."""

    async def steps(screen):
        monkeypatch.setattr(app_module.terminal, "size", lambda: Size(100, 30))
        monkeypatch.setattr(app_module.Dashboard, "is_headless", property(lambda _: False))
        screen.app.post_message(events.Resize(Size(60, 12), Size(60, 12)))
        await screen.until(lambda: len(screen.lines) == 12, "the old size")

        await screen.until(lambda: len(screen.lines) == 30, "the size that the terminal has")
        monkeypatch.undo()

    look_at(farm_of(12), steps)


# --- the mouse -----------------------------------------------------------------------------------------


def where(screen, text):
    """The place of a text on the screen."""
    y = next(number for number, line in enumerate(screen.lines) if text in line)
    return screen.lines[y].index(text), y


async def click(screen, text):
    await screen.pilot.click(offset=where(screen, text))
    await screen.pilot.pause()


def test_the_mouse_orders_selects_opens_and_leads(look_at):
    async def steps(screen):
        await click(screen, "temp")
        assert "by temp" in screen.text
        await click(screen, "pi-05")
        assert screen.page.builders.selected.row.name == "pi-05"
        await click(screen, "pi-05")
        await screen.arrive("builder")
        assert screen.page.about == "pi-05"
        await screen.press("escape")

        await click(screen, "failed 9%")
        await screen.arrive("failures")

    look_at(farm_of(12), steps)


def test_a_click_on_a_key_is_as_good_as_the_key(look_at):
    async def steps(screen):
        await click(screen, "! faults")
        assert "faults only" in screen.text
        await click(screen, "? help")
        assert "Escape closes" in screen.text

    look_at(farm_of(12), steps)


def test_a_click_answers_a_question(look_at):
    farm = busy_farm()

    async def steps(screen):
        await screen.press("S")
        await click(screen, "Cancel")
        assert "skip" not in screen.calls
        await screen.press("S")
        await click(screen, "Skip (y)")
        await screen.until("numpy 2.3.1 is cancelled")

    look_at(farm, steps)


# --- who may do what, and what comes of it -------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "words", "state"),
    [
        ("S", "numpy 2.3.1 is cancelled", JobState.CANCELLED),
        ("K", "numpy 2.3.1 is ended, and queued again", JobState.READY),
    ],
)
def test_a_dangerous_deed_names_what_it_touches_and_enter_at_once_means_no(look_at, key, words, state):
    farm = busy_farm()

    async def steps(screen):
        await screen.press(key)
        assert "numpy 2.3.1 on pi-1" in screen.text
        await screen.press("enter")
        assert "numpy 2.3.1 on pi-1" not in screen.text
        assert "skip" not in screen.calls

        await screen.press(key, "y")
        await screen.until(words)
        assert farm.jobs_by_id[farm.job].state is state

    look_at(farm, steps)


def test_pause_and_resume_follow_what_a_builder_was_told(look_at):
    farm = busy_farm()

    async def steps(screen):
        assert "p pause" in screen.lines[-1]
        await screen.press("p")
        await screen.until("pi-1 is told to stand still")
        await screen.until(lambda: screen.page.subject().builder.mode is Mode.PAUSE)
        await screen.press("left")
        assert "u resume" in screen.lines[-1]
        assert "p pause" not in screen.lines[-1]

        await screen.press("u")
        await screen.until("pi-1 goes on")

    look_at(farm, steps)


def test_a_machine_that_has_joined_is_approved(look_at):
    farm = FakeFarm()
    farm.add_builder("pi-9", state=BuilderState.PENDING)

    async def steps(screen):
        assert "A approve" in screen.lines[-1]
        await screen.press("A")
        await screen.until("pi-9 may build")
        await screen.until(lambda: screen.page.subject().builder.state is BuilderState.ACTIVE)

    look_at(farm, steps)


def test_the_whole_farm_is_paused_and_resumed(look_at):
    farm = busy_farm()

    async def steps(screen):
        await screen.press("P", "y")
        await screen.until("farm told to pause")
        await screen.press("U")
        await screen.until(lambda: farm.mode is Mode.RUN)

    look_at(farm, steps)


def test_what_a_reader_may_not_do_is_not_offered(look_at):
    farm = busy_farm()
    farm.access = Access.READER

    async def steps(screen):
        assert "read only" in screen.lines[0]
        assert "pause" not in screen.lines[-1]
        await screen.press("p", "S", "K", "P")
        assert screen.app.screen is screen.page
        await screen.press("question_mark")
        assert "frozen" not in screen.text
        assert {"order", "skip"}.isdisjoint(screen.calls)

    look_at(farm, steps)


def test_what_went_wrong_with_a_deed_is_told(look_at):
    farm = busy_farm()

    async def steps(screen):
        def refuse(*_):
            raise MasterError("the builder has just left", hint="look again", refused=True)

        farm.order = refuse
        await screen.press("p")
        await screen.until("pause: the builder has just left (look again)")

    look_at(farm, steps)


# --- the builder page ----------------------------------------------------------------------------------


def test_the_log_of_what_a_builder_builds_grows_and_the_next_job_begins_a_new_one(look_at):
    farm = busy_farm()
    farm.say(farm.job, b"gcc one.c\n")

    async def steps(screen):
        await screen.until("gcc one.c")
        farm.say(farm.job, b"gcc two.c\n")
        await screen.refresh()
        await screen.until("gcc two.c")

        farm.fail(farm.job, FailureReason.MISSING_HEADER, captured="ffi.h")
        other = farm.add_job("scipy", "1.15")
        farm.lease(other, "pi-1")
        farm.say(other, b"gcc three.c\n")
        await screen.refresh()
        await screen.until("gcc three.c")
        assert "gcc one.c" not in screen.text
        assert "missing-header" in screen.text

    look_at(farm, steps, first=Place("builder", "pi-1"))


def test_the_past_of_a_builder_is_asked_again_only_when_something_was_added(look_at):
    farm = busy_farm()

    async def steps(screen):
        for _ in range(3):
            await screen.refresh()
        assert screen.calls.count("builder_events") == 1

        farm.publish(farm.job)
        await screen.refresh()
        assert screen.calls.count("builder_events") == 2

    look_at(farm, steps, first=Place("builder", "pi-1"))
