# SPDX-License-Identifier: BSD-3-Clause
"""Rules "this project needs these Debian packages": found, tried, remembered, and decided about by people."""

from __future__ import annotations

import dataclasses
import json

import pytest
from click.testing import CliRunner
from fix_master import OFFER, TARGET
from pydantic import ValidationError

from piwheels_node.cli.main import group
from piwheels_node.client import MasterClient
from piwheels_node.core.errors import MasterError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.messages import FixRequest, OfferedTarget
from piwheels_node.core.settings import BuildSettings

LAYERS = OfferedTarget(name=TARGET, environment_id="env-1", layers=True)
HEADER = FailureReason.MISSING_HEADER


@pytest.fixture
def farm(farm_of_one):
    """A farm whose only builder can add packages, and has said so."""
    assert farm_of_one.lease(offer=LAYERS) is None
    return farm_of_one


def first_lease(farm, name="little", version="1.0"):
    farm.add_sdist(name, version)
    farm.ask(name, version)
    return farm.lease(offer=LAYERS)


def without_auto_fix(farm, **changes):
    context = farm.master._context
    build = BuildSettings(auto_fix=False, **changes)
    object.__setattr__(context, "settings", dataclasses.replace(context.settings, build=build))


def states(farm):
    return [(rule.packages, rule.state) for rule in reversed(farm.reader.fixes())]


def test_a_job_that_missed_a_header_comes_back_with_the_package_and_what_worked_is_remembered(farm):
    lease = first_lease(farm)
    answer = farm.failed(lease, HEADER)
    assert (lease.packages, answer.what) == ([], "it comes back with libffi-dev")
    assert states(farm) == [(["libffi-dev"], FixState.TRYING)]
    assert (farm.job(lease).state, farm.job(lease).packages, farm.job(lease).rounds) == (
        JobState.READY,
        ["libffi-dev"],
        1,
    )

    assert farm.lease(offer=OFFER) is None, "it cannot add packages"
    again = farm.lease(offer=LAYERS)
    assert (again.job_id, again.packages) == (lease.job_id, ["libffi-dev"])
    assert farm.hand_in(again, farm.wheel()).outcome is Outcome.BUILT

    assert states(farm) == [(["libffi-dev"], FixState.WORKS)]
    assert farm.job(lease).build.packages == ["libffi-dev"]
    assert farm.events(lease) == ["queued", "leased", "fixing", "leased", "built"]
    assert first_lease(farm, version="2.0").packages == ["libffi-dev"]


def test_a_rule_that_did_not_help_is_not_tried_again(farm):
    lease = first_lease(farm)
    farm.failed(lease, HEADER)
    farm.failed(farm.lease(offer=LAYERS), HEADER)

    assert states(farm) == [(["libffi-dev"], FixState.FAILED)]
    assert farm.job(lease).state is JobState.FAILED
    later = first_lease(farm, version="2.0")
    assert later.packages == []
    farm.failed(later, HEADER)
    assert farm.job(later).state is JobState.FAILED
    assert len(farm.reader.fixes()) == 1


def test_a_job_comes_back_twice_at_most_and_the_third_package_is_only_proposed(farm):
    lease = first_lease(farm)
    farm.failed(lease, HEADER)
    farm.failed(farm.lease(offer=LAYERS), HEADER, captured="cups/http.h")
    third = farm.lease(offer=LAYERS)
    assert third.packages == ["libcups2-dev", "libffi-dev"]

    farm.failed(third, FailureReason.MISSING_TOOL, captured="pg_config")

    job = farm.job(lease)
    assert (job.state, job.rounds) == (JobState.FAILED, 2)
    proposed = farm.reader.fixes(FixState.PROPOSED)
    assert [rule.packages for rule in proposed] == [["libpq-dev"]]
    assert job.fix == proposed[0].rule_id
    assert [e for e in farm.events(lease) if e != "leased"] == [
        "queued",
        "fixing",
        "fixing",
        "proposed",
        "failed",
    ]


def test_without_a_builder_that_can_add_packages_a_rule_is_proposed_and_accepted_later(farm_of_one):
    farm = farm_of_one
    lease = farm.leased()
    farm.failed(lease, HEADER)
    (rule,) = farm.reader.fixes(FixState.PROPOSED, project="Little")
    assert (rule.packages, rule.reason, rule.captured, rule.release) == (
        ["libffi-dev"],
        HEADER,
        "ffi.h",
        "debian12",
    )
    assert (rule.job_id, rule.decided_by) == (lease.job_id, "master")
    assert farm.ask().outcome is Outcome.FAILED

    assert farm.lease(offer=LAYERS) is None
    answer = farm.operator.accept_fix(rule.rule_id, "it is worth a try")

    assert (answer.jobs, answer.rule.state, answer.rule.decided_by) == (
        [lease.job_id],
        FixState.TRYING,
        "person",
    )
    again = farm.lease(offer=LAYERS)
    assert (again.job_id, again.packages) == (lease.job_id, ["libffi-dev"])


