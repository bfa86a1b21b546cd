# SPDX-License-Identifier: BSD-3-Clause
"""Who may not speak: without a key, in another's name, from an old process, with a lease that is over."""

import contextlib
import hashlib
import threading
import time
from datetime import timedelta

import httpx
import pytest
from fix_master import OFFER, with_settings
from sqlalchemy import select

from piwheels_node.client import MasterClient
from piwheels_node.core.builders import BuilderState
from piwheels_node.core.errors import LeaseLostError, MasterError, SupersededError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Step
from piwheels_node.core.messages import Heartbeat, Hello, LeaseRequest, Machine, OrdersRequest
from piwheels_node.master.api import refusals
from piwheels_node.master.database.models import Builder, Token

HERE, THERE = "a" * 64, "b" * 64
OLD, NEW = "old-session-0000", "new-session-0000"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Refusals are written at once."""
    monkeypatch.setattr(refusals, "EVERY_S", 0.05)


def is_counted(farm, what, number):
    """True once so many were counted, and no more."""
    deadline = time.monotonic() + 60
    while farm.reader.status().refused.get(what, 0) < number and time.monotonic() < deadline:
        time.sleep(0.05)
    return farm.reader.status().refused.get(what, 0) == number


def other_builder(farm, name="other", **more):
    return contextlib.closing(MasterClient(farm.url, farm.master.create_key("builder", name), **more))


def change(farm, **columns):
    def work(session):
        builder = session.scalars(select(Builder).where(Builder.name == "pi")).one()
        for name, value in columns.items():
            setattr(builder, name, value)
        builder.orders += 1
        session.announce(f"orders:{builder.id}")

    farm.master._database.write(work)


def process(farm, session):
    return contextlib.closing(MasterClient(farm.url, farm.keys["builder"], session=session))


def beat(lease):
    return Heartbeat(token=lease.token, step=Step.BUILD)


def all_calls(farm, client, lease):
    path = farm.wheel()
    return [
        lambda: client.heartbeat(lease, beat(lease)),
        lambda: client.send_log(lease, 0, b"log"),
        lambda: client.upload_wheel(lease, path),
        lambda: client.hand_back(lease),
        lambda: client.refuse(lease, "no"),
        lambda: client.report(lease, farm.built(lease, path)),
    ]


def test_every_call_with_a_stale_token_is_lost_counted_and_logged(farm_of_one, caplog):
    lease = farm_of_one.leased()
    stale = lease.model_copy(update={"token": "x" * 32})
    calls = all_calls(farm_of_one, farm_of_one.builder, stale)
    for call in calls:
        with pytest.raises(LeaseLostError):
            call()
    assert is_counted(farm_of_one, "lost", len(calls))
    assert f"builder pi, POST '/api/v1/jobs/{lease.job_id}/heartbeat'" in caplog.text
    assert farm_of_one.job(lease).state is JobState.LEASED


def test_another_builders_lease_and_upload_are_refused_even_with_the_token(farm_of_one):
    lease = farm_of_one.leased()
    with other_builder(farm_of_one) as thief:
        for call in all_calls(farm_of_one, thief, lease):
            with pytest.raises(LeaseLostError):
                call()
    assert not list((farm_of_one.data / "incoming").glob("*.part"))
    assert farm_of_one.job(lease).state is JobState.LEASED


def test_a_second_result_is_refused_and_changes_nothing(farm_of_one):
    lease = farm_of_one.leased()
    path = farm_of_one.wheel()
    farm_of_one.hand_in(lease, path)
    with pytest.raises(LeaseLostError):
        farm_of_one.builder.report(lease, farm_of_one.built(lease, path))
    with pytest.raises(LeaseLostError):
        farm_of_one.failed(lease, FailureReason.SILENT)
    assert farm_of_one.events(lease).count("built") == 1
    assert farm_of_one.job(lease).state is JobState.BUILT


def test_a_late_heartbeat_and_a_late_result_are_refused(farm_of_one):
    lease = farm_of_one.leased()
    context = farm_of_one.master._context
    now = context.now
    object.__setattr__(context, "now", lambda: now() + timedelta(hours=1))
    for call in (
        lambda: farm_of_one.builder.heartbeat(lease, beat(lease)),
        lambda: farm_of_one.hand_in(lease, farm_of_one.wheel()),
    ):
        with pytest.raises(LeaseLostError):
            call()
    assert farm_of_one.reader.project("little").wheels == []


@pytest.mark.parametrize("what", ["no-key", "unknown", "revoked", "wrong-key"])
def test_a_key_that_opens_nothing_is_refused_and_counted(farm_of_one, what):
    keys = {"unknown": "nobody-knows-this-key", "revoked": farm_of_one.keys["builder"]}
    key = keys.get(what, farm_of_one.keys["operator"])
    if what == "revoked":
        change(farm_of_one, state=BuilderState.REVOKED)
    headers = {} if what == "no-key" else {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{farm_of_one.url}/api/v1/lease", json={"targets": []}, headers=headers)
    assert answer.status_code == {"revoked": 403, "wrong-key": 403}.get(what, 401)
    assert answer.json()["code"] == ("revoked" if what == "revoked" else "error")
    assert is_counted(farm_of_one, "no-key" if what == "unknown" else what, 1)


def test_a_key_that_is_taken_back_opens_nothing_from_then_on(farm_of_one):
    lease = farm_of_one.leased()

    def revoke(session):
        digest = hashlib.sha256(farm_of_one.keys["builder"].encode()).hexdigest()
        token = session.scalars(select(Token).where(Token.sha256 == digest)).one()
        token.revoked_at = token.created_at
        session.announce(f"orders:{token.builder_id}")

    assert farm_of_one.builder.heartbeat(lease, beat(lease)).carry_on
    farm_of_one.master._database.write(revoke)  # as by another master
    with pytest.raises(MasterError, match="does not know this key"):
        farm_of_one.builder.heartbeat(lease, beat(lease))


def test_a_builder_that_waits_for_a_job_hears_that_it_was_revoked(farm_of_one):
    farm_of_one.lease()
    change(farm_of_one, state=BuilderState.PENDING)
    begin = time.monotonic()
    assert farm_of_one.lease(wait_s=0.3) is None, "it waits to be approved"
    change(farm_of_one, state=BuilderState.REVOKED)
    with pytest.raises(MasterError, match="was revoked"):
        farm_of_one.lease(wait_s=20)
    assert time.monotonic() - begin < 15


# --- sessions


def test_of_two_processes_with_one_key_the_older_is_told_and_stopped(farm_of_one):
    with process(farm_of_one, OLD) as old, process(farm_of_one, NEW) as new:
        old.hello(Hello(targets=[OFFER], session=OLD))
        farm_of_one.add_sdist()
        farm_of_one.ask()
        lease = old.lease(LeaseRequest(targets=[OFFER]))
        new.hello(Hello(targets=[OFFER], session=NEW))
        for call in (
            lambda: old.lease(LeaseRequest(targets=[OFFER], wait_s=5)),
            lambda: old.orders(OrdersRequest()),
            *all_calls(farm_of_one, old, lease),
        ):
            with pytest.raises(SupersededError):
                call()
        assert new.lease(LeaseRequest(targets=[OFFER])) is None, "the old one's job is avoided for a while"
    kinds = [event.kind for event in farm_of_one.reader.builder_events("pi")]
    assert kinds == ["started", "superseded", "started"]
    assert is_counted(farm_of_one, "superseded", 8)


def test_who_waits_when_another_process_comes_is_told_at_once(farm_of_one):
    with process(farm_of_one, OLD) as old, process(farm_of_one, NEW) as new:
        old.hello(Hello(targets=[OFFER], session=OLD))
        got = []

        def wait():
            try:
                old.lease(LeaseRequest(targets=[OFFER], wait_s=20))
            except SupersededError as error:
                got.append((error, time.monotonic()))

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        begin = time.monotonic()
        new.hello(Hello(targets=[OFFER], session=NEW))
        thread.join(30)
    assert got[0][1] - begin < 15


def test_a_hello_that_comes_twice_costs_no_job(farm_of_one):
    with process(farm_of_one, NEW) as client:
        client.hello(Hello(targets=[OFFER], session=NEW))
        farm_of_one.add_sdist()
        farm_of_one.ask()
        lease = client.lease(LeaseRequest(targets=[OFFER]))
        client.hello(Hello(targets=[OFFER], session=NEW))
        assert client.heartbeat(lease, beat(lease)).carry_on
    assert [event.kind for event in farm_of_one.reader.builder_events("pi")] == ["started"]


def test_a_builder_without_a_session_needs_none(farm_of_one):
    farm_of_one.builder.hello(Hello(targets=[OFFER]))
    assert farm_of_one.lease() is None
    with process(farm_of_one, NEW) as client:
        client.hello(Hello(targets=[OFFER], session=NEW))
    with pytest.raises(SupersededError):
        farm_of_one.lease()


def test_a_machine_that_was_cloned_with_its_key_is_refused_and_noticed(farm_of_one):
    change(farm_of_one, fingerprint=HERE)
    mine = Hello(targets=[OFFER], session=OLD, machine=Machine(fingerprint=HERE, model="Pi 4", cores=4))
    clone = Hello(targets=[OFFER], session=NEW, machine=Machine(fingerprint=THERE, model="Pi 5"))
    with process(farm_of_one, OLD) as original, process(farm_of_one, NEW) as copy:
        original.hello(mine)
        for _ in range(3):
            with pytest.raises(SupersededError, match="another machine's"):
                copy.hello(clone)
        assert original.lease(LeaseRequest(targets=[OFFER])) is None, "the original goes on"
    events = farm_of_one.reader.builder_events("pi")
    assert [event.kind for event in events] == ["started", "cloned"], "noted once, not each time"
    assert events[1].detail == {"machine": "Pi 5"}
    assert is_counted(farm_of_one, "cloned", 3)
    view = farm_of_one.reader.builder("pi")
    assert (view.machine.model, view.machine.cores) == ("Pi 4", 4)


def test_a_flood_of_refusals_is_a_few_lines_and_few_writes(farm_of_one, caplog, monkeypatch):
    monkeypatch.setattr(refusals, "EVERY_S", 0.5)
    with_settings(farm_of_one, requests_per_s=10_000.0)
    writes = []
    submit = farm_of_one.master._database.submit

    def counted(work):
        writes.append(work)
        return submit(work)

    monkeypatch.setattr(farm_of_one.master._database, "submit", counted)
    with httpx.Client(trust_env=False) as client:
        for _ in range(300):
            client.post(f"{farm_of_one.url}/api/v1/lease", json={"targets": []})
    assert is_counted(farm_of_one, "no-key", 300)
    assert len(caplog.text.splitlines()) < 200
    assert "more such requests" in caplog.text
    assert len(writes) < 20
