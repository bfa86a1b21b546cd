# SPDX-License-Identifier: BSD-3-Clause
"""What a builder may send: how often, how much, how deep, and which numbers and texts."""

import json
import socket
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fix_master import OFFER, with_settings

from piwheels_node.client import MasterClient
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import Health, Heartbeat, LeaseRequest, Report
from piwheels_node.master.api import limits
from piwheels_node.master.api.limits import Bucket, storable_body
from piwheels_node.master.api.problems import MalformedError
from piwheels_node.master.builders import control


def key(farm, kind="builder"):
    return {"Authorization": f"Bearer {farm.keys[kind]}", "Content-Type": "application/json"}


def post(farm, path, content, **headers):
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.post(f"{farm.url}/api/v1{path}", content=content, headers={**key(farm), **headers})


def is_alive(farm):
    begin = time.monotonic()
    farm.reader.status()
    return time.monotonic() - begin < 15


def in_chunks(size, chunk=b" " * 65536):
    for _ in range(size // len(chunk)):
        yield chunk


def test_a_message_that_says_it_is_too_large_is_refused_unread(farm_of_one):
    answer = post(farm_of_one, "/lease", b" " * (3 << 20))
    assert answer.status_code == 413
    assert answer.json()["what"] == f"a message may have {1 << 20} bytes"
    assert is_alive(farm_of_one)


def test_a_message_of_a_hundred_megabytes_is_not_read_to_its_end(farm_of_one):
    """Its length is not announced; the answer may be lost in the reset of the connection, nothing else."""
    sent = []

    def body():
        for chunk in in_chunks(100 << 20):
            sent.append(len(chunk))
            yield chunk

    try:
        answer = post(farm_of_one, "/lease", body())
    except httpx.TransportError:
        pass
    else:
        assert answer.status_code == 413
    assert sum(sent) < 50 << 20
    assert is_alive(farm_of_one)
    assert farm_of_one.lease() is None


def test_a_message_that_does_not_arrive_is_given_up(farm_of_one, monkeypatch):
    monkeypatch.setattr(limits, "BODY_WITHIN_S", 0.3)
    host, port = farm_of_one.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /api/v1/lease HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        said = b""
        while part := connection.recv(65536):
            said += part
    assert said.startswith(b"HTTP/1.1 400")
    assert b"did not arrive" in said


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"targets":' * 20_000 + b"1" + b"}" * 20_000,
        b'{"targets": [' + b'"\\u0000' + b"[" * 100_000,
        b"\xff\xfe{\x00}\x00",
        b'{"targets": "\xed\xa0\x80"}',
        b"nonsense",
        b"",
        b"null",
        b'{"targets": [], "wait_s": NaN}',
        b'{"targets": [], "wait_s": Infinity}',
        b'{"targets": [], "memory_bytes": 99999999999999999999999999}',
        json.dumps({"targets": [OFFER.model_dump()] * 65}).encode(),
    ],
    ids=range(12),
)
def test_a_message_that_is_no_lease_request_is_refused_with_a_reason(farm_of_one, body):
    answer = post(farm_of_one, "/lease", body)
    assert answer.status_code in {400, 422}
    assert answer.json()["what"]
    assert is_alive(farm_of_one)


def test_texts_that_a_database_refuses_are_put_right(farm_of_one):
    lease = farm_of_one.leased()
    report = Report(token=lease.token, outcome=Outcome.FAILED, reason=FailureReason.SILENT, duration_s=1)
    body = json.loads(report.model_dump_json()) | {"captured": "a\0b", "evidence": "half \ud800 of a pair"}
    answer = post(farm_of_one, f"/jobs/{lease.job_id}/report", json.dumps(body).encode())
    assert answer.status_code == 200
    build = farm_of_one.job(lease).build
    assert (build.captured, build.evidence) == ("a\ufffdb", "half \ufffd of a pair")


@pytest.mark.parametrize("field", ["peak_memory_bytes", "evidence_line", "duration_s", "cpu_s"])
@pytest.mark.parametrize("value", ["1e999", "-1e999", "NaN", "9" * 400])
def test_numbers_that_a_database_refuses_are_refused(farm_of_one, field, value):
    lease = farm_of_one.leased()
    fields = {"token": f'"{lease.token}"', "outcome": '"failed"', "duration_s": "1", field: value}
    body = "{" + ",".join(f'"{name}": {text}' for name, text in fields.items()) + "}"
    answer = post(farm_of_one, f"/jobs/{lease.job_id}/report", body.encode())
    assert (answer.status_code, answer.json()["where"]) == (422, f"body.{field}")
    assert farm_of_one.job(lease).state is JobState.LEASED