def test_where_a_person_decides_nothing_is_tried_before(farm):
    without_auto_fix(farm)
    lease = first_lease(farm)
    farm.failed(lease, HEADER)

    assert farm.job(lease).state is JobState.FAILED
    assert states(farm) == [(["libffi-dev"], FixState.PROPOSED)]


def test_what_a_person_refused_is_neither_used_nor_proposed_again(farm):
    without_auto_fix(farm)
    farm.failed(first_lease(farm), HEADER)
    (rule,) = farm.reader.fixes()

    answer = farm.operator.refuse_fix(rule.rule_id, "it is not free")

    assert (answer.rule.state, answer.rule.why) == (FixState.OFF, "it is not free")
    farm.failed(first_lease(farm, version="2.0"), HEADER)
    assert states(farm) == [(["libffi-dev"], FixState.OFF)]


def test_a_rule_by_hand_is_for_jobs_that_wait_and_for_those_that_failed(farm):
    failed = first_lease(farm)
    farm.failed(failed, FailureReason.COMPILER_ERROR)
    farm.add_sdist(version="2.0")
    waits = farm.ask(version="2.0").job

    answer = farm.operator.add_fix(FixRequest(project="Little", packages=["libffi-dev", "cmake"]))

    assert answer.jobs == [failed.job_id]
    wanted = ["cmake", "libffi-dev"]
    assert [farm.reader.job(one).packages for one in (failed.job_id, waits.job_id)] == [wanted, wanted]
    farm.operator.refuse_fix(answer.rule.rule_id)
    assert farm.reader.job(waits.job_id).packages == []


def test_a_rule_for_another_debian_is_not_used(farm):
    farm.add_sdist()
    job = farm.ask().job

    farm.operator.add_fix(FixRequest(project="little", packages=["libffi-dev"], release="debian13"))

    assert farm.reader.job(job.job_id).packages == []


def test_a_failure_is_told_again_until_something_changes_that_it_is_about(farm):
    lease = first_lease(farm)
    farm.failed(lease, HEADER)
    farm.failed(farm.lease(offer=LAYERS), HEADER, environment_id="env-1-and-a-layer")
    assert farm.ask().outcome is Outcome.FAILED
    assert farm.lease(offer=LAYERS.model_copy(update={"environment_id": "env-2"})) is None

    assert farm.ask().job.state is JobState.READY


def test_only_an_operator_decides(farm):
    without_auto_fix(farm)
    farm.failed(first_lease(farm), HEADER)
    (rule,) = farm.reader.fixes()

    for client in (farm.reader, farm.builder):
        with pytest.raises(MasterError):
            client.accept_fix(rule.rule_id)
    with pytest.raises(MasterError, match="no such rule"):
        farm.operator.accept_fix(99)


def test_words_that_are_no_names_of_packages_are_refused(farm):
    with pytest.raises(ValidationError):
        FixRequest(project="little", packages=["-o"])
    with MasterClient(farm.url, farm.keys["operator"]) as client, pytest.raises(MasterError):
        client._call("POST", "/fixes", FixRequest.model_construct(project="little", packages=["--yes"]))
    with pytest.raises(MasterError, match="nothing of this project"):
        farm.operator.add_fix(FixRequest(project="unheard-of", packages=["cmake"]))


def test_rules_are_listed_accepted_refused_and_made_by_commands(farm, tmp_path):
    without_auto_fix(farm)
    lease = first_lease(farm)
    farm.failed(lease, HEADER)
    key = tmp_path / "operator.key"
    key.write_text(farm.keys["operator"])

    def run(*words, code=0):
        there = ["--master", farm.url, "--key-file", str(key)]
        done = CliRunner().invoke(group, ["master", "fixes", *words, *there])
        assert done.exit_code == code, done.output
        return done.stdout

    (rule,) = json.loads(run("list", "--state", "proposed", "--json"))
    assert (rule["project"], rule["packages"], rule["job_id"]) == ("little", ["libffi-dev"], lease.job_id)
    assert {"missing-header", "ffi.h", "debian12"} <= set(run("list").split())
    number = str(rule["rule_id"])
    assert "little needs libffi-dev" in run("off", number, "--why", "not now")
    assert f"ready again: job {lease.job_id}" in run("accept", number)
    added = json.loads(run("add", "little", "cmake", "--release", "debian12", "--json"))
    assert (added["rule"]["state"], added["rule"]["release"]) == ("trying", "debian12")
    assert farm.job(lease).packages == ["cmake", "libffi-dev"]
