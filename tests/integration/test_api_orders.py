# SPDX-License-Identifier: BSD-3-Clause
"""People direct builders over HTTP, and hundreds of requests wait: orders, pauses, skips, turns."""

import asyncio
import threading
import time

import httpx
import pytest
from fix_master import OFFER, TARGET

from piwheels_node.client import MasterClient
from piwheels_node.core.builders import Mode
from piwheels_node.core.errors import LeaseLostError, MasterError
from piwheels_node.core.jobs import JobState, Step
from piwheels_node.core.messages import BuilderOrder, Heartbeat, Hello, LeaseRequest, OrdersRequest
from piwheels_node.master.jobs import leases


def order(farm, mode, name=None, why="a test"):
    return farm.operator.order(name, BuilderOrder(mode=mode, why=why))


def waiting(call):
    """Begin a call in a thread; gives a function that waits for its result, and when it came."""
    got = []
    thread = threading.Thread(target=lambda: got.append((call(), time.monotonic())))
    thread.start()
    time.sleep(0.3)

    def result():
        thread.join(20)
        return got[0]

    return result


def test_hello_is_answered_with_the_orders(farm_of_one):
    order(farm_of_one, Mode.DRAIN, "pi", "lunch")
    orders = farm_of_one.builder.hello(Hello(targets=[OFFER]))
    assert (orders.mode, orders.why, orders.skip) == (Mode.DRAIN, "lunch", [])


@pytest.mark.parametrize("name", ["pi", None])
def test_who_waits_for_orders_hears_of_them_at_once(farm_of_one, name):
    builder = farm_of_one.builder
    first = builder.hello(Hello(targets=[OFFER]))
    result = waiting(lambda: builder.orders(OrdersRequest(seen=first.serial, wait_s=20)))
    ordered_at = time.monotonic()
    order(farm_of_one, Mode.PAUSE, name, "sawing")
    orders, at = result()
    assert (orders.mode, orders.why) == (Mode.PAUSE, "sawing")
    assert orders.serial > first.serial
    assert at - ordered_at < 15


def test_orders_that_are_not_new_are_waited_for_as_long_as_one_likes(farm_of_one):
    seen = farm_of_one.builder.hello(Hello(targets=[OFFER])).serial
    begin = time.monotonic()
    assert farm_of_one.builder.orders(OrdersRequest(seen=seen, wait_s=0.4)).serial == seen
    assert 0.35 < time.monotonic() - begin < 20
    assert farm_of_one.builder.orders(OrdersRequest(wait_s=20)).serial == seen, "who has seen none is told"


@pytest.mark.parametrize("mode", [Mode.PAUSE, Mode.DRAIN])
@pytest.mark.parametrize("name", ["pi", None])
def test_a_builder_that_stands_still_gets_no_job_until_it_runs_and_then_at_once(farm_of_one, mode, name):
    order(farm_of_one, mode, name)
    farm_of_one.add_sdist()
    farm_of_one.ask()
    assert farm_of_one.lease(wait_s=0.3) is None
    result = waiting(lambda: farm_of_one.lease(wait_s=20))
    assert farm_of_one.reader.status().jobs["ready"] == 1
    ordered_at = time.monotonic()
    order(farm_of_one, Mode.RUN, name)
    lease, at = result()
    assert lease.project == "little"
    assert at - ordered_at < 15


def test_a_paused_builder_keeps_its_lease_by_heartbeats(farm_of_one):
    lease = farm_of_one.leased()
    order(farm_of_one, Mode.PAUSE)
    beat = Heartbeat(token=lease.token, step=Step.BUILD)
    assert farm_of_one.builder.heartbeat(lease, beat).carry_on
    assert farm_of_one.job(lease).state is JobState.LEASED


def test_what_a_builder_skips_is_cancelled_and_its_calls_are_lost(farm_of_one):
    lease = farm_of_one.leased()
    seen = farm_of_one.builder.orders(OrdersRequest()).serial
    result = waiting(lambda: farm_of_one.builder.orders(OrdersRequest(seen=seen, wait_s=20)))
    (skipped,) = farm_of_one.operator.skip("pi")
    assert (skipped.job_id, skipped.state) == (lease.job_id, JobState.CANCELLED)
    assert result()[0].skip == [lease.job_id]
    assert farm_of_one.events(lease)[-1] == "cancelled"
    for call in (
        lambda: farm_of_one.builder.heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD)),
        lambda: farm_of_one.builder.report(lease, farm_of_one.built(lease, farm_of_one.wheel())),
        lambda: farm_of_one.builder.hand_back(lease),
    ):
        with pytest.raises(LeaseLostError):
            call()
    asked = farm_of_one.ask()
    assert asked.job.state is JobState.READY, "a person may change their mind"


def test_all_that_builders_hold_is_skipped(farm_of_one):
    held = [farm_of_one.leased(name) for name in ("one", "two", "three")]
    assert [job.job_id for job in farm_of_one.operator.skip(None)] == [lease.job_id for lease in held]
    assert farm_of_one.operator.skip(None) == []
    assert farm_of_one.reader.status().jobs["cancelled"] == 3


