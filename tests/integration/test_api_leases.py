# SPDX-License-Identifier: BSD-3-Clause
"""From a lease to a report, over real HTTP, with the client that builders use; old leases open nothing."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from fix_master import OFFER, FarmOfOne, with_settings

from piwheels_node.client import MasterClient
from piwheels_node.core.errors import (
    LeaseLostError,
    MasterError,
)
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import Health, Heartbeat, Report
from piwheels_node.master.database.models import Builder


def offer(environment_id):
    return OFFER.model_copy(update={"environment_id": environment_id})


def beat(lease, step=Step.BUILD):
    return Heartbeat(token=lease.token, step=step, health=Health(load_1m=0.5))


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


def test_a_builder_that_waits_gets_a_new_job_at_once(farm_of_one):
    farm_of_one.add_sdist()
    got = []
    waiting = threading.Thread(target=lambda: got.append((farm_of_one.lease(wait_s=20), time.monotonic())))
    waiting.start()
    time.sleep(0.2)
    asked = time.monotonic()
    farm_of_one.ask()
    waiting.join(30)
    assert got[0][0].project == "little"
    assert got[0][1] - asked < 15, "sooner than the wait looks by itself"


def test_who_waits_gets_what_it_avoided_as_soon_as_that_is_over(tmp_path, pypi):
    farm = FarmOfOne(tmp_path / "master", pypi, retry_delay_s=0.3)
    with contextlib.closing(farm), ThreadPoolExecutor() as pool:
        farm.failed(farm.leased(), reason=FailureReason.FETCH_FAILED)

        again = pool.submit(farm.lease, wait_s=25).result(timeout=15)

        assert farm.job(again).attempts == 2


def test_a_wait_ends_after_its_time(farm_of_one):
    begin = time.monotonic()
    assert farm_of_one.lease(wait_s=0.3) is None
    assert 0.25 < time.monotonic() - begin < 20


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


def test_a_report_needs_a_token_of_the_right_form():
    with pytest.raises(ValueError, match="token"):
        Report(token="short", outcome=Outcome.FAILED, duration_s=1)