@pytest.mark.parametrize("path", ["/jobs/99999999999999999999", "/jobs/0/log", "/jobs/-1/events"])
def test_a_number_that_no_job_has_is_refused(farm_of_one, path):
    assert httpx.get(f"{farm_of_one.url}/api/v1{path}").status_code == 422


@pytest.mark.parametrize("years", [-1000, -1, 1, 5000])
def test_a_builders_clock_is_only_told_as_skew(farm_of_one, years):
    lease = farm_of_one.leased()
    at = datetime.now(UTC) + timedelta(days=365.25 * years)
    beat = Heartbeat(token=lease.token, step=Step.BUILD, health=Health(at=at, temperature_c=48.5))
    assert farm_of_one.builder.heartbeat(lease, beat).carry_on
    view = farm_of_one.reader.builder("pi")
    assert abs(view.clock_skew_s - years * 365.25 * 86400) < 60
    assert view.health.temperature_c == 48.5
    assert abs((view.last_seen_at - datetime.now(UTC)).total_seconds()) < 60
    assert farm_of_one.hand_in(lease, farm_of_one.wheel()).outcome is Outcome.BUILT


# --- how often


def test_a_builder_that_asks_too_often_is_told_when_to_come_again(farm_of_one):
    lease = farm_of_one.leased()
    with_settings(farm_of_one, requests_per_s=1.0)
    beat = Heartbeat(token=lease.token, step=Step.BUILD).model_dump_json()
    with httpx.Client(trust_env=False) as client:
        url = f"{farm_of_one.url}/api/v1/jobs/{lease.job_id}/heartbeat"
        answers = [client.post(url, content=beat, headers=key(farm_of_one)) for _ in range(30)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 15 <= len(refused) < 30
        assert refused[0].json()["code"] == "too-often"
        time.sleep(int(refused[-1].headers["retry-after"]))
        assert client.post(url, content=beat, headers=key(farm_of_one)).status_code == 200
    with MasterClient(farm_of_one.url, farm_of_one.master.create_key("builder", "other")) as other:
        assert other.lease(LeaseRequest(targets=[OFFER])) is None, "others are not to blame"


def test_the_bucket_of_a_builder_fills_again_with_time():
    bucket = Bucket(0.0)
    assert [bucket.wait_s(10, 0.0) for _ in range(20)] == [0.0] * 20
    assert bucket.wait_s(10, 0.0) == pytest.approx(0.1)
    assert bucket.wait_s(10, 0.1) == 0.0
    assert bucket.wait_s(10, 0.1) > 0
    assert [bucket.wait_s(10, 100.0) for _ in range(20)] == [0.0] * 20


def test_a_heartbeat_each_moment_writes_health_now_and_then(farm_of_one, monkeypatch):
    lease = farm_of_one.leased()
    noted = []
    note_health = control.note_health

    def noting(session, builder_id, health, now):
        noted.append(health)
        note_health(session, builder_id, health, now)

    monkeypatch.setattr(control, "note_health", noting)
    for why in [None] * 5 + ["hot"] * 5 + [None]:
        health = Health(paused_itself=why)
        farm_of_one.builder.heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD, health=health))
    assert [health.paused_itself for health in noted] == [None, "hot", None]
    kinds = [event.kind for event in farm_of_one.reader.builder_events("pi")]
    assert kinds == ["paused-itself", "resumed-itself"]


# --- bodies


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (b'{"a": "b"}', b'{"a": "b"}'),
        ('{"a": "ü"}'.encode(), '{"a": "ü"}'.encode()),
        (b'["\\u0000", "\\ud800", "\\ud83d\\ude00"]', b'["\\ufffd", "\\ufffd", "\\ud83d\\ude00"]'),
        (b'{"\\u0000": [1, null, true]}', b'{"\\ufffd": [1, null, true]}'),
        (b'"\\u0000', b'"\\u0000'),
    ],
)
def test_a_body_is_what_every_database_can_store(body, stored):
    assert storable_body(body) == stored


def test_a_body_in_another_encoding_is_refused():
    with pytest.raises(MalformedError, match="UTF-8"):
        storable_body("{}".encode("utf-16"))
