# SPDX-License-Identifier: BSD-3-Clause
"""A database that goes away: builders wait, pip goes on with what there is, nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
import logging
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import httpx
import pytest
from fix_command import until
from fix_master import FarmOfOne
from postgres import USER, Cluster
from proxy import Proxy

from piwheels_node.core.errors import MasterUnreachableError, NodeError
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import Heartbeat, LeaseRequest, Report
from piwheels_node.master.running import upkeep

NUMBERS = itertools.count()
PAGE = {"Accept": "application/vnd.pypi.simple.v1+json"}


@pytest.fixture(scope="module")
def shared_cluster():
    """A PostgreSQL for the tests here, which survives a crash as a real one does."""
    with tempfile.TemporaryDirectory(prefix="pg-data-") as directory:
        Path(directory).chmod(0o755)
        with Cluster(Path(directory) / "cluster", fsync=True) as cluster:
            yield cluster


@pytest.fixture
def cluster(shared_cluster):
    """It runs, and the test may stop it."""
    yield shared_cluster
    if not shared_cluster.is_running:
        shared_cluster.start()


@pytest.fixture
def url(cluster):
    """A database of the test's own."""
    name = f"farm_{next(NUMBERS)}"
    yield cluster.create_database(name)
    if not cluster.is_running:
        cluster.start()
    cluster.run("dropdb", "--force", name)


@pytest.fixture
def farm(tmp_path, pypi, url):
    """A master on a PostgreSQL that the test may stop."""
    made = FarmOfOne(tmp_path / "master", pypi, database=url, lease_s=30.0)
    yield made
    made.close()


@pytest.fixture
def web(farm):
    with httpx.Client(base_url=farm.url, trust_env=False, timeout=20) as client:
        yield client


def works_again(farm):
    """Wait until the master is as before; it finds that out by itself."""

    def status():
        with contextlib.suppress(NodeError):
            return farm.reader.status()

    return until(status, "a master that is back")


def test_a_job_in_hand_outlives_the_database_and_its_wheel_is_published(farm, cluster, caplog):
    lease = farm.leased()
    path = farm.wheel()
    cluster.stop()
    with pytest.raises(MasterUnreachableError):
        farm.builder.heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD))
    with pytest.raises(MasterUnreachableError):
        farm.hand_in(lease, path)
    time.sleep(2.5)  # several rounds of everything that the master does by itself
    cluster.start()
    works_again(farm)

    assert farm.builder.heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD)).carry_on
    assert farm.hand_in(lease, path).outcome is Outcome.BUILT
    assert farm.events(lease) == ["queued", "leased", "step", "step", "built"]
    complaints = [r for r in caplog.records if r.name == upkeep.__name__ and r.levelno >= logging.ERROR]
    assert 1 <= len(complaints) <= 3, [r.message for r in complaints]
    assert not [r for r in caplog.records if r.exc_info], caplog.text


def test_the_api_says_that_it_is_unavailable_and_when_to_come_again(farm, web, cluster):
    cluster.stop()
    for path in ("/api/v1/status", "/api/v1/jobs", "/api/v1/jobs/1"):
        answer = web.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
    key = {"Authorization": f"Bearer {farm.keys['builder']}"}
    answer = web.post("/api/v1/lease", json=LeaseRequest(targets=[]).model_dump(mode="json"), headers=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_pip_gets_what_the_index_remembers_and_404_for_the_rest_at_once(farm, web, cluster):
    known, unknown = farm.publish("known"), farm.publish("unknown")
    before = web.get("/simple/known/", headers=PAGE)
    cluster.stop()
    for path in ("/simple/known/", f"/files/known/{known.name}", f"/files/known/{known.name}.metadata"):
        assert web.get(path, headers=PAGE).status_code == 200
    assert web.get("/simple/known/", headers=PAGE).content == before.content
    assert web.get(f"/files/known/{known.name}").content == known.read_bytes()
    begin = time.monotonic()
    for path in ("/simple/unknown/", f"/files/unknown/{unknown.name}", "/simple/nothing/", "/simple/"):
        assert web.get(path, headers=PAGE).status_code == 404
    assert time.monotonic() - begin < 10
    cluster.start()
    works_again(farm)
    until(lambda: web.get("/simple/unknown/", headers=PAGE).status_code == 200, "the index as it was")


def test_a_builder_that_waits_for_a_job_gets_one_that_is_asked_for_after_the_outage(farm, cluster):
    found = []

    def wait_for_a_job():
        while not found:
            try:
                lease = farm.lease(wait_s=20)
            except MasterUnreachableError:
                time.sleep(0.2)
            else:
                found.extend([lease] if lease else [])

    waiting = threading.Thread(target=wait_for_a_job)
    waiting.start()
    time.sleep(0.5)
    cluster.stop()
    time.sleep(1)
    cluster.start()
    works_again(farm)
    farm.add_sdist()
    answer = farm.ask()
    waiting.join(20)

    assert [lease.job_id for lease in found] == [answer.job.job_id]


def test_an_outage_that_is_longer_than_a_lease_takes_no_job_away(tmp_path, pypi, cluster, url):
    farm = FarmOfOne(tmp_path / "master", pypi, database=url, lease_s=2.0)
    try:
        lease = farm.leased()
        cluster.stop()
        time.sleep(3)
        cluster.start()
        until(lambda: beats(farm, lease), "a heartbeat that is heard")
        assert farm.job(lease).state is JobState.LEASED
        assert "lost" not in farm.events(lease)
    finally:
        farm.close()


def beats(farm, lease):
    with contextlib.suppress(MasterUnreachableError):
        return farm.builder.heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD)).carry_on


