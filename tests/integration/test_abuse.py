# SPDX-License-Identifier: BSD-3-Clause
"""What a broken or hostile builder may do to a master: be refused, in clear words, and nothing else.

The master is a process of its own; while it is abused it answers others within a second and does not grow
(`siege.watched`). `siege` fixtures are in `fix_siege`.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from piwheels_node.client import MasterClient
from piwheels_node.core.errors import LeaseLostError, MasterError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import (
    Health,
    Heartbeat,
    JoinRequest,
    Machine,
    Report,
    TokenRequest,
)

MACHINE = Machine(fingerprint="ab" * 32)
OTHER_MACHINE = Machine(fingerprint="cd" * 32)
GIB = 1 << 30
JSON = {"Content-Type": "application/json"}


def is_published(siege, project):
    return httpx.get(f"{siege.url}/simple/{project}/", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("wheel", "claim", "reason"),
    [
        ({}, {"size_bytes": 4711}, FailureReason.BUILDER_FAILED),
        ({}, {"sha256": "0" * 64}, FailureReason.BUILDER_FAILED),
        ({"name": "something-else"}, {}, FailureReason.WHEEL_WRONG_NAME),
        ({"version": "99"}, {}, FailureReason.WHEEL_WRONG_NAME),
        ({"metadata_name": "something-else"}, {}, FailureReason.WHEEL_WRONG_NAME),
        ({"tags": "cp39-cp39-win_amd64"}, {}, FailureReason.WHEEL_WRONG_ARCH),
        ({}, {"filename": "../../evil-1-py3-none-any.whl"}, FailureReason.WHEEL_INVALID),
    ],
)
def test_a_builder_that_lies_is_found_out(siege, wheel, claim, reason):
    lease = siege.lease()
    path = siege.wheel(lease, **wheel)
    siege.builders[0].upload_wheel(lease, path)

    answer = siege.builders[0].report(lease, siege.built(lease, path, **claim))

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, reason)
    assert not is_published(siege, lease.project)


def test_more_than_was_declared_is_not_taken(siege):
    lease = siege.lease()
    path = siege.wheel(lease)
    token = lease.token

    with siege.watched():
        head = siege.head(f"/jobs/{lease.job_id}/wheel?offset=0&size=10", method="PUT", X_Lease_Token=token)
        status, _ = siege.say(head, path.read_bytes())
        assert status == 422
        chunked = siege.head(
            f"/jobs/{lease.job_id}/wheel?offset=0&size=10",
            method="PUT",
            X_Lease_Token=token,
            Transfer_Encoding="chunked",
        )
        status, sent = siege.pour(chunked, chunked=True)
        assert status in {0, 413, 422}
        assert sent < 64 << 20
        huge = siege.head(
            f"/jobs/{lease.job_id}/wheel?offset=0&size={100 * GIB}",
            method="PUT",
            X_Lease_Token=token,
            Content_Length=str(100 * GIB),
        )
        status, sent = siege.pour(huge, chunked=False)
        assert status in {413, 507}
        assert sent < 64 << 20


@pytest.mark.parametrize("declared", [True, False])
def test_a_part_of_a_log_with_10_gb_is_cut_short(siege, declared):
    lease = siege.lease()
    how = {"Content_Length": str(10 * GIB)} if declared else {"Transfer_Encoding": "chunked"}
    head = siege.head(f"/jobs/{lease.job_id}/log?offset=0", method="PUT", X_Lease_Token=lease.token, **how)

    with siege.watched():
        status, sent = siege.pour(head, chunked=not declared)

    assert status in {0, 413}
    assert sent < 64 << 20
    siege.builders[0].heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD))


def test_a_log_that_grows_without_end_stops_on_the_disk(make_siege):
    siege = make_siege(builder__log_max_bytes=1 << 20, requests_per_s=1000)
    lease = siege.lease()
    part, offset = b"and again and again\n" * 13_000, 0

    with siege.watched():
        for _ in range(200):
            offset = siege.builders[0].send_log(lease, offset, part)

    (path,) = (siege.data / "logs").rglob("*.log")
    assert path.stat().st_size <= (1 << 20) + (64 << 10)
    assert offset == 200 * len(part)


def test_a_heartbeat_each_millisecond_is_told_to_wait(make_siege):
    siege = make_siege(requests_per_s=5)
    lease = siege.lease(5)
    health = Health(at=datetime.now(UTC), load_1m=1.0)
    beat = Heartbeat(token=lease.token, step=Step.BUILD, health=health).model_dump_json().encode()
    head = siege.head(f"/jobs/{lease.job_id}/heartbeat", builder=5, Content_Length=str(len(beat)))
    heard = bytearray()

    with siege.watched(), siege.connect() as connection:
        reader = threading.Thread(target=_hear, args=(connection, heard))
        reader.start()
        until = time.monotonic() + 3
        sent = 0
        while time.monotonic() < until:
            connection.sendall(head + beat)
            sent += 1
            time.sleep(0.001)
        until = time.monotonic() + 60
        while heard.count(b"HTTP/1.1 ") < sent and time.monotonic() < until:
            time.sleep(0.05)
        connection.shutdown(2)
        reader.join()

    answers = Counter(int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", heard))
    assert sent > 300  # on a machine that has other things to do
    assert answers.keys() == {200, 429}
    assert answers.total() == sent
    assert answers[200] < sent / 2
    assert heard.lower().count(b"retry-after:") == answers[429]
    time.sleep(1)
    siege.builders[5].heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD))
    other = siege.lease(1)
    siege.builders[1].heartbeat(other, Heartbeat(token=other.token, step=Step.BUILD))


def _hear(connection, heard):
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            heard += part


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("path", ["/hello", "/lease", "/requests", "/join"])
def test_json_of_100_mb_is_refused_before_it_is_read(siege, declared, path):
    how = {"Content_Length": str(100 << 20)} if declared else {"Transfer_Encoding": "chunked"}
    head = siege.head(path, **how)

    with siege.watched():
        status, sent = siege.pour(head, chunked=not declared)

    assert status in {401, 403, 413}  # whoever may not ask at all is told that first
    assert sent < 16 << 20


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"targets": ' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        b'{"targets": [], "more": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        b'{"targets": [' + b",".join([b'{"name": "x", "environment_id": "y"}'] * 20_000) + b"]}",
        b'{"targets": [], "slots": 1e999}',
        b'{"targets": [], "slots": ' + b"9" * 200_000 + b"}",
        b'{"targets": [{"name": "\\ud800", "environment_id": "x"}]}',
        b'{"targets": [{"name": "a\\u0000b", "environment_id": "x"}]}',
        b"\xff\xfe\x00",
        b"",
    ],
    ids=[
        "open",
        "deep-list",
        "deep-object",
        "many",
        "infinite",
        "digits",
        "surrogate",
        "nul",
        "bytes",
        "empty",
    ],
)
def test_json_that_makes_no_sense_is_refused(siege, body):
    with siege.watched():
        status, answer = siege.say(siege.head("/hello"), body)

    assert 400 <= status < 500
    assert json.loads(answer)["what"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_none_are_refused(siege, number):
    lease = siege.lease()
    text = f'{{"token": "{lease.token}", "step": "build", "health": {{"load_1m": {number}}}}}'
    head = siege.head(f"/jobs/{lease.job_id}/heartbeat")

    status, answer = siege.say(head, text.encode())

    assert status == 422
    assert json.loads(answer)["what"]
    siege.builders[0].heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD))


@pytest.mark.parametrize("days", [-365, 365, 365 * 5000])
def test_a_builder_whose_clock_is_off_keeps_its_lease(siege, days):
    lease = siege.lease()
    theirs = datetime.now(UTC) + timedelta(days=days)

    for _ in range(2):
        answer = siege.builders[0].heartbeat(
            lease, Heartbeat(token=lease.token, step=Step.BUILD, health=Health(at=theirs))
        )

    assert answer.carry_on
    path = siege.wheel(lease)
    siege.builders[0].upload_wheel(lease, path)
    assert siege.builders[0].report(lease, siege.built(lease, path)).outcome is Outcome.BUILT
    build = siege.reader.job(lease.job_id).build
    assert abs(build.started_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_join_token_opens_once_and_not_when_it_is_over_or_revoked(siege):
    once = siege.operator.create_token(TokenRequest())
    short = siege.operator.create_token(TokenRequest(lasts_s=1))
    gone = siege.operator.create_token(TokenRequest())
    siege.operator.revoke_token(gone.token_id)
    siege.reader.join(JoinRequest(token=once.token, name="pi-new", machine=MACHINE))
    time.sleep(1.1)

    for token in (once.token, short.token, gone.token, "made-up-by-a-guesser"):
        with pytest.raises(MasterError):
            siege.reader.join(
                JoinRequest(token=token, name="pi-other", machine=Machine(fingerprint="cd" * 32))
            )

    assert "pi-other" not in {builder.name for builder in siege.reader.builders()}


def test_guessing_join_tokens_is_slowed_down(make_siege):
    siege = make_siege()
    with siege.watched():
        statuses = []
        body = JoinRequest(token="x" * 40, name="pi-x", machine=MACHINE).model_dump_json().encode()
        with httpx.Client(trust_env=False) as client:
            for _ in range(500):
                answer = client.post(f"{siege.url}/api/v1/join", content=body, headers=JSON)
                statuses.append(answer.status_code)

    assert set(statuses) <= {401, 403, 429}
    assert statuses.count(429) > 300


def test_another_builders_lease_and_upload_are_out_of_reach(siege):
    lease = siege.lease(0)
    path = siege.wheel(lease)
    thief = siege.builders[1]
    siege.builders[0].upload_wheel(lease, path)

    for call in (
        lambda: thief.heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD)),
        lambda: thief.send_log(lease, 0, b"nonsense"),
        lambda: thief.upload_wheel(lease, siege.wheel(lease, version="99")),
        lambda: thief.report(lease, Report(token=lease.token, outcome=Outcome.FAILED, duration_s=1)),
        lambda: thief.hand_back(lease),
    ):
        with pytest.raises(LeaseLostError):
            call()

    assert siege.builders[0].report(lease, siege.built(lease, path)).outcome is Outcome.BUILT
    assert is_published(siege, lease.project)


@pytest.mark.parametrize("key", [None, "made-up", "x" * 5000, "operator"])
def test_who_has_no_builders_key_gets_no_job(siege, key):
    held = siege.reader.status().jobs["leased"]
    key = siege.operator_key if key == "operator" else key
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    with httpx.Client(trust_env=False, headers=headers) as client:
        answers = [
            client.post(f"{siege.url}/api/v1/{path}", json={"targets": []})
            for path in ("lease", "hello", "jobs/1/hand-back")
        ]

    assert {answer.status_code for answer in answers} <= {401, 403}
    assert all(answer.json()["what"] for answer in answers)
    assert siege.reader.status().jobs["leased"] == held


def test_a_revoked_builder_is_out_at_once(siege):
    lease = siege.lease(4)

    siege.operator.revoke("pi-0005")

    until = time.monotonic() + 3
    while time.monotonic() < until:
        with contextlib.suppress(MasterError):
            siege.builders[4].heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD))
            time.sleep(0.1)
            continue
        break
    else:
        pytest.fail("its key still opens everything")
    assert siege.reader.job(lease.job_id).state is not JobState.LEASED


def test_uploads_that_trickle_hold_up_nobody(siege):
    lease, other = siege.lease(0), siege.lease(1)
    path = siege.wheel(other)
    slow = [siege.connect() for _ in range(150)]
    head = siege.head(
        f"/jobs/{lease.job_id}/wheel?offset=0&size=100000",
        method="PUT",
        X_Lease_Token=lease.token,
        Content_Length="100000",
    )

    with siege.watched():
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else head[:40])
        for _ in range(10):
            time.sleep(0.1)
            for connection in slow:
                with contextlib.suppress(ConnectionError):  # the master need not bear it
                    connection.sendall(b"x")
        siege.builders[1].upload_wheel(other, path)
        assert siege.builders[1].report(other, siege.built(other, path)).outcome is Outcome.BUILT

    for connection in slow:
        connection.close()


def test_noise_on_the_port_is_no_end(siege):
    with siege.watched():
        for noise in (
            b"\x16\x03\x01" + b"\x00" * 500,
            b"GET / HTTP/9.9\r\n\r\n",
            b"\0" * 5000,
            b"A" * 200_000,
        ):
            with siege.connect() as connection, contextlib.suppress(ConnectionError):
                connection.sendall(noise)
                connection.settimeout(0.5)
                with contextlib.suppress(TimeoutError):
                    connection.recv(4096)
        head = siege.head("/status", method="GET", builder=None, **{f"X_{n}": "y" * 4000 for n in range(200)})
        with siege.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(head)
            connection.recv(4096)

    with MasterClient(siege.url) as client:
        assert client.status().jobs["ready"] > 0
