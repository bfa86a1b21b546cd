# SPDX-License-Identifier: BSD-3-Clause
"""A build requirement that exists only as source is built first, and whoever needs it waits for it."""

from __future__ import annotations

import pytest
from fix_master import OFFER
from sdists import make_sdist, make_wheel

from piwheels_node.core.errors import MasterError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState
from piwheels_node.master.jobs import chains

MISSING = FailureReason.REQUIREMENT_MISSING
FAILED = FailureReason.REQUIREMENT_FAILED


def misses(farm, lease, what):
    return farm.failed(lease, MISSING, captured=what)


def leased(farm, name, **listed):
    farm.add_sdist(name, **listed)
    farm.ask(name)
    return farm.lease()


# --- with the real builder -----------------------------------------------------------------------------


def test_what_is_needed_and_has_no_wheel_is_built_first_and_then_used(farm, pypi, tmp_path):
    pypi.add(make_sdist(tmp_path, "helper", "1.0"), project="helper")
    pypi.add(make_sdist(tmp_path, "helper", "2.0"), project="helper")
    setup = "import helper; print('it is', helper.VERSION)"
    sdist = make_sdist(tmp_path, "tiny", "1.0", requires=["helper<2"], setup=setup)

    job = farm.build(sdist)

    assert job.state is JobState.BUILT
    assert "it is 1.0" in farm.log(job)
    kinds = [event.kind for event in farm.client.events(job.job_id) if event.kind != "step"]
    assert kinds == ["queued", "leased", "blocked", "unblocked", "leased", "built"]
    (helper,) = farm.client.project("helper").jobs
    assert (helper.version, helper.state, helper.build.wheel) == (
        "1.0",
        JobState.BUILT,
        "helper-1.0-py3-none-any.whl",
    )


def test_requirements_of_requirements_are_built_from_the_bottom_up(farm, pypi, tmp_path):
    pypi.add(make_sdist(tmp_path, "low", "1.0"), project="low")
    pypi.add(make_sdist(tmp_path, "middle", "1.0", requires=["low"]), project="middle")

    job = farm.build(make_sdist(tmp_path, "high", "1.0", requires=["middle"]))

    assert job.state is JobState.BUILT
    assert [wheel.filename for name in ("low", "middle") for wheel in farm.client.project(name).wheels] == [
        "low-1.0-py3-none-any.whl",
        "middle-1.0-py3-none-any.whl",
    ]


def test_a_wheel_that_was_just_built_is_seen_though_pip_kept_the_page(farm, pypi, tmp_path):
    """The index says that its page may be kept for a minute, and pip from 26.2 on does."""
    farm.build(make_sdist(tmp_path, "helper", "1.0"))
    pypi.add(make_sdist(tmp_path, "helper", "2.0"), project="helper")

    farm.build(make_sdist(tmp_path, "first", "1.0", requires=["helper"]))
    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", requires=["helper>=2"]))

    assert job.state is JobState.BUILT


def test_where_the_requirement_cannot_be_built_it_is_named(farm, pypi, tmp_path):
    pypi.add(make_sdist(tmp_path, "helper", "1.0", setup="raise SystemExit('no')"), project="helper")

    job = farm.build(make_sdist(tmp_path, "tiny", "1.0", requires=["helper"]))

    assert (job.state, job.build.reason, job.build.captured) == (JobState.FAILED, FAILED, "helper")
    assert "helper 1.0 (job" in job.build.evidence


# --- with a builder that the test plays, on both databases ---------------------------------------------


def test_a_job_waits_for_what_it_needs_and_goes_on_by_itself(farm_of_one):
    farm = farm_of_one
    farm.add_sdist("helper", "2.0")
    farm.add_sdist("helper", "3.0", requires_python=">=3.99")
    lease = farm.leased("little")

    answer = misses(farm, lease, "Helper>=1")

    job = farm.job(lease)
    assert (job.state, job.build.reason) == (JobState.BLOCKED, MISSING)
    assert f"it waits for job {job.blocked_on}" in answer.what
    helper = farm.lease()
    assert (helper.job_id, helper.project, helper.version) == (job.blocked_on, "helper", "2.0")
    assert farm.lease() is None
    farm.hand_in(helper, farm.wheel("helper", "2.0"))
    assert (farm.job(lease).state, farm.job(lease).blocked_on) == (JobState.READY, None)
    again = farm.lease()
    assert again.job_id == lease.job_id
    assert farm.hand_in(again, farm.wheel("little")).reason is None
    status = farm.reader.status()
    assert {name: count for name, count in status.jobs.items() if count} == {"built": 2}


def test_all_that_wait_fail_with_what_they_need_down_the_chain(farm_of_one):
    farm = farm_of_one
    high = leased(farm, "high")
    farm.add_sdist("middle")
    misses(farm, high, "middle")
    middle = farm.lease()
    farm.add_sdist("low")
    misses(farm, middle, "low")
    low = farm.lease()

    farm.failed(low, FailureReason.COMPILER_ERROR, captured="x")

    for lease, needed in ((middle, "low"), (high, "middle")):
        job = farm.job(lease)
        assert (job.state, job.build.reason, job.build.captured) == (JobState.FAILED, FAILED, needed)
    assert "compiler-error" in farm.job(middle).build.evidence
    assert "requirement-failed low" in farm.job(high).build.evidence
    assert farm.events(high)[-2:] == ["blocked", "failed"]


