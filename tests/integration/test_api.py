# SPDX-License-Identifier: BSD-3-Clause
"""The master's API over real HTTP, through the client that builders and commands use."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta

import httpx
import pytest
from fix_master import OFFER, TARGET, FarmOfOne, with_settings

from piwheels_node.client import MasterClient
from piwheels_node.core import errors
from piwheels_node.core.errors import (
    LeaseLostError,
    MasterError,
    MasterUnreachableError,
    NodeError,
    NotOnPyPIError,
    PyPIError,
    StorageError,
    UsageError,
)
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import BuildRequest, Health, Heartbeat, Hello, LeaseRequest, LogPart, Report
from piwheels_node.core.settings import MasterSettings, Settings
from piwheels_node.master.api import problems
from piwheels_node.master.database.models import Builder, Token
from piwheels_node.master.service import Master


def offer(environment_id):
    return OFFER.model_copy(update={"environment_id": environment_id})


def beat(lease, step=Step.BUILD):
    return Heartbeat(token=lease.token, step=step, health=Health(load_1m=0.5))


# --- asking for a build


def test_a_request_becomes_a_job_that_a_builder_gets(farm_of_one):
    farm_of_one.add_sdist("Little_One", "1.0", requires_python=">=3.8")
    answer = farm_of_one.ask("little.one")
    assert (answer.project, answer.version, answer.outcome) == ("little-one", "1.0", None)
    assert answer.job.state is JobState.READY
    lease = farm_of_one.lease()
    assert (lease.project, lease.version, lease.target) == ("little-one", "1.0", TARGET)
    assert lease.sdist.filename == "Little_One-1.0.tar.gz"
    assert lease.sdist.url.startswith(farm_of_one.pypi.url)
    assert lease.limits.wheel_bytes == farm_of_one.settings.builder.wheel_max_bytes
    assert farm_of_one.job(lease).state is JobState.LEASED
    assert farm_of_one.lease() is None


def test_asking_twice_makes_one_job(farm_of_one):
    farm_of_one.add_sdist()
    assert farm_of_one.ask().job.job_id == farm_of_one.ask().job.job_id
    assert farm_of_one.reader.status().jobs["ready"] == 1


def test_without_a_target_the_newest_that_is_offered_is_meant(farm_of_one):
    farm_of_one.add_sdist()
    wanted = BuildRequest(project="little")
    with pytest.raises(MasterError, match="no builder has joined") as error:
        farm_of_one.operator.request(wanted)
    assert error.value.refused
    newer = OFFER.model_copy(update={"name": "cp311-linux_x86_64-debian13"})
    older = OFFER.model_copy(update={"name": "cp39-linux_x86_64-debian11"})
    farm_of_one.builder.lease(LeaseRequest(targets=[older, newer]))
    assert farm_of_one.operator.request(wanted).target == newer.name
    assert farm_of_one.reader.status().targets == [newer.name, older.name]


def test_a_release_that_pypi_has_a_wheel_of_is_covered_unless_forced(farm_of_one):
    farm_of_one.add_sdist()
    farm_of_one.pypi.add(farm_of_one.wheel(), project="little")
    answer = farm_of_one.ask()
    assert (answer.outcome, answer.wheel, answer.job) == (
        Outcome.COVERED,
        "little-1.0-py3-none-any.whl",
        None,
    )
    assert farm_of_one.ask(force=True).job.state is JobState.READY
    assert farm_of_one.lease().taken_names == ["little-1.0-py3-none-any.whl"]


def test_a_release_that_cannot_be_built_is_refused_with_the_reason(farm_of_one):
    farm_of_one.add_sdist(version="1.0", requires_python=">=3.12")
    farm_of_one.pypi.add(farm_of_one.wheel("other", tags="py2-none-any"), project="other")
    answer = farm_of_one.ask()
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, FailureReason.REQUIRES_PYTHON)
    assert farm_of_one.ask("other").reason is FailureReason.NO_SDIST
    assert farm_of_one.reader.jobs() == []


def test_what_is_not_on_pypi_is_refused_with_a_hint(farm_of_one):
    farm_of_one.add_sdist()
    with pytest.raises(NotOnPyPIError, match="PyPI has no project nothing") as error:
        farm_of_one.ask("nothing")
    assert error.value.hint == "is the name right?"
    with pytest.raises(NotOnPyPIError, match=r"no version 2\.0"):
        farm_of_one.ask(version="2.0")
    with pytest.raises(MasterError, match="is not a target"):
        farm_of_one.operator.request(BuildRequest(project="little", target="pi"))
    farm_of_one.pypi.fail("/simple/", 503)
    with pytest.raises(PyPIError, match="PyPI could not be asked"):
        farm_of_one.ask()


def test_a_job_that_builders_die_of_is_freed_by_force_only(farm_of_one):
    with_settings(farm_of_one, retry_delay_s=0.0)
    farm_of_one.leased()
    for _ in range(farm_of_one.settings.master.max_attempts):
        farm_of_one.builder.hello(Hello(targets=[OFFER]))  # the builder has died, and starts again
        farm_of_one.builder.lease(LeaseRequest(targets=[OFFER], wait_s=1))
    asked = farm_of_one.ask()
    assert (asked.outcome, asked.job.state) == (Outcome.FAILED, JobState.QUARANTINED)
    assert farm_of_one.ask(force=True).job.state is JobState.READY


# --- the way of a build


def test_a_wheel_is_published_and_the_same_request_is_then_answered_with_it(farm_of_one):
    lease = farm_of_one.leased()
    path = farm_of_one.wheel()
    farm_of_one.builder.heartbeat(lease, beat(lease))
    answer = farm_of_one.hand_in(lease, path)
    assert answer.outcome is Outcome.BUILT
    again = farm_of_one.ask()
    assert (again.outcome, again.wheel) == (Outcome.BUILT, path.name)
    assert again.size_bytes == path.stat().st_size
    job = farm_of_one.job(lease)
    assert (job.state, job.attempts, job.build.builder) == (JobState.BUILT, 1, "pi")
    assert (job.build.duration_s, job.build.wheel) == (1.5, path.name)
    assert farm_of_one.events(lease) == ["queued", "leased", "step", "built"]
    project = farm_of_one.reader.project("Little")
    assert [wheel.filename for wheel in project.wheels] == [path.name]
    assert [one.job_id for one in project.jobs] == [lease.job_id]
    status = farm_of_one.reader.status()
    assert (status.wheels, status.wheels_bytes, status.builders) == (1, path.stat().st_size, 1)
    assert status.jobs["built"] == 1


@pytest.mark.parametrize(
    ("lies", "claims", "reason"),
    [
        ({"metadata_version": "2.0"}, {}, FailureReason.WHEEL_WRONG_NAME),
        ({"bad_hash": "little.py"}, {}, FailureReason.WHEEL_INVALID),
        ({"tags": "cp39-cp39-linux_armv7l"}, {}, FailureReason.WHEEL_WRONG_ARCH),
        ({}, {"sha256": "0" * 64}, FailureReason.BUILDER_FAILED),
        ({}, {"filename": "../../little-1.0-py3-none-any.whl"}, FailureReason.WHEEL_INVALID),
    ],
)
def test_a_wheel_that_lies_is_a_failure_and_not_in_the_index(farm_of_one, lies, claims, reason):
    with_settings(farm_of_one, max_attempts=1)
    lease = farm_of_one.leased()
    answer = farm_of_one.hand_in(lease, farm_of_one.wheel(**lies), **claims)
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, reason)
    assert answer.what
    job = farm_of_one.job(lease)
    assert (job.state, job.build.reason) == (JobState.FAILED, reason)
    assert httpx.get(f"{farm_of_one.index_url}little/").status_code == 404
    assert not list((farm_of_one.data / "incoming").iterdir())


def test_a_failure_is_kept_with_all_that_explains_it(farm_of_one):
    lease = farm_of_one.leased()
    farm_of_one.failed(lease, FailureReason.MISSING_HEADER)
    build = farm_of_one.job(lease).build
    assert (build.reason, build.captured, build.debian_package) == (
        FailureReason.MISSING_HEADER,
        "ffi.h",
        "libffi-dev",
    )
    assert (build.evidence_line, build.duration_s) == (7, 2.5)
    answer = farm_of_one.ask()
    assert (answer.outcome, answer.reason) == (Outcome.FAILED, FailureReason.MISSING_HEADER)
    assert answer.job.build.captured == "ffi.h"


@pytest.mark.parametrize(
    ("reason", "offered", "again"),
    [
        (FailureReason.MISSING_HEADER, "env-1", False),
        (FailureReason.MISSING_HEADER, "env-2", True),
        (FailureReason.NEEDS_NETWORK, "env-2", False),
        (FailureReason.REQUIREMENT_MISSING, "env-1", True),
    ],
)
def test_a_failure_is_tried_again_only_where_that_may_help(farm_of_one, reason, offered, again):
    lease = farm_of_one.leased()
    farm_of_one.failed(lease, reason)
    assert farm_of_one.lease(offer=offer(offered)) is None
    answer = farm_of_one.ask()
    assert answer.job.state is (JobState.READY if again else JobState.FAILED)
    assert answer.outcome is (None if again else Outcome.FAILED)
    assert ("requeued" in farm_of_one.events(lease)) is again


def test_a_job_that_is_handed_back_goes_to_the_next_at_once(farm_of_one):
    lease = farm_of_one.leased()
    farm_of_one.builder.hand_back(lease)
    again = farm_of_one.lease()
    assert again.job_id == lease.job_id
    assert again.token != lease.token
    assert farm_of_one.job(again).attempts == 1
    with pytest.raises(LeaseLostError):
        farm_of_one.builder.heartbeat(lease, beat(lease))


def test_an_old_lease_opens_nothing(farm_of_one, tmp_path):
    lease = farm_of_one.leased()
    path = farm_of_one.wheel()
    old = lease.model_copy(update={"token": "x" * 32})
    builder = farm_of_one.builder
    calls = [
        lambda: builder.heartbeat(old, beat(old)),
        lambda: builder.hand_back(old),
        lambda: builder.send_log(old, 0, b"log"),
        lambda: builder.upload_wheel(old, path),
        lambda: builder.report(old, farm_of_one.built(old, path)),
    ]
    for call in calls:
        with pytest.raises(LeaseLostError):
            call()
    assert farm_of_one.job(lease).state is JobState.LEASED


def test_another_builder_cannot_use_a_lease_even_with_its_token(farm_of_one):
    lease = farm_of_one.leased()
    with MasterClient(farm_of_one.url, farm_of_one.master.create_key("builder", "thief")) as thief:
        with pytest.raises(LeaseLostError):
            thief.report(lease, farm_of_one.built(lease, farm_of_one.wheel()))
        with pytest.raises(LeaseLostError):
            thief.hand_back(lease)


def test_a_builder_that_falls_silent_loses_the_job(tmp_path, pypi):
    farm = FarmOfOne(tmp_path / "master", pypi, lease_s=2.0, retry_delay_s=0.0)
    try:
        lease = farm.leased()
        now = farm.master._context.now
        object.__setattr__(farm.master._context, "now", lambda: now() + timedelta(seconds=5))
        again = farm.lease(wait_s=5)
        assert again.job_id == lease.job_id
        assert farm.job(again).build.reason is FailureReason.BUILDER_LOST
        assert farm.events(lease)[-4:] == ["lost", "retry", "awake", "leased"]
    finally:
        farm.close()


# --- waiting for a job


def test_a_builder_that_waits_gets_a_new_job_at_once(farm_of_one):
    farm_of_one.add_sdist()
    got = []
    waiting = threading.Thread(target=lambda: got.append((farm_of_one.lease(wait_s=20), time.monotonic())))
    waiting.start()
    time.sleep(0.2)
    asked = time.monotonic()
    farm_of_one.ask()
    waiting.join(5)
    assert got[0][0].project == "little"
    assert got[0][1] - asked < 0.9, "sooner than the poll looks by itself"


def test_a_wait_ends_after_its_time(farm_of_one):
    begin = time.monotonic()
    assert farm_of_one.lease(wait_s=0.3) is None
    assert 0.25 < time.monotonic() - begin < 2


def test_a_builder_gets_only_jobs_for_what_it_offers(farm_of_one):
    farm_of_one.add_sdist()
    farm_of_one.ask()
    assert farm_of_one.lease(offer=OFFER.model_copy(update={"name": "cp313-linux_armv7l-debian13"})) is None
    with pytest.raises(MasterError, match="is not a target"):
        farm_of_one.lease(offer=OFFER.model_copy(update={"name": "nonsense"}))
    assert farm_of_one.lease() is not None


def test_what_a_builder_no_longer_offers_is_forgotten(farm_of_one):
    farm_of_one.lease()
    farm_of_one.lease(offer=OFFER.model_copy(update={"name": "cp313-linux_armv7l-debian13"}))
    assert farm_of_one.reader.status().targets == ["cp313-linux_armv7l-debian13"]


def test_a_heartbeat_keeps_the_lease_and_tells_how_the_machine_is(farm_of_one):
    lease = farm_of_one.leased()
    answer = farm_of_one.builder.heartbeat(lease, beat(lease, Step.PREPARE))
    assert (answer.carry_on, answer.expires_in_s) == (True, farm_of_one.settings.master.lease_s)
    assert farm_of_one.job(lease).step is Step.PREPARE
    with farm_of_one.master._database.read() as session:
        assert session.get(Builder, 1).health["load_1m"] == 0.5


# --- logs and uploads


def test_a_log_grows_and_is_read_from_any_byte(farm_of_one):
    lease = farm_of_one.leased()
    send = farm_of_one.builder.send_log
    assert farm_of_one.reader.log(lease.job_id) == b""
    assert send(lease, 0, b"one\n") == 4
    assert send(lease, 4, b"two\n") == 8
    assert send(lease, 0, b"one\ntwo\nthree\n") == 14, "a part that overlaps is written once"
    assert send(lease, 99, b"gap") == 14, "after a gap nothing is written"
    assert farm_of_one.reader.log(lease.job_id) == b"one\ntwo\nthree\n"
    assert farm_of_one.reader.log(lease.job_id, 8) == b"three\n"
    assert farm_of_one.reader.log(lease.job_id, 99) == b""


def test_a_log_that_is_too_long_is_cut_and_the_builder_goes_on(farm_of_one, monkeypatch):
    monkeypatch.setattr("piwheels_node.master.api.builders.MARGIN_BYTES", 10 - (64 << 20))
    lease = farm_of_one.leased()
    assert farm_of_one.builder.send_log(lease, 0, b"0123456789abc") == 13
    assert farm_of_one.builder.send_log(lease, 13, b"def") == 16
    assert farm_of_one.reader.log(lease.job_id) == b"0123456789"


def test_each_lease_has_a_log_of_its_own(farm_of_one):
    first = farm_of_one.leased()
    farm_of_one.builder.send_log(first, 0, b"first")
    farm_of_one.builder.hand_back(first)
    second = farm_of_one.lease()
    farm_of_one.builder.send_log(second, 0, b"second")
    assert farm_of_one.reader.log(second.job_id) == b"second"
    assert len(list((farm_of_one.data / "logs").rglob("*.log"))) == 2


def wheel_part(farm, lease, content, *, offset, size, key="builder"):
    return httpx.put(
        f"{farm.url}/api/v1/jobs/{lease.job_id}/wheel",
        params={"offset": offset, "size": size},
        headers={"Authorization": f"Bearer {farm.keys[key]}", "X-Lease-Token": lease.token},
        content=content,
    )


def test_an_upload_goes_on_by_offset_and_a_wrong_one_is_put_right(farm_of_one):
    lease = farm_of_one.leased()
    assert wheel_part(farm_of_one, lease, b"12345", offset=0, size=9).json() == {"offset": 5}
    wrong = wheel_part(farm_of_one, lease, b"6789", offset=7, size=9)
    assert wrong.status_code == 409
    assert (wrong.json()["code"], wrong.json()["offset"]) == ("offset", 5)
    assert wheel_part(farm_of_one, lease, b"6789", offset=5, size=9).json() == {"offset": 9}
    assert wheel_part(farm_of_one, lease, b"x", offset=9, size=9).status_code == 422


def test_an_upload_that_was_cut_goes_on_where_it_was(farm_of_one):
    lease = farm_of_one.leased()
    path = farm_of_one.wheel(files={"little.py": "", "little.bin": bytes(range(256)) * 4096}, compression=0)
    content = path.read_bytes()
    with Cutter(farm_of_one.url, after_bytes=600_000) as cutter:
        client = MasterClient(cutter.url, farm_of_one.keys["builder"])
        client.upload_wheel(lease, path)
        client.close()
    assert cutter.connections > 1
    assert cutter.sent_bytes < 2 * len(content), "it did not begin anew"
    (upload,) = (farm_of_one.data / "incoming").iterdir()
    assert upload.read_bytes() == content
    report = farm_of_one.built(lease, path)
    assert farm_of_one.builder.report(lease, report).outcome is Outcome.BUILT


def test_a_wheel_that_is_too_large_is_refused_before_it_is_sent(farm_of_one):
    lease = farm_of_one.leased()
    answer = wheel_part(farm_of_one, lease, b"x", offset=0, size=(2 << 30) + 1)
    assert answer.status_code == 413
    assert "a wheel may have" in answer.json()["what"]


def test_a_master_without_disk_says_so_and_the_lease_lives_on(farm_of_one):
    lease = farm_of_one.leased()
    with_settings(farm_of_one, min_free_bytes=1 << 60)
    with pytest.raises(StorageError, match="MiB of disk left"):
        farm_of_one.builder.upload_wheel(lease, farm_of_one.wheel())
    with_settings(farm_of_one, min_free_bytes=0)
    assert farm_of_one.hand_in(lease, farm_of_one.wheel()).outcome is Outcome.BUILT


# --- keys and errors


@pytest.mark.parametrize(
    ("key", "status"), [(None, 401), ("wrong", 401), ("revoked", 401), ("operator", 403), ("builder", 204)]
)
def test_only_a_builder_may_lease(farm_of_one, key, status):
    keys = {
        **farm_of_one.keys,
        "wrong": "not-a-key",
        "revoked": farm_of_one.master.create_key("builder", "old"),
    }

    def revoke(session):
        token = session.get(Token, 3)
        token.revoked_at = token.created_at

    farm_of_one.master._database.write(revoke)
    headers = {"Authorization": f"Bearer {keys[key]}"} if key else {}
    answer = httpx.post(f"{farm_of_one.url}/api/v1/lease", json={"targets": []}, headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
    if status != 204:
        assert answer.json()["hint"]


def test_only_an_operator_may_ask_for_builds(farm_of_one):
    farm_of_one.add_sdist()
    for client in (farm_of_one.builder, farm_of_one.reader):
        with pytest.raises(MasterError) as error:
            client.request(BuildRequest(project="little", target=TARGET))
        assert not error.value.refused
    assert farm_of_one.reader.jobs() == []


def test_keys_are_kept_as_hashes_only(farm_of_one):
    stored = (farm_of_one.data / "database.sqlite").read_bytes()
    log = farm_of_one.data / "database.sqlite-wal"
    stored += log.read_bytes() if log.exists() else b""
    for key in farm_of_one.keys.values():
        assert key.encode() not in stored
    assert farm_of_one.master.knows_key("operator", farm_of_one.keys["operator"])
    assert not farm_of_one.master.knows_key("operator", farm_of_one.keys["builder"])
    with pytest.raises(UsageError):
        farm_of_one.master.create_key("builder")


def test_what_is_not_there_is_a_problem_that_says_so(farm_of_one):
    reader = farm_of_one.reader
    for call in (lambda: reader.job(7), lambda: reader.events(7), lambda: reader.project("nothing")):
        with pytest.raises(MasterError) as error:
            call()
        assert error.value.refused
    assert httpx.get(f"{farm_of_one.url}/api/v1/nothing").json()["what"] == "Not Found"


def test_a_request_that_cannot_be_read_names_the_field(farm_of_one):
    headers = {"Authorization": f"Bearer {farm_of_one.keys['operator']}"}
    answer = httpx.post(f"{farm_of_one.url}/api/v1/requests", json={"project": 7}, headers=headers)
    assert (answer.status_code, answer.json()["where"]) == (422, "body.project")
    wrong = httpx.get(f"{farm_of_one.url}/api/v1/jobs", params={"limit": 0})
    assert (wrong.status_code, wrong.json()["where"]) == (422, "query.limit")


def test_every_error_of_ours_has_a_status():
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, NodeError):
            assert any(base in problems.STATUS for base in kind.__mro__), name


def test_a_fault_of_the_master_is_a_500_with_its_traceback_in_the_log(farm_of_one, monkeypatch, caplog):
    monkeypatch.setattr("piwheels_node.master.views.status", lambda *_: 1 / 0)
    with pytest.raises(MasterError, match="its log says why") as error:
        farm_of_one.reader.status()
    assert not error.value.refused
    assert "ZeroDivisionError" in caplog.text


def test_the_api_describes_itself(farm_of_one):
    described = httpx.get(f"{farm_of_one.url}/api/openapi.json").json()
    assert described["info"]["title"] == "piwheels-node"
    paths = described["paths"]
    assert "/api/v1/jobs/{job_id}/wheel" in paths
    for path, methods in paths.items():
        for method, endpoint in methods.items():
            assert endpoint.get("description"), f"{method} {path}"
    assert httpx.get(f"{farm_of_one.url}/api/docs").status_code == 200


def test_jobs_are_listed_newest_first_and_by_state(farm_of_one):
    first = farm_of_one.leased("one")
    farm_of_one.add_sdist("two")
    farm_of_one.ask("two")
    assert [job.project for job in farm_of_one.reader.jobs()] == ["two", "one"]
    assert [job.job_id for job in farm_of_one.reader.jobs(JobState.LEASED)] == [first.job_id]
    assert len(farm_of_one.reader.jobs(limit=1)) == 1


# --- the service and the client


def test_a_directory_is_served_by_one_process_only(farm_of_one):
    code = (
        "import sys; from pathlib import Path; from piwheels_node.core.settings import Settings;"
        "from piwheels_node.master.service import Master\n"
        "try: Master(Path(sys.argv[1]), Settings())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", code, str(farm_of_one.data)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pid = (farm_of_one.data / "lock").read_text().strip()
    assert said.startswith(f"NodeError process {pid} serves this directory already")


def test_a_port_in_use_is_an_error_with_a_hint(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(master=MasterSettings(port=taken.getsockname()[1]))
        with Master(tmp_path, settings) as master, pytest.raises(NodeError, match="another program") as error:
            master.start()
    assert "master.port" in error.value.hint


def test_a_port_that_cannot_be_is_an_error(tmp_path):
    settings = Settings(master=MasterSettings(port=70_000))
    with Master(tmp_path, settings) as master, pytest.raises(NodeError, match="up to 65535"):
        master.start()


def test_a_data_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeError, match="the data directory cannot be used"):
        Master(tmp_path / "file" / "data", Settings())


def test_stopping_ends_all_waiting_at_once_and_may_be_done_twice(farm_of_one):
    got = []
    waiting = threading.Thread(target=lambda: got.append(farm_of_one.lease(wait_s=30)))
    waiting.start()
    time.sleep(0.3)
    begin = time.monotonic()
    farm_of_one.master.stop()
    waiting.join(5)
    assert got == [None]
    assert time.monotonic() - begin < 2
    farm_of_one.master.stop()


def test_a_pypi_that_hangs_does_not_keep_the_master_from_stopping(farm_of_one):
    farm_of_one.pypi.fail("/simple/", "hang")
    object.__setattr__(farm_of_one.master._context.pypi, "_timeout_s", 20)

    def ask():
        with pytest.raises(MasterError):
            farm_of_one.ask()

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.3)
    begin = time.monotonic()
    farm_of_one.master.stop()
    assert time.monotonic() - begin < 6
    farm_of_one.pypi.close_hanging()
    asking.join(10)
    assert not asking.is_alive()


def test_a_master_that_starts_again_knows_everything(farm_of_one, pypi):
    path = farm_of_one.publish()
    etag = httpx.get(f"{farm_of_one.index_url}little/").headers["etag"]
    farm_of_one.close()
    with Master(farm_of_one.data, farm_of_one.settings) as again:
        url = again.start()
        answer = httpx.get(f"{url}/simple/little/")
        assert path.name in answer.text
        assert answer.headers["etag"] == etag
        assert again.knows_key("builder", farm_of_one.keys["builder"])


def test_a_master_that_is_not_there_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    with MasterClient(url) as client, pytest.raises(MasterUnreachableError) as error:
        client.status()
    assert (error.value.where, error.value.refused) == (url, False)
    assert error.value.hint


def test_something_else_than_a_master_is_told_apart(pypi):
    with MasterClient(pypi.url) as client, pytest.raises(MasterError, match="nothing that a master says"):
        client.status()
    pypi.page = lambda path, as_json: ("application/json", json.dumps({"not": "it"}).encode())
    with MasterClient(pypi.url) as client, pytest.raises(MasterError, match="cannot be read"):
        client.status()


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.7:8080",
        "http://master.local",
        "ftp://127.0.0.1",
        "127.0.0.1:80",
        "",
        "http://[",
        "http://127.0.0.1.example",
    ],
)
def test_a_key_never_goes_in_the_clear(url):
    with pytest.raises(UsageError):
        MasterClient(url, "key")


def test_https_and_this_machine_are_fine():
    for url in ("https://master.local", "http://localhost:1", "http://127.8.8.8", "http://[::1]:80"):
        MasterClient(url, "key").close()


def test_a_report_needs_a_token_of_the_right_form():
    with pytest.raises(ValueError, match="token"):
        Report(token="short", outcome=Outcome.FAILED, duration_s=1)


class Cutter:
    """A proxy that cuts its first connection after so many bytes of the request."""

    def __init__(self, url, after_bytes):
        host, port = url.removeprefix("http://").split(":")
        self._target = host, int(port)
        self._left = after_bytes
        self.connections = self.sent_bytes = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._server.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            upstream = socket.create_connection(self._target)
            for pump in (self._pump_up, self._pump_down):
                self._threads.append(threading.Thread(target=pump, args=(client, upstream)))
                self._threads[-1].start()

    def _pump_up(self, client, upstream):
        first = self.connections == 1
        with client:
            while data := _received(client):
                upstream.sendall(data)
                self.sent_bytes += len(data)
                self._left -= len(data)
                if first and self._left < 0:
                    break
            _ended(upstream, client)

    def _pump_down(self, client, upstream):
        with upstream:
            while data := _received(upstream):
                client.sendall(data)
            _ended(client)


def _received(source):
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _ended(*sockets):
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def test_the_end_of_a_log_may_come_with_the_report(farm_of_one):
    lease = farm_of_one.leased()
    farm_of_one.builder.send_log(lease, 0, b"first, ")
    told = Report(
        token=lease.token, outcome=Outcome.FAILED, duration_s=1, log=LogPart.of(4, b"t, \xffthen the rest\n")
    )
    farm_of_one.builder.report(lease, told)
    assert farm_of_one.reader.log(lease.job_id) == b"first, \xffthen the rest\n"
