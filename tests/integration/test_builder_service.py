# SPDX-License-Identifier: BSD-3-Clause
"""A builder whose master goes away and comes back, whose machine is hot or full, and what waiting costs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import sqlite3
import threading
import time

import pytest
from fix_builder import TICKING, wait_until
from proxy import Proxy
from sdists import make_sdist

from piwheels_node.builder.farm import service
from piwheels_node.core.builders import SERVED_FROM_BYTES, Mode
from piwheels_node.core.jobs import JobState, Outcome, Step


def test_a_master_that_is_restarted_in_the_middle_of_a_build_gets_the_result(site, tmp_path):
    builder = site.add_builder()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=60)))
    builder.wait_for_ticks(3)

    site.stop_master()
    before = builder.ticks()
    time.sleep(1.0)
    went_on = builder.ticks() > before
    site.start_master()
    job = site.wait_for_end(job_id)

    assert went_on
    assert (job.state, job.attempts) == (JobState.BUILT, 1)
    assert site.events(job_id).count("leased") == 1
    assert site.operator.log(job_id).count(b"tick ") == 60
    assert site.operator.status().wheels == 1


def test_a_result_is_kept_until_the_master_is_back(site, tmp_path):
    builder = site.add_builder()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=20)))
    builder.wait_for_ticks(3)

    site.stop_master()
    wait_until(lambda: not builder.sandboxes())  # built, and nobody to tell
    time.sleep(0.5)
    site.start_master()
    job = site.wait_for_end(job_id)

    assert (job.state, job.attempts) == (JobState.BUILT, 1)
    assert site.events(job_id).count("leased") == 1


def test_a_result_whose_lease_is_surely_over_is_dropped_and_the_slot_is_free(make_site, tmp_path):
    site = make_site(lease_s=2.0)
    builder = site.add_builder()
    site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=10)))
    builder.wait_for_ticks(3)

    site.stop_master()
    wait_until(lambda: not builder.service._working)
    site.start_master()

    assert builder.service.error is None
    later = site.request(make_sdist(tmp_path, "tiny", "1.0"))
    assert site.wait_for_end(later).state is JobState.BUILT


def test_a_builder_waits_for_a_master_that_is_away_and_says_so_once(site, tmp_path, caplog):
    site.add_builder()
    site.stop_master()
    time.sleep(3.0)
    site.start_master()

    assert site.wait_for_end(site.request(make_sdist(tmp_path, "tiny", "1.0"))).state is JobState.BUILT
    said = [one.message for one in caplog.records if one.name.startswith("piwheels_node.builder")]
    assert sum("does not answer" in one for one in said) == 1
    assert said.count("the master answers again") == 1


def test_a_network_that_falls_silent_for_a_while_costs_time_only(make_site, tmp_path):
    site = make_site(lease_s=6.0)
    with Proxy(lambda: socket.create_connection(("127.0.0.1", site.port))) as network:
        builder = site.add_builder(url=f"http://127.0.0.1:{network.port}")
        job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=40)))
        builder.wait_for_ticks(3)

        network.freeze()
        before = builder.ticks()
        time.sleep(1.0)
        went_on = builder.ticks() > before
        wait_until(lambda: not builder.sandboxes())
        network.thaw()
        job = site.wait_for_end(job_id)
        builder.service.stop()

    assert went_on
    assert (job.state, job.attempts) == (JobState.BUILT, 1)


def test_stopping_does_not_wait_for_a_master_that_is_silent(make_site, tmp_path):
    site = make_site(lease_s=6.0)
    with Proxy(lambda: socket.create_connection(("127.0.0.1", site.port))) as network:
        builder = site.add_builder(url=f"http://127.0.0.1:{network.port}")
        job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=10)))
        builder.wait_for_ticks(3)
        network.freeze()
        wait_until(lambda: not builder.sandboxes())  # it tries to hand in, and hears nothing

        began = time.monotonic()
        builder.service.stop()

        assert time.monotonic() - began < 20
    wait_until(lambda: "lost" in site.events(job_id))


def test_a_hot_machine_stands_still_says_so_and_goes_on_by_itself(site, tmp_path):
    news = []
    builder = site.add_builder(observer=Listening(news))
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=60)))
    builder.wait_for_ticks(3)

    builder.heat(85.0)
    hot = "the processor has 85.0 °C (builder.pause_at_c = 80); it goes on at 75"
    wait_until(lambda: builder.service.paused == hot)
    assert builder.stands_still()
    wait_until(lambda: builder.view().paused_itself == hot)
    builder.heat(76.0)
    assert builder.stands_still(for_s=3)
    builder.heat(70.0)
    job = site.wait_for_end(job_id)

    assert (job.state, job.attempts) == (JobState.BUILT, 1)
    wait_until(lambda: builder.view().paused_itself is None)
    kinds = [event.kind for event in site.operator.builder_events("pi")]
    assert kinds.count("paused-itself") == kinds.count("resumed-itself") == 1
    assert news == [hot, None]


def test_a_hot_machine_that_waits_tells_the_master_and_takes_nothing(site, tmp_path):
    builder = site.add_builder()
    builder.heat(90.0)
    builder.service._lookout.look()  # a builder that waits looks every 15 s
    wait_until(lambda: builder.view().paused_itself)
    job_id = site.request(make_sdist(tmp_path, "tiny", "1.0"))
    time.sleep(1.0)
    assert site.job(job_id).state is JobState.READY

    builder.heat(50.0)
    builder.service._lookout.look()

    assert site.wait_for_end(job_id).state is JobState.BUILT


def test_want_of_disk_keeps_new_jobs_away_but_lets_the_build_in_hand_go_on(site, tmp_path):
    builder = site.add_builder()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=40)))
    builder.wait_for_ticks(3)

    free = shutil.disk_usage(tmp_path).free
    builder.service._lookout.settings = dataclasses.replace(
        builder.settings.builder, pause_disk_bytes=free * 2
    )
    wait_until(lambda: builder.service.paused)

    assert "of disk are left" in builder.service.paused
    assert site.wait_for_end(job_id).state is JobState.BUILT
    second = site.request(make_sdist(tmp_path, "tiny", "1.0"))
    time.sleep(1.0)
    assert site.job(second).state is JobState.READY


def test_where_standing_still_brings_no_memory_back_the_youngest_build_gives_up(site, tmp_path, monkeypatch):
    monkeypatch.setattr(service, "_MEMORY_PATIENCE_S", 3.0)
    builder = site.add_builder(slots=2)
    old = site.request(make_sdist(tmp_path, "old", "1.0", setup=TICKING.format(ticks=150)))
    builder.wait_for_ticks(3)
    young = site.request(make_sdist(tmp_path, "young", "1.0", setup=TICKING.format(ticks=1000)))
    wait_until(lambda: len(builder.service._working) == 2)

    builder.leave_memory(10 << 20)
    wait_until(lambda: "refused" in site.events(young))
    builder.leave_memory(3_000_000_000)

    assert site.wait_for_end(old).state is JobState.BUILT
    job = site.job(young)
    assert (job.state, job.attempts) == (JobState.READY, 0)


def test_a_job_that_the_disk_has_no_room_for_is_refused_unbegun(site, tmp_path):
    builder = site.add_builder(disk_max_bytes=1 << 60)
    sdist = make_sdist(tmp_path, "vast", "1.0")
    os.truncate(sdist, shutil.disk_usage(tmp_path).free // 4 + (1 << 30))  # sparse
    job_id = site.request(sdist, sha256="0" * 64)
    wait_until(lambda: "refused" in site.events(job_id))

    job = site.job(job_id)
    assert (job.state, job.attempts, job.build) == (JobState.READY, 0, None)
    detail = next(event.detail for event in site.operator.events(job_id) if event.kind == "refused")
    assert "of disk, and" in str(detail)
    assert site.wait_for_end(site.request(make_sdist(tmp_path, "tiny", "1.0"))).state is JobState.BUILT
    assert builder.service.error is None


@pytest.mark.parametrize("frozen", [False, True])
def test_stopping_gives_the_job_back_at_once_also_while_it_stands_still(site, tmp_path, frozen):
    builder = site.add_builder()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=1000)))
    builder.wait_for_ticks(3)
    if frozen:
        builder.heat(85.0)
        wait_until(lambda: builder.service.paused)
        assert builder.stands_still()

    began = time.monotonic()
    builder.service.stop()

    assert time.monotonic() - began < 15
    assert not builder.sandboxes()
    job = site.job(job_id)
    assert (job.state, job.attempts) == (JobState.READY, 0)


def test_a_builder_that_waits_has_two_requests_open_and_hardly_wakes(site):
    builder = site.add_builder(slots=4)
    time.sleep(1.0)
    asked = []
    ask = builder.client._call

    def listening(method, path, *args, **more):
        asked.append(path)
        return ask(method, path, *args, **more)

    builder.client._call = listening
    threads = [one for one in threading.enumerate() if one.name.startswith(("slot-", "orders", "lookout"))]
    before = sum(map(_wakings, threads))
    time.sleep(3.0)

    assert asked == []
    assert len(threads) == 6
    assert sum(map(_wakings, threads)) - before <= 3


def _wakings(thread):
    with open(f"/proc/self/task/{thread.native_id}/status") as file:
        return int(next(line for line in file if line.startswith("voluntary_ctxt")).split()[1])


def test_one_slot_waits_for_all_of_them_and_all_of_them_build(site, tmp_path):
    builder = site.add_builder(slots=3)
    jobs = [
        site.request(make_sdist(tmp_path, f"ticker{number}", "1.0", setup=TICKING.format(ticks=20)))
        for number in range(3)
    ]

    wait_until(lambda: len(builder.service._working) == 3)

    assert {site.wait_for_end(job_id).state for job_id in jobs} == {JobState.BUILT}


def test_a_job_that_needs_more_than_a_share_has_the_machine_to_itself(site, tmp_path):
    builder = site.add_builder(slots=2, shares=64)
    share_bytes, whole_bytes = (builder.service._sharing.most_bytes(alone=one) for one in (False, True))
    large = next(n for n, most in enumerate(SERVED_FROM_BYTES) if n and share_bytes < most <= whole_bytes)
    site.order(Mode.PAUSE)
    jobs = [
        site.request(make_sdist(tmp_path, f"ticker{number}", "1.0", setup=TICKING.format(ticks=10)))
        for number in range(3)
    ]

    with contextlib.closing(sqlite3.connect(site.root / "master" / "database.sqlite")) as database:
        database.execute("update job set memory_class = ? where id = ?", (large, jobs[1]))
        database.commit()
    site.order(Mode.RUN)

    assert {site.wait_for_end(job_id).state for job_id in jobs} == {JobState.BUILT}
    began, ended = zip(*(_built_between(site, job_id) for job_id in jobs), strict=True)
    assert all(ended[other] <= began[1] or ended[1] <= began[other] for other in (0, 2))


def _built_between(site, job_id):
    events = {event.kind: event.at for event in site.operator.events(job_id)}
    return events["leased"], events["built"]


class Listening:
    """An observer that only hears when the builder stands still."""

    def __init__(self, news):
        self.paused = news.append

    def started(self, lease):
        pass

    def step(self, lease, step):
        pass

    def finished(self, lease, answer):
        pass


def test_a_builder_shows_its_machine_what_it_does(site, tmp_path):
    builder = site.add_builder()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=30)))
    builder.wait_for_ticks(3)

    def view():
        return builder.service.view(tmp_path, "pi")

    wait_until(lambda: view().builds and "tick 2" in view().builds[0].log_tail)
    [build] = view().builds
    assert (build.job_id, build.project, build.step) == (job_id, "ticker", Step.BUILD)
    assert build.log_bytes >= len(build.log_tail) > 0
    assert (view().name, view().master, view().paused) == ("pi", site.url, None)
    site.order(Mode.PAUSE, why="lunch")
    wait_until(lambda: "lunch" in (view().paused or ""))
    site.order(Mode.RUN)
    site.wait_for_end(job_id)
    wait_until(lambda: not view().builds)
    [end] = view().ended
    assert (end.job_id, end.outcome, end.reason) == (job_id, Outcome.BUILT, None)
    site.stop_master()
    wait_until(lambda: view().trouble)
    site.start_master()
    wait_until(lambda: not view().trouble)
