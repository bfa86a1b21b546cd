# SPDX-License-Identifier: BSD-3-Clause
"""Joining, approving, revoking and purging by the API of a running master, with and without TLS."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fix_master import OFFER, TARGET, FarmOfOne

from piwheels_node.client import MasterClient
from piwheels_node.client.pinning import fetch_certificate, split_token
from piwheels_node.core.builders import BuilderState
from piwheels_node.core.errors import KeyRefusedError, LeaseLostError, MasterError, MasterUnreachableError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import (
    Hello,
    JoinRequest,
    LeaseRequest,
    Machine,
    Purge,
    TokenRequest,
)
from piwheels_node.master.running.certificate import keep_certificate

ONE, OTHER = "1" * 64, "2" * 64


def request(token, name="pi-1", machine=ONE, key=None):
    return JoinRequest(token=token, name=name, machine=Machine(fingerprint=machine), key=key)


def token(farm, **wanted):
    return farm.operator.create_token(TokenRequest(**wanted)).token


def joined(farm, name="pi-1", machine=ONE, **wanted):
    """A client of a builder that has joined."""
    answer = farm.reader.join(request(token(farm, **wanted), name, machine))
    client = MasterClient(farm.url, answer.key)
    client.hello(Hello(targets=[OFFER], machine=Machine(fingerprint=machine)))
    return client


def take(client):
    lease = client.lease(LeaseRequest(targets=[OFFER]))
    assert lease is not None
    return lease


def test_a_machine_joins_by_token_and_builds(farm_of_one):
    with joined(farm_of_one) as client:
        farm_of_one.add_sdist()
        farm_of_one.ask()
        lease = take(client)
        path = farm_of_one.wheel()
        client.upload_wheel(lease, path)
        assert client.report(lease, farm_of_one.built(lease, path)).outcome is Outcome.BUILT

    view = farm_of_one.reader.builder("pi-1")
    assert (view.state, view.built) == (BuilderState.ACTIVE, 1)
    assert view.machine.fingerprint == ONE


def test_joining_twice_is_joining_once(farm_of_one):
    secret = token(farm_of_one)
    first = farm_of_one.reader.join(request(secret))
    assert farm_of_one.reader.join(request(secret, key=first.key)) == first

    with pytest.raises(MasterError, match="used up"):
        farm_of_one.reader.join(request(secret, "pi-2", OTHER))
    with pytest.raises(MasterError, match="another machine has this name") as caught:
        farm_of_one.reader.join(request(token(farm_of_one), "pi-1", OTHER))
    assert caught.value.refused


def test_tokens_are_for_operators_only(farm_of_one):
    def asked_by(client):
        purge = Purge(since=datetime.now(UTC), why="x")
        return [
            lambda: client.create_token(TokenRequest()),
            client.tokens,
            lambda: client.revoke_token(1),
            lambda: client.approve("pi"),
            lambda: client.revoke("pi"),
            lambda: client.purge("pi", purge),
        ]

    for ask in asked_by(farm_of_one.reader):
        with pytest.raises(KeyRefusedError):
            ask()
    for ask in asked_by(farm_of_one.builder):
        with pytest.raises(MasterError, match="only an operator"):
            ask()


def test_a_list_of_tokens_has_no_secret_and_a_revoked_one_opens_nothing(farm_of_one):
    made = farm_of_one.operator.create_token(TokenRequest(uses=3, note="class 7b"))

    (listed,) = farm_of_one.operator.tokens()
    assert (listed.token, listed.uses_left, listed.note) == (None, 3, "class 7b")

    farm_of_one.operator.revoke_token(made.token_id)
    assert farm_of_one.operator.tokens()[0].revoked
    with pytest.raises(MasterError, match="revoked"):
        farm_of_one.reader.join(request(made.token))
    with pytest.raises(MasterError, match="no such join token"):
        farm_of_one.operator.revoke_token(999)


@pytest.mark.parametrize(
    "wanted", [{"uses": 0}, {"uses": -1}, {"lasts_s": 0}, {"lasts_s": 1e12}, {"uses": 10**9}]
)
def test_a_token_that_makes_no_sense_is_refused(farm_of_one, wanted):
    answer = httpx.post(
        f"{farm_of_one.url}/api/v1/tokens",
        json=wanted,
        timeout=60,
        headers={"Authorization": f"Bearer {farm_of_one.keys['operator']}"},
    )

    assert answer.status_code == 422


def test_thirty_machines_join_at_once_with_one_token_and_the_next_one_is_refused(farm_of_one):
    secret = token(farm_of_one, uses=30)
    keys, refused = [], []

    def machine(number):
        with MasterClient(farm_of_one.url) as client:
            try:
                keys.append(client.join(request(secret, f"pi-{number}", f"{number:064x}")).key)
            except MasterError as error:
                refused.append(error.what)

    threads = [threading.Thread(target=machine, args=(number,)) for number in range(31)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(keys)) == 30
    assert refused == ["this join token is used up"]


def test_guessing_is_slowed_down_counted_and_no_hindrance_to_others(farm_of_one):
    with httpx.Client(base_url=farm_of_one.url) as client:
        codes = [
            client.post("/api/v1/join", json=request(f"guess-number-{number:04d}").model_dump(mode="json"))
            for number in range(20)
        ]

    assert codes[0].status_code == 403
    assert codes[-1].status_code == 429
    assert codes[-1].json()["code"] == "too-often"
    assert int(codes[-1].headers["Retry-After"]) > 0
    assert farm_of_one.reader.join(request(token(farm_of_one))).key
    farm_of_one.master._context.refusals.flush(farm_of_one.master._database).result()
    assert farm_of_one.reader.status().refused["join"] == 20


def test_a_pending_builder_gets_no_job_until_a_person_approves_it(farm_of_one):
    with joined(farm_of_one, needs_approval=True) as client:
        farm_of_one.add_sdist()
        farm_of_one.ask()
        assert client.lease(LeaseRequest(targets=[OFFER])) is None

        assert farm_of_one.operator.approve("pi-1").state is BuilderState.ACTIVE

        assert take(client).project == "little"
    with pytest.raises(MasterError, match="no such builder"):
        farm_of_one.operator.approve("nobody")


def test_a_revoked_builder_is_told_so_and_its_job_goes_to_another_at_once(farm_of_one):
    with joined(farm_of_one) as client:
        farm_of_one.add_sdist()
        farm_of_one.ask()
        lease = take(client)

        assert farm_of_one.operator.revoke("pi-1").state is BuilderState.REVOKED

        for call in (
            lambda: client.hand_back(lease),
            lambda: client.lease(LeaseRequest(targets=[OFFER])),
            lambda: client.hello(Hello(targets=[OFFER])),
        ):
            with pytest.raises(KeyRefusedError):
                call()
    again = farm_of_one.lease()
    assert again.job_id == lease.job_id
    assert farm_of_one.job(again).attempts == 1
    with pytest.raises(MasterError, match="was revoked"):
        farm_of_one.reader.join(request(token(farm_of_one)))


def test_a_machine_that_joins_again_without_its_key_makes_the_old_key_void(farm_of_one):
    with joined(farm_of_one) as client:
        farm_of_one.add_sdist()
        farm_of_one.ask()
        lease = take(client)
        farm_of_one.reader.join(request(token(farm_of_one)))

        with pytest.raises((KeyRefusedError, LeaseLostError)):
            client.hand_back(lease)
    assert farm_of_one.job(lease).state is JobState.READY


def published(farm, client, name, version="1.0"):
    """A wheel of this builder in the index; gives its job and its file name."""
    farm.add_sdist(name, version)
    farm.ask(name, version)
    lease = take(client)
    path = farm.wheel(name, version)
    client.upload_wheel(lease, path)
    assert client.report(lease, farm.built(lease, path)).outcome is Outcome.BUILT
    return lease, path


def test_a_purge_withdraws_blocks_and_builds_anew_elsewhere(farm_of_one):
    farm = farm_of_one
    with joined(farm, "honest", OTHER) as honest, joined(farm, "broken-into") as client:
        kept = published(farm, honest, "kept")[1].name
        before = published(farm, client, "before")[1].name
        since = datetime.now(UTC)
        lease, path = published(farm, client, "little")
        page = httpx.get(
            f"{farm.index_url}little/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
        )
        (file,) = page.json()["files"]

        done = farm.operator.purge("broken-into", Purge(since=since, why="somebody was inside"))

        assert (done.wheels, done.jobs) == ([path.name], 1)
        assert httpx.get(f"{farm.index_url}little/").status_code == 404
        for url in (file["url"], f"{file['url']}.metadata"):
            assert httpx.get(str(page.url.join(url))).status_code == 404
        assert "little" not in httpx.get(farm.index_url).text
        assert {kept, before} == {
            one["filename"]
            for name in ("kept", "before")
            for one in httpx.get(
                f"{farm.index_url}{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
            ).json()["files"]
        }
        assert farm.reader.status().wheels == 2
        assert farm.events(lease)[-1] == "requeued"
        assert farm.job(lease).state is JobState.READY
        assert farm.reader.builder_events("broken-into")[-1].kind == "purged"

        assert client.lease(LeaseRequest(targets=[OFFER])) is None
        again = take(honest)
        assert again.job_id == lease.job_id
        assert path.name in again.taken_names
        honest.upload_wheel(again, path)
        refused = honest.report(again, farm.built(again, path))
        assert (refused.outcome, refused.reason) == (Outcome.FAILED, FailureReason.WHEEL_INVALID)


def test_a_purge_takes_as_many_steps_as_it_needs_and_a_second_one_finds_nothing(farm_of_one, monkeypatch):
    monkeypatch.setattr("piwheels_node.master.builders.purge._AT_ONCE", 2)
    since = datetime.now(UTC) - timedelta(hours=1)
    names = [farm_of_one.publish(f"thing-{number}").name for number in range(5)]
    wanted = Purge(since=since, why="distrust")

    assert sorted(farm_of_one.operator.purge("pi", wanted).wheels) == sorted(names)
    assert farm_of_one.operator.purge("pi", wanted).wheels == []
    assert farm_of_one.reader.status().wheels == 0
    with pytest.raises(MasterError, match="no such builder"):
        farm_of_one.operator.purge("nobody", wanted)


def test_the_list_of_projects_notices_a_purge_and_a_publication_that_leave_as_many_wheels(farm_of_one):
    farm = farm_of_one
    since = datetime.now(UTC)
    farm.publish("gone")
    assert "gone" in httpx.get(farm.index_url).text
    farm.operator.purge("pi", Purge(since=since, why="distrust"))
    farm.publish("come")

    deadline = time.monotonic() + 60
    while "come" not in (listed := httpx.get(farm.index_url).text):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "gone" not in listed


def test_a_wheel_that_was_rebuilt_since_leaves_its_job_alone(farm_of_one):
    farm = farm_of_one
    since = datetime.now(UTC)
    farm.publish()
    farm.operator.purge("pi", Purge(since=since, why="once"))
    with joined(farm, "other", OTHER) as other:
        lease = take(other)
        path = farm.wheel(build="1")
        other.upload_wheel(lease, path)
        assert other.report(lease, farm.built(lease, path)).outcome is Outcome.BUILT

    assert farm.operator.purge("pi", Purge(since=since, why="twice")).wheels == []
    assert farm.job(lease).state is JobState.BUILT


@pytest.fixture
def farm_with_tls(tmp_path, pypi):
    data = tmp_path / "master"
    (data / "keys").mkdir(parents=True)
    keep_certificate(data, ["localhost", "127.0.0.1"], datetime.now(UTC))
    certificate = (data / "certificate.pem").read_text()

    farm = FarmOfOne(data, pypi)
    for name in ("operator", "builder"):
        getattr(farm, name).close()
        setattr(farm, name, MasterClient(farm.url, farm.keys[name], certificate=certificate))
    yield farm
    farm.close()


def test_over_tls_the_token_leads_to_the_certificate_and_a_job(farm_with_tls):
    farm = farm_with_tls
    assert farm.url.startswith("https://")
    secret, pin = split_token(token(farm))
    certificate = fetch_certificate(farm.url, pin)
    assert certificate == (farm.data / "certificate.pem").read_text()

    with MasterClient(farm.url, certificate=certificate) as newcomer:
        key = newcomer.join(request(secret)).key
    with MasterClient(farm.url, key, certificate=certificate) as client:
        client.hello(Hello(targets=[OFFER]))
        farm.add_sdist()
        farm.ask()
        assert take(client).target == TARGET

    with pytest.raises(MasterUnreachableError, match="not believed"):
        farm.reader.status()


def test_a_token_of_another_master_does_not_lead_here(farm_with_tls):
    _, pin = split_token(f"{'x' * 22}.{'ab' * 32}")

    with pytest.raises(MasterError, match="another server"):
        fetch_certificate(farm_with_tls.url, pin)