def test_a_crash_of_the_database_loses_nothing_that_was_answered(farm, cluster):
    leases = [farm.leased("first"), farm.leased("second")]
    assert farm.hand_in(leases[0], farm.wheel("first")).outcome is Outcome.BUILT
    cluster.stop(signal.SIGQUIT)
    cluster.start()
    works_again(farm)

    assert farm.job(leases[0]).state is JobState.BUILT
    assert farm.hand_in(leases[1], farm.wheel("second")).outcome is Outcome.BUILT


@pytest.fixture
def cable(cluster):
    """A network between the master and its database."""

    def connect():
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{cluster._sockets}/.s.PGSQL.5432")
        return connection

    with Proxy(connect) as proxy:
        yield proxy


@pytest.fixture
def far_farm(tmp_path, pypi, cable, url):
    name = url.partition("/farm_")[2].partition("?")[0]
    url = f"postgresql://{USER}@127.0.0.1:{cable.port}/farm_{name}"
    made = FarmOfOne(tmp_path / "far-master", pypi, database=url, lease_s=30.0)
    yield made
    cable.thaw()
    cable.mend()
    made.close()


def test_a_network_that_is_cut_is_as_good_as_a_database_that_is_stopped(far_farm, cable):
    lease = far_farm.leased()
    cable.cut()
    with pytest.raises(MasterUnreachableError):
        far_farm.builder.heartbeat(lease, Heartbeat(token=lease.token, step=Step.BUILD))
    cable.mend()
    works_again(far_farm)

    assert far_farm.hand_in(lease, far_farm.wheel()).outcome is Outcome.BUILT


def test_a_network_that_swallows_everything_does_not_hold_up_the_index(far_farm, cable):
    wheel = far_farm.publish("known")
    with httpx.Client(base_url=far_farm.url, trust_env=False, timeout=20) as web:
        web.get("/simple/known/", headers=PAGE)
        cable.freeze()
        begin = time.monotonic()
        assert web.get("/simple/known/", headers=PAGE).status_code == 200
        assert web.get(f"/files/known/{wheel.name}").status_code == 200
        assert web.get("/simple/nothing/", headers=PAGE).status_code == 404
        assert time.monotonic() - begin < 15
        begin = time.monotonic()
        for _ in range(20):
            assert web.get("/simple/nothing/", headers=PAGE).status_code == 404
        assert time.monotonic() - begin < 15
        cable.thaw()
        works_again(far_farm)
        until(lambda: web.get(f"/files/known/{wheel.name}.metadata").status_code == 200, "the index")


def test_what_was_under_way_when_the_network_stood_still_happens_once(far_farm, cable):
    lease = far_farm.leased()
    cable.freeze()
    told = []
    report = Report(token=lease.token, outcome=Outcome.FAILED, duration_s=1.0)
    telling = threading.Thread(target=lambda: told.append(far_farm.builder.report(lease, report)))
    telling.start()
    telling.join(1.5)
    assert telling.is_alive()
    cable.thaw()
    telling.join(20)

    assert [answer.outcome for answer in told] == [Outcome.FAILED]
    assert far_farm.events(lease).count("failed") == 1
