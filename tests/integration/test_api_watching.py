# SPDX-License-Identifier: BSD-3-Clause
"""What only HTTP shows of the questions of screens: keys, packing, and what cannot be asked."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import insert

from piwheels_node.client import MasterClient
from piwheels_node.core.access import Access
from piwheels_node.core.errors import KeyRefusedError, MasterError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.standing import in_order
from piwheels_node.master.database.models import Builder


def test_a_key_that_the_master_does_not_know_is_told_from_none(farm_of_one):
    me = farm_of_one.builder.who_am_i()
    assert (me.access, me.builder, me.access.may_act) == (Access.BUILDER, "pi", False)

    with MasterClient(farm_of_one.url, "no-such-key") as stranger:
        with pytest.raises(KeyRefusedError):
            stranger.who_am_i()
        assert stranger.farm().builders == 1


def test_a_long_answer_is_packed_for_who_can_read_that_and_says_the_same(farm_of_one):
    rows = [
        {"name": f"pi-{one:03}", "created_at": datetime.now(UTC), "why": "a reason that is said often"}
        for one in range(100)
    ]
    farm_of_one.master._database.write(lambda session: session.execute(insert(Builder), rows))
    url = f"{farm_of_one.url}/api/v1/farm?rows=true"

    plain = httpx.get(url, headers={"Accept-Encoding": "identity"})
    with httpx.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())

    assert "content-encoding" not in plain.headers
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert json.loads(gzip.decompress(raw))["columns"] == plain.json()["columns"]
    assert len(raw) < len(plain.content) / 5
    told = farm_of_one.reader.farm(rows=True).rows
    assert (len(told), told) == (101, in_order(told))
    assert farm_of_one.reader.farm(rows=True, first=7).rows == told[:7]
    assert farm_of_one.reader.farm(first=7).rows == []
    short = httpx.get(f"{farm_of_one.url}/api/v1/farm", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in short.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/builds/7/log", 404),
        ("/builds/7", 404),
        ("/builds/x", 422),
        ("/builds?before=0", 422),
        ("/builds?limit=501", 422),
        ("/builds?reason=bad-luck", 422),
        ("/queue?limit=0", 422),
        ("/queue/ready", 422),
        ("/queue/ready?target=t&priority=7", 422),
        ("/statistics?since=2020-01-01", 400),
        ("/statistics/builders?since=2026-02-02&until=2026-02-01", 400),
        ("/statistics/hours?hours=745", 422),
        ("/projects", 422),
        ("/projects?name=", 422),
        ("/jobs/7/log", 200),
        ("/jobs/7/log?last=0", 422),
        ("/jobs/7/log?line=9223372036854775808", 422),
    ],
)
def test_what_cannot_be_asked_is_a_problem_that_says_so(farm_of_one, path, status):
    answer = httpx.get(f"{farm_of_one.url}/api/v1{path}")

    assert answer.status_code == status
    if status != 200:
        assert answer.json()["what"]


def test_a_log_that_has_gone_is_told_from_one_that_is_empty(farm_of_one):
    lease = farm_of_one.leased()
    farm_of_one.failed(lease, FailureReason.TIMEOUT)
    [build] = farm_of_one.reader.builds().builds

    assert farm_of_one.reader.build(build.build_id).log_bytes is None
    part = farm_of_one.reader.build_log(build.build_id)
    assert (part.data, part.size_bytes, part.name) == (b"", 0, "")


def test_statistics_are_about_400_days_at_most(farm_of_one):
    today = datetime.now(UTC).date()

    found = farm_of_one.reader.statistics(today - timedelta(days=399), today)
    assert len(found.days) == 400
    with pytest.raises(MasterError, match="1 to 400 days"):
        farm_of_one.reader.builder_statistics(today - timedelta(days=400), today)
