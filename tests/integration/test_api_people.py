# SPDX-License-Identifier: BSD-3-Clause
"""What people and programs read of the master, whose keys open what, and how errors are told."""

import hashlib

import httpx
import pytest
from fix_master import TARGET
from sqlalchemy import select

from piwheels_node.core import errors
from piwheels_node.core.errors import (
    MasterError,
    NodeError,
    UsageError,
)
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import BuildRequest
from piwheels_node.master.api import problems
from piwheels_node.master.database.models import Model, Token


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
    with farm_of_one.master._database.read() as session:
        stored = [row for table in Model.metadata.sorted_tables for row in session.execute(select(table))]
    for key in farm_of_one.keys.values():
        assert key not in repr(stored)
        assert hashlib.sha256(key.encode()).hexdigest() in repr(stored)
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
