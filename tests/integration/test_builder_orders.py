# SPDX-License-Identifier: BSD-3-Clause
"""What people tell a builder: pause, run, drain, skip; it acts within seconds, also amid a build."""

from __future__ import annotations

import secrets
import time

import pytest
from fix_builder import TICKING, wait_until
from sdists import make_sdist

from piwheels_node.client import MasterClient
from piwheels_node.core.builders import Mode
from piwheels_node.core.errors import KeyRefusedError, SupersededError
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import Hello, JoinRequest, Machine, TokenRequest

SOON_S = 20.0
"""Sooner than any of these builds would end by itself."""


@pytest.mark.parametrize("name", ["pi", None])
def test_a_pause_freezes_the_build_in_hand_and_run_finishes_it(make_site, tmp_path, name):
    site = make_site(lease_s=3.0)
    builder = site.add_builder()
    began = time.monotonic()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=40)))
    builder.wait_for_ticks(3)

    site.order(Mode.PAUSE, name, "sawing wood")
    stood = builder.stands_still()
    why = builder.service.paused
    time.sleep(2.0)  # longer than the lease lasts without a heartbeat
    state = site.job(job_id).state
    site.order(Mode.RUN, name)
    job = site.wait_for_end(job_id)
    took_s = time.monotonic() - began

    assert stood
    assert why == "told to pause: sawing wood"
    assert state is JobState.LEASED
    assert (job.state, job.attempts) == (JobState.BUILT, 1)
    assert builder.site.operator.log(job_id).count(b"tick ") == 40
    assert 0 < job.build.duration_s < took_s - 2.5  # the time that it stood still is not its own
    assert "lost" not in site.events(job_id)


def test_a_paused_builder_takes_no_job_until_it_may(site, tmp_path):
    builder = site.add_builder()
    site.order(Mode.PAUSE)
    wait_until(lambda: builder.service.paused)
    job_id = site.request(make_sdist(tmp_path, "tiny", "1.0"))
    time.sleep(1.0)
    assert site.job(job_id).state is JobState.READY

    site.order(Mode.RUN)

    assert site.wait_for_end(job_id).state is JobState.BUILT
    assert site.events(job_id).count("leased") == 1


def test_a_builder_that_waits_for_approval_takes_no_job_until_it_has_it(site, tmp_path):
    token = site.operator.create_token(TokenRequest(needs_approval=True)).token
    machine = Machine(fingerprint="a" * 64)
    with MasterClient(site.url) as joining:
        joined = joining.join(JoinRequest(token=token.partition(".")[0], name="shy", machine=machine))
    builder = site.add_builder("shy", key=joined.key)
    assert builder.service.paused == "this builder is pending on its master"
    job_id = site.request(make_sdist(tmp_path, "tiny", "1.0"))
    time.sleep(1.0)
    assert site.job(job_id).state is JobState.READY

    site.operator.approve("shy")

    assert site.wait_for_end(job_id).state is JobState.BUILT


def test_a_drained_builder_finishes_what_it_has_and_takes_no_more(site, tmp_path):
    builder = site.add_builder(slots=2)
    first = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=30)))
    builder.wait_for_ticks(2)

    site.order(Mode.DRAIN)
    wait_until(lambda: builder.service.paused)
    second = site.request(make_sdist(tmp_path, "tiny", "1.0"))

    assert site.wait_for_end(first).state is JobState.BUILT
    assert site.job(second).state is JobState.READY
    site.order(Mode.RUN)
    assert site.wait_for_end(second).state is JobState.BUILT


def test_a_skipped_build_is_gone_within_seconds_and_the_next_job_is_built(site, tmp_path):
    builder = site.add_builder()
    skipped = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=1000)))
    builder.wait_for_ticks(2)
    assert builder.sandboxes()
    next_one = site.request(make_sdist(tmp_path, "tiny", "1.0"))

    site.operator.skip("pi")

    assert wait_until(lambda: not builder.sandboxes()) < SOON_S
    assert site.wait_for_end(next_one).state is JobState.BUILT
    job = site.job(skipped)
    assert (job.state, job.build) == (JobState.CANCELLED, None)


def test_a_build_is_skipped_while_it_waits_for_a_download(site, pypi, tmp_path):
    site.add_builder()
    sdist = make_sdist(tmp_path, "large", "1.0")
    pypi.fail("/files/large/", "trickle")
    skipped = site.request(sdist)
    wait_until(lambda: any(path.startswith("/files/large/") for path in pypi.requests))

    site.operator.cancel(skipped)
    next_one = site.request(make_sdist(tmp_path, "tiny", "1.0"))

    assert site.wait_for_end(next_one).state is JobState.BUILT
    assert site.job(skipped).state is JobState.CANCELLED


def test_a_build_that_stands_still_can_be_skipped(site, tmp_path):
    builder = site.add_builder()
    skipped = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=1000)))
    builder.wait_for_ticks(2)
    site.order(Mode.PAUSE)
    assert builder.stands_still()

    site.operator.skip("pi")

    assert wait_until(lambda: not builder.sandboxes()) < SOON_S
    assert site.job(skipped).state is JobState.CANCELLED


def test_what_was_skipped_and_wanted_again_is_built(site, tmp_path):
    """The master goes on telling for a while what it had skipped; the new lease is another matter."""
    builder = site.add_builder()
    sdist = make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=40))
    skipped = site.request(sdist)
    builder.wait_for_ticks(2)
    site.operator.skip("pi")
    wait_until(lambda: not builder.sandboxes())

    again = site.request(sdist)
    builder.wait_for_ticks(2)
    site.order(Mode.DRAIN)  # new orders, which the builder hears while it builds

    assert site.wait_for_end(again).state is JobState.BUILT
    assert site.job(skipped).state in {JobState.BUILT, JobState.CANCELLED}


def test_a_builder_that_is_started_twice_ends_the_first_one_and_loses_its_build(site, tmp_path):
    builder = site.add_builder()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=1000)))
    builder.wait_for_ticks(2)

    with MasterClient(site.url, builder.key, session=secrets.token_urlsafe(16)) as second:
        second.hello(Hello(targets=builder.service._offer(), session=second.session))

        assert builder.service.wait(20)
        assert isinstance(builder.service.error, SupersededError)
        assert wait_until(lambda: not builder.sandboxes()) < SOON_S
        assert site.job(job_id).state is not JobState.FAILED


def test_a_builder_whose_key_is_taken_back_ends_for_good(site, tmp_path):
    builder = site.add_builder()
    job_id = site.request(make_sdist(tmp_path, "ticker", "1.0", setup=TICKING.format(ticks=1000)))
    builder.wait_for_ticks(2)

    site.operator.revoke("pi")

    assert builder.service.wait(20)
    assert isinstance(builder.service.error, KeyRefusedError)
    assert wait_until(lambda: not builder.sandboxes()) < SOON_S
    wait_until(lambda: site.job(job_id).state is JobState.READY)


def test_a_service_that_goes_on_has_no_error(site):
    builder = site.add_builder()

    assert not builder.service.wait(0.2)
    assert builder.service.error is None