def test_a_job_is_cancelled_by_its_number(farm_of_one):
    lease = farm_of_one.leased()
    assert farm_of_one.operator.cancel(lease.job_id).state is JobState.CANCELLED
    with pytest.raises(MasterError, match="ended already"):
        farm_of_one.operator.cancel(lease.job_id)
    with pytest.raises(MasterError, match="no such job"):
        farm_of_one.operator.cancel(99)


def test_only_operators_direct_builders(farm_of_one):
    calls = [
        lambda client: client.order("pi", BuilderOrder(mode=Mode.PAUSE)),
        lambda client: client.order(None, BuilderOrder(mode=Mode.PAUSE)),
        lambda client: client.skip("pi"),
        lambda client: client.skip(None),
        lambda client: client.cancel(1),
    ]
    for client in (farm_of_one.builder, farm_of_one.reader):
        for call in calls:
            with pytest.raises(MasterError):
                call(client)
    assert farm_of_one.reader.status().mode is Mode.RUN
    with pytest.raises(MasterError, match="no such builder"):
        farm_of_one.operator.order("nobody", BuilderOrder(mode=Mode.PAUSE))


def test_the_farms_order_is_shown_in_the_status_and_a_builders_in_its_view(farm_of_one):
    assert order(farm_of_one, Mode.DRAIN, None, "moving house").mode is Mode.DRAIN
    status = farm_of_one.reader.status()
    assert (status.mode, status.why) == (Mode.DRAIN, "moving house")
    view = order(farm_of_one, Mode.PAUSE, "pi", "hot")
    assert (view.name, view.mode, view.why) == ("pi", Mode.PAUSE, "hot")
    assert [event.kind for event in farm_of_one.reader.builder_events("pi")] == ["ordered"]


def test_a_builder_that_refuses_a_job_leaves_it_to_another_one(farm_of_one):
    lease = farm_of_one.leased()
    farm_of_one.builder.refuse(lease, "it needs 4 GiB")
    assert farm_of_one.lease() is None, "it does not get it again"
    with MasterClient(farm_of_one.url, farm_of_one.master.create_key("builder", "large")) as large:
        again = large.lease(LeaseRequest(targets=[OFFER]))
    assert (again.job_id, farm_of_one.job(again).attempts) == (lease.job_id, 1)
    assert farm_of_one.events(lease) == ["queued", "leased", "refused", "leased"]
    with pytest.raises(LeaseLostError):
        farm_of_one.builder.refuse(lease, "again")


# --- many who wait


@pytest.fixture
def looks(monkeypatch):
    """Who has looked for a job in the queue."""
    seen = []
    look = leases.look

    def counted(session, speaker, *args, **more):
        seen.append(speaker.name)
        return look(session, speaker, *args, **more)

    monkeypatch.setattr(leases, "look", counted)
    return seen


def poll_all(farm, looks, number, jobs, then):
    """`number` builders wait for a job; gives what came, and when, once `jobs` came after `then`."""
    keys = [farm.master.create_key("builder", f"pi-{one}") for one in range(number)]
    got = []

    async def poll(client, key):
        answer = await client.post(
            f"{farm.url}/api/v1/lease",
            json=LeaseRequest(targets=[OFFER], wait_s=60).model_dump(mode="json"),
            headers={"Authorization": f"Bearer {key}"},
        )
        got.append((answer.json()["project"], time.monotonic()))

    async def until(condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    async def all_of_them():
        limits = httpx.Limits(max_connections=number)
        async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:
            polls = [asyncio.ensure_future(poll(client, key)) for key in keys]
            await until(lambda: len(looks) >= number)
            await asyncio.sleep(0.3)
            looks.clear()
            await asyncio.to_thread(then)
            await until(lambda: len(got) >= jobs)
            await asyncio.sleep(0.5)
            for one in polls:
                one.cancel()
            await asyncio.gather(*polls, return_exceptions=True)

    asyncio.run(all_of_them())
    return got


def test_one_job_for_fifty_who_wait_is_about_one_look_and_reaches_one_at_once(farm_of_one, looks):
    farm_of_one.add_sdist()
    asked = []

    def ask():
        farm_of_one.ask()
        asked.append(time.monotonic())

    ((project, at),) = poll_all(farm_of_one, looks, 50, 1, ask)
    assert project == "little"
    assert at - asked[0] < 15
    assert len(looks) <= 3


def test_thirty_jobs_for_thirty_who_wait_reach_them_all(farm_of_one, looks):
    names = [f"little-{number}" for number in range(30)]
    for name in names:
        farm_of_one.add_sdist(name)

    def ask():
        for name in names:
            farm_of_one.ask(name)

    got = poll_all(farm_of_one, looks, 30, 30, ask)
    assert sorted(project for project, _ in got) == sorted(names)
    assert farm_of_one.reader.status().queue == {}


def test_a_builder_that_has_gone_gets_no_job(farm_of_one):
    key = {"Authorization": f"Bearer {farm_of_one.keys['builder']}"}
    body = LeaseRequest(targets=[OFFER], wait_s=20).model_dump(mode="json")
    with httpx.Client(timeout=0.5, trust_env=False) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{farm_of_one.url}/api/v1/lease", json=body, headers=key)
    farm_of_one.add_sdist()
    farm_of_one.ask()
    time.sleep(0.3)
    job = farm_of_one.reader.jobs()[0]
    assert (job.state, job.attempts) == (JobState.READY, 0)
    assert farm_of_one.reader.status().queue == {TARGET: 1}