def test_a_requirement_that_has_failed_already_is_not_waited_for(farm_of_one):
    farm = farm_of_one
    farm.failed(leased(farm, "helper"), FailureReason.BAD_METADATA)

    lease = leased(farm, "little")
    misses(farm, lease, "helper")

    assert (farm.job(lease).state, farm.job(lease).build.reason) == (JobState.FAILED, FAILED)


def test_two_that_need_each_other_both_fail(farm_of_one):
    farm = farm_of_one
    farm.add_sdist("other")
    one = leased(farm, "one")
    misses(farm, one, "other")
    other = farm.lease()

    misses(farm, other, "one")

    assert "need each other" in farm.job(other).build.evidence
    assert [farm.job(lease).state for lease in (one, other)] == [JobState.FAILED, JobState.FAILED]


def test_who_needs_himself_fails(farm_of_one):
    lease = farm_of_one.leased("little")

    misses(farm_of_one, lease, "little")

    assert "it needs itself" in farm_of_one.job(lease).build.evidence


def test_a_chain_has_an_end_and_nothing_is_built_beyond(farm_of_one):
    farm = farm_of_one
    leases = [leased(farm, "p0")]
    while len(leases) < chains.MOST_DEPTH + 2:
        farm.add_sdist(f"p{len(leases)}")
        misses(farm, leases[-1], f"p{len(leases)}")
        if (lease := farm.lease()) is None:
            break
        leases.append(lease)

    assert len(leases) == chains.MOST_DEPTH
    assert {farm.job(lease).state for lease in leases} == {JobState.FAILED}
    assert "would wait for one another" in farm.job(leases[-1]).build.evidence


def test_a_job_waits_only_so_often(farm_of_one, monkeypatch):
    monkeypatch.setattr(chains, "MOST_WAITS", 1)
    farm = farm_of_one
    farm.add_sdist("helper")
    farm.add_sdist("another")
    lease = farm.leased("little")
    misses(farm, lease, "helper")
    farm.hand_in(farm.lease(), farm.wheel("helper"))

    misses(farm, farm.lease(), "another")

    assert "waited for 1 others" in farm.job(lease).build.evidence
    assert farm.lease() is None


@pytest.mark.parametrize(
    "what", ["nowhere", "not a requirement!", "helper @ file:///x", "covered", "helper>=9"]
)
def test_what_cannot_be_built_is_just_missing(farm_of_one, tmp_path, what):
    farm = farm_of_one
    farm.add_sdist("helper")
    farm.add_sdist("covered")
    farm.pypi.add(make_wheel(tmp_path, "covered", "1.0"), project="covered")
    lease = farm.leased("little")

    misses(farm, lease, what)

    assert (farm.job(lease).state, farm.job(lease).build.reason) == (JobState.FAILED, MISSING)


def test_a_pypi_that_is_away_leaves_the_failure_what_it_is(farm_of_one):
    farm = farm_of_one
    farm.add_sdist("helper")
    lease = farm.leased("little")
    farm.pypi.fail("/simple/helper/", 503)

    misses(farm, lease, "helper")

    assert farm.job(lease).build.reason is MISSING


def test_what_was_built_meanwhile_is_tried_again_at_once_but_not_for_ever(farm_of_one):
    farm = farm_of_one
    helper = leased(farm, "helper")
    lease = leased(farm, "little")
    farm.hand_in(helper, farm.wheel("helper"))

    misses(farm, lease, "helper")

    again = farm.lease()
    assert again.job_id == lease.job_id
    misses(farm, again, "helper")
    assert (farm.job(lease).state, farm.job(lease).build.reason) == (JobState.FAILED, MISSING)


def test_a_requirement_that_is_cancelled_takes_with_it_who_waits_and_asking_again_begins_anew(farm_of_one):
    farm = farm_of_one
    farm.add_sdist("helper")
    lease = farm.leased("little")
    misses(farm, lease, "helper")

    farm.operator.cancel(farm.job(lease).blocked_on)

    assert farm.job(lease).build.reason is FAILED
    assert farm.ask("little").job.state is JobState.READY


def test_a_job_that_waits_can_be_cancelled(farm_of_one):
    farm = farm_of_one
    farm.add_sdist("helper")
    lease = farm.leased("little")
    misses(farm, lease, "helper")

    assert farm.operator.cancel(lease.job_id).state is JobState.CANCELLED

    farm.hand_in(farm.lease(), farm.wheel("helper"))
    assert farm.job(lease).state is JobState.CANCELLED
    with pytest.raises(MasterError, match="ended already"):
        farm.operator.cancel(lease.job_id)


def test_nothing_is_forgotten_of_very_many_that_wait(farm_of_one, monkeypatch):
    """More than one piece of work may move: the rest goes on a little later."""
    monkeypatch.setattr(chains, "_AT_ONCE", 2)
    farm = farm_of_one
    farm.add_sdist("helper")
    waiting = [leased(farm, f"p{number}") for number in range(5)]
    for lease in waiting:
        misses(farm, lease, "helper")
    helper = farm.lease(offer=OFFER)

    farm.hand_in(helper, farm.wheel("helper"))
    while farm.master._context.database.write(lambda s: chains.sweep(s, farm.master._context.now())):
        pass

    assert {farm.job(lease).state for lease in waiting} == {JobState.READY}
