# SPDX-License-Identifier: BSD-3-Clause
"""Asking the master for a build, over real HTTP, with the client that commands use."""

import pytest
from fix_master import OFFER, TARGET, with_settings

from piwheels_node.core.errors import (
    MasterError,
    NotOnPyPIError,
    PyPIError,
)
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import BuildRequest, Hello, LeaseRequest


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
