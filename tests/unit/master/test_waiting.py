# SPDX-License-Identifier: BSD-3-Clause
"""Requests that wait: who is woken by a job, by orders, and by the end of the master."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from piwheels_node.master.api import waiting as module
from piwheels_node.master.api.problems import ClosingError
from piwheels_node.master.api.waiting import Waiting


class Queue:
    """Ready jobs, each with the builders that may have it; None: everybody."""

    def __init__(self):
        self.jobs = []
        self.looks = []

    def add(self, waiting, target="a", only=None):
        self.jobs.append((target, only))
        waiting.announce(f"ready:{target}")

    def look(self, builder, targets, turn):
        """The job for a builder, and whether there are more of `turn`."""
        self.looks.append(builder)
        mine = [job for job in self.jobs if job[0] in targets and (job[1] is None or builder in job[1])]
        if mine:
            self.jobs.remove(mine[0])
        return bool(mine), any(job[0] == turn for job in self.jobs)


async def poll(waiting, queue, builder, *, targets=("a",), wait_s=5.0, look_s=0.0, runs=lambda: True):
    """As `/lease` does it; gives whether there was a job."""
    with waiting.ticket(builder, targets) as ticket:
        while not waiting.closing and wait_s > 0:
            turn = ticket.begin()
            may, found = runs(), False
            if may:
                found, more = queue.look(builder, targets, turn)
            else:
                more = any(job[0] == turn for job in queue.jobs)
            await asyncio.sleep(look_s)
            ticket.looked(more=more)
            if found:
                return True
            before = asyncio.get_running_loop().time()
            await ticket.wait(wait_s, for_jobs=may)
            wait_s -= asyncio.get_running_loop().time() - before
    return False


def run(story):
    async def told():
        waiting, queue = Waiting(), Queue()
        tasks = []

        def begin(builder, **more):
            tasks.append(asyncio.ensure_future(poll(waiting, queue, builder, **more)))
            return tasks[-1]

        try:
            await asyncio.wait_for(story(waiting, queue, begin), 20)
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        assert waiting._rooms == {}
        assert waiting._of_builder == {}

    asyncio.run(told())


async def settle():
    for _ in range(200):
        await asyncio.sleep(0)


async def all_waiting(begin, number, **more):
    tasks = [begin(builder, **more) for builder in range(number)]
    await settle()
    return tasks


def test_one_job_wakes_one_of_many_who_wait_and_the_first_who_came():
    async def story(waiting, queue, begin):
        tasks = await all_waiting(begin, 50)
        queue.looks.clear()
        queue.add(waiting)
        await settle()
        assert queue.looks == [0]
        assert tasks[0].result() is True
        assert not any(task.done() for task in tasks[1:])

    run(story)


def test_many_jobs_wake_as_many_and_nobody_is_forgotten():
    async def story(waiting, queue, begin):
        tasks = await all_waiting(begin, 100)
        queue.looks.clear()
        for _ in range(60):
            queue.add(waiting)
        await settle()
        assert sum(task.done() for task in tasks) == 60
        assert queue.jobs == []
        assert len(queue.looks) <= 2 * 60 + 1

    run(story)


def test_one_announcement_of_several_jobs_is_passed_on():
    async def story(waiting, queue, begin):
        tasks = await all_waiting(begin, 10)
        queue.jobs += [("a", None)] * 4
        queue.looks.clear()
        queue.add(waiting)
        await settle()
        assert sum(task.done() for task in tasks) == 5
        assert len(queue.looks) <= 6

    run(story)


def test_a_job_that_the_first_may_not_have_reaches_the_one_who_may():
    async def story(waiting, queue, begin):
        tasks = await all_waiting(begin, 10)
        queue.add(waiting, only={7})
        await settle()
        assert [task.done() for task in tasks] == [number == 7 for number in range(10)]

    run(story)


def test_jobs_that_nobody_may_have_do_not_wake_everybody_for_each():
    async def story(waiting, queue, begin):
        await all_waiting(begin, 50)
        queue.looks.clear()
        for _ in range(1000):
            queue.add(waiting, only=())
        await settle()
        await settle()
        assert len(queue.looks) <= 50 * (module._TURNS_AT_ONCE + 1)
        queue.add(waiting, only={49})
        await settle()
        assert ("a", {49}) not in queue.jobs, "it is found all the same"

    run(story)


def test_a_job_is_told_only_to_who_serves_its_target():
    async def story(waiting, queue, begin):
        other = begin(1, targets=("b",))
        both = begin(2, targets=("a", "b"))
        await settle()
        queue.looks.clear()
        queue.add(waiting, "a")
        await settle()
        assert queue.looks == [2]
        assert (both.done(), other.done()) == (True, False)

    run(story)


def test_a_job_that_comes_while_somebody_looks_is_not_missed():
    async def story(waiting, queue, begin):
        task = begin(1, look_s=0.05)
        await asyncio.sleep(0.01)  # it has looked, and not heard yet that there was nothing
        queue.add(waiting)
        assert await asyncio.wait_for(task, 1) is True

    run(story)


def test_who_gets_a_job_while_another_one_is_announced_to_it_passes_that_on():
    async def story(waiting, queue, begin):
        queue.jobs.append(("a", None))
        first = begin(1, look_s=0.05)
        await asyncio.sleep(0.01)
        second = begin(2)
        await settle()
        queue.add(waiting)  # the turn of the first, which has found its job by now
        assert await asyncio.wait_for(first, 1) is True
        assert await asyncio.wait_for(second, 1) is True

    run(story)


def test_a_turn_of_who_goes_away_is_the_next_ones():
    async def story(waiting, queue, begin):
        tasks = await all_waiting(begin, 3)
        queue.add(waiting)
        tasks[0].cancel()
        await settle()
        assert tasks[1].done()

    run(story)


def test_who_is_paused_is_no_hindrance_and_is_woken_by_its_orders():
    async def story(waiting, queue, begin):
        modes = {1: False}
        paused = begin(1, runs=lambda: modes[1])
        running = begin(2)
        await settle()
        queue.add(waiting)
        await settle()
        assert (paused.done(), running.done()) == (False, True)
        queue.jobs.append(("a", None))
        modes[1] = True
        waiting.announce("orders:1")
        await settle()
        assert paused.result() is True

    run(story)


@pytest.mark.parametrize(
    ("topic", "woken"),
    [("orders", {1, 2}), ("orders:2", {2}), ("*", {1, 2}), ("orders:x", set()), ("x", set())],
)
def test_orders_wake_those_whom_they_are_for(topic, woken):
    async def story(waiting, queue, begin):
        begin(1)
        begin(2)
        await settle()
        queue.looks.clear()
        waiting.announce(topic)
        await settle()
        assert set(queue.looks) == woken

    run(story)


def test_an_announcement_that_was_lost_costs_half_a_minute(monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.05)

    async def story(waiting, queue, begin):
        task = begin(1)
        await settle()
        queue.jobs.append(("a", None))
        assert await asyncio.wait_for(task, 1) is True

    run(story)


def test_the_end_of_the_master_ends_all_waiting():
    async def story(waiting, queue, begin):
        tasks = await all_waiting(begin, 5)
        waiting.close()
        await settle()
        assert [task.result() for task in tasks] == [False] * 5
        with pytest.raises(ClosingError):
            await waiting.unless_closed(asyncio.sleep(5))

    run(story)


def test_announcements_come_from_any_thread_and_without_anybody_waiting():
    async def story(waiting, queue, begin):
        task = begin(1)
        await settle()
        queue.jobs.append(("a", None))
        await asyncio.to_thread(waiting.announce, "ready:a")
        assert await asyncio.wait_for(task, 1) is True

    Waiting().announce("ready:a")
    run(story)
