# SPDX-License-Identifier: BSD-3-Clause
"""What is said of awkward projects is true: from pages like PyPI's. `test_pypi_real` asks PyPI itself."""

from __future__ import annotations

import pytest
from awkward import AWKWARD, NEW, OLD
from fix_database import NOW

from piwheels_node.core.targets import Target
from piwheels_node.master.jobs.plan import Scope
from piwheels_node.master.jobs.planning import Farm
from piwheels_node.master.pypi import people
from piwheels_node.master.pypi.listing import read_listing

FARM = Farm({Target.parse(OLD): 1, Target.parse(NEW): 2}, Scope.MISSING, NOW)


def explained(database, project, version, **how):
    """What is said for the two targets."""
    with database.read() as session:
        (release,) = people.explain(session, project, version, FARM, **how).releases
    return {one.target: f"{one.verdict}: {one.what}" for one in release.targets}


@pytest.mark.parametrize("case", AWKWARD, ids=lambda case: f"{case.project}-{case.version}")
def test_what_is_said_of_an_awkward_release_is_true(sqlite_database, case):
    page = {"files": case.page(), "versions": [case.version]}
    told = explained(
        sqlite_database, read_listing(case.project, "http://127.0.0.1/simple/x/", page), case.version
    )

    assert told[OLD].startswith(case.old)
    assert told[NEW].startswith(case.new)


def test_what_nobody_follows_is_not_said_to_be_built(sqlite_database):
    (numpy,) = [case for case in AWKWARD if case.project == "numpy"]
    project = read_listing("numpy", "http://127.0.0.1/simple/x/", {"files": numpy.page()})
    told = explained(sqlite_database, project, "1.26.4", why_not="it is not watched (pypi.watch)")

    assert set(told.values()) == {"unwanted: it is not watched (pypi.watch)"}
