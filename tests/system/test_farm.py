# SPDX-License-Identifier: BSD-3-Clause
"""A whole farm in network namespaces: cables are pulled while builders build and upload."""

from __future__ import annotations

import time

import pytest
from fix_command import until
from sdists import c_extension, make_sdist
from whole_farm import LEASE_S, whole_farm_of

_SLOW = "import time; print('slow', flush=True); time.sleep(5)"
_LARGE = "import random; open('src/data', 'wb').write(random.Random(1).randbytes(3_000_000))"


def _make_sdists(place):
    for number in range(4):
        make_sdist(place, f"pure{number}", "1.0")
    make_sdist(place, "native", "1.0", c_source=c_extension("_native"))
    for name in ("slow", "slower"):
        make_sdist(place, name, "1.0", setup=_SLOW)
    make_sdist(place, "later", "1.0")
    make_sdist(place, "large", "1.0", setup=_LARGE)


@pytest.fixture(scope="module")
def whole_farm():
    """A master and two builders that run, for all tests of this module."""
    with whole_farm_of(_make_sdists) as farm:
        yield farm


@pytest.fixture(autouse=True)
def _shown(request, whole_farm):
    """Where a test fails pytest shows what the machines said."""
    yield
    whole_farm.show()


def test_builders_in_other_networks_build_what_pip_installs(whole_farm, venv):
    names = ["native", *(f"pure{number}" for number in range(4))]
    ended = whole_farm.ask(*names).end()
    assert ended.code == 0, ended.err
    assert {one["outcome"] for one in ended.results} == {"built"}
    assert set(whole_farm.status()) == {"a", "b"}

    whole_farm.install("b", venv, *names)
    assert venv.says("import _native, pure3; print(_native.answer(), pure3.VERSION)") == "42 1.0"
    whole_farm.nothing_is_lost()


def test_a_cable_out_for_less_than_a_lease_costs_nothing(whole_farm):
    asked = whole_farm.ask("slow")
    name = until(lambda: whole_farm.who_builds("slow"), "a builder that builds it")
    whole_farm.network.cut(name)
    time.sleep(LEASE_S / 2)
    whole_farm.network.mend(name)

    ended = asked.end()
    assert ended.code == 0, ended.err
    assert whole_farm.job("slow") == (1, 0)
    whole_farm.nothing_is_lost()


def test_a_cable_out_for_longer_than_a_lease_gives_the_job_to_the_other(whole_farm):
    asked = whole_farm.ask("slower")
    first = until(lambda: whole_farm.who_builds("slower"), "a builder that builds it")
    whole_farm.network.cut(first)
    second = until(lambda: whole_farm.who_builds("slower") not in {None, first}, "the other builder")
    assert second
    whole_farm.network.mend(first)

    ended = asked.end()
    assert ended.code == 0, ended.err
    assert whole_farm.job("slower") == (2, 1)
    until(lambda: "given back" in whole_farm.services[first].err, "the first to give up")
    whole_farm.nothing_is_lost()
    again = whole_farm.ask("later").end()
    assert again.code == 0, again.err


def test_a_cable_pulled_out_in_the_middle_of_an_upload_is_no_loss(whole_farm):
    for name in whole_farm.builders:
        whole_farm.network.slow_down(name, "4mbit")  # 3 MB take 6 s
    asked = whole_farm.ask("large")
    incoming = whole_farm.master.data / "incoming"

    def arriving():
        return sum(path.stat().st_size for path in incoming.glob("*.part"))

    until(lambda: arriving() > 500_000, "the beginning of the wheel")
    name = until(lambda: whole_farm.who_builds("large", step="upload"), "the builder that uploads")
    whole_farm.network.cut(name)
    time.sleep(2)
    before = arriving()
    whole_farm.network.mend(name)

    ended = asked.end()
    assert 0 < before < 3_000_000
    assert ended.code == 0, ended.err
    whole_farm.nothing_is_lost()
