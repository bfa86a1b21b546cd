# SPDX-License-Identifier: BSD-3-Clause
"""What the first page asks: of many builders those that are seen, and the others now and then."""

from __future__ import annotations

import pytest
from fake_farm import FakeFarm

from piwheels_node.core.messages import Health
from piwheels_node.dashboard.snapshot import FAILURES_EVERY_S, REST_EVERY_S, farm

NEEDED, FIRST = 10, 16


@pytest.fixture
def master():
    made = FakeFarm()
    for number in range(40):
        made.add_builder(f"pi-{number:02}")
    return made


def seconds(master, number):
    """Time goes on, and every machine is heard of and gets warmer."""
    master.tick(number)
    for name in master.builders_by_name:
        warm = Health(temperature_c=50.0 + master.now.minute)
        master.change_builder(name, health=warm, last_seen_at=master.now)


def asked(master, *more):
    """What `farm` asks the master, and what comes of it."""
    before = len(master.calls)
    came = farm(master, *more)
    return [words.get("first", name) for name, _, words in master.calls[before:]], came


def test_of_many_builders_only_the_first_are_asked_for_and_the_others_stay_as_they_were(master):
    calls, whole = asked(master)
    assert calls == [None, "failures"]
    assert (whole.fresh, len(whole.builders)) == (40, 40)
    seconds(master, 2)

    calls, now = asked(master, whole, NEEDED)

    assert calls == [FIRST]
    assert [one.name for one in now.builders] == [one.name for one in whole.builders]
    assert {one.last_seen_at for one in now.builders[:FIRST]} == {master.now}
    assert now.builders[FIRST:] == whole.builders[FIRST:]
    assert now.is_fresh(FIRST)
    assert not now.is_fresh(FIRST + 1)
    assert not now.is_fresh(None)


def test_who_orders_or_filters_gets_all_of_them(master):
    whole = farm(master)
    seconds(master, 2)

    calls, now = asked(master, whole, None)

    assert calls == [None]
    assert {one.last_seen_at for one in now.builders} == {master.now}
    assert now.is_fresh(None)


def test_where_another_builder_stands_among_the_first_all_are_asked_for(master):
    """The one that stood there before is further down now, and what was known of it is not true any more."""
    whole = farm(master)
    master.change_builder("pi-30", last_seen_at=None)

    calls, now = asked(master, whole, NEEDED)

    assert calls == [FIRST, None]
    assert now.builders[0].name == "pi-30"
    assert sorted(one.name for one in now.builders) == sorted(master.builders_by_name)


def test_what_is_not_seen_is_asked_for_now_and_then_by_the_masters_clock(master):
    known, at = farm(master), master.now
    told = []
    while (master.now - at).total_seconds() < REST_EVERY_S:
        seconds(master, 5)
        calls, known = asked(master, known, NEEDED)
        told.append(calls)

    assert told[-1][:2] == [FIRST, None]
    assert all(None not in calls for calls in told[:-1])
    assert sum("failures" in calls for calls in told) == REST_EVERY_S // FAILURES_EVERY_S
    assert {one.last_seen_at for one in known.builders} == {master.now}


def test_a_farm_whose_builders_all_are_seen_is_asked_once(master):
    for name in list(master.builders_by_name)[FIRST - 1 :]:
        del master.builders_by_name[name]
    whole = farm(master)
    seconds(master, 2)

    calls, now = asked(master, whole, NEEDED)

    assert calls == [FIRST]
    assert (len(now.builders), now.is_fresh(None)) == (FIRST - 1, True)
