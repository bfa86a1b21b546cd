# SPDX-License-Identifier: BSD-3-Clause
"""A running master that follows PyPI: what happens there happens here; what pip misses is built."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import timedelta

import httpx
import pytest
from click.testing import CliRunner
from fix_database import NOW
from fix_master import FarmOfOne
from sqlalchemy import select

from piwheels_node.cli.master import group
from piwheels_node.cli.master.popularity import read_names
from piwheels_node.core.errors import UsageError
from piwheels_node.core.jobs import JobState, Outcome
from piwheels_node.core.settings import PypiSettings
from piwheels_node.core.targets import Target
from piwheels_node.master.database.models import PlanNote, PypiProject
from piwheels_node.master.index.asks import MOST as MOST_ASKS
from piwheels_node.master.index.asks import Asks
from piwheels_node.master.index.misses import MOST, Misses, wanted_by
from piwheels_node.master.pypi import demand
from piwheels_node.master.running import following as running

X86 = Target.parse("cp311-linux_x86_64-debian12")
ARM = Target.parse("cp313-linux_armv7l-debian13")


def agent(tool="pip/25.1", cpu="x86_64", python="3.11.2", version="12", **more):
    told = {"cpu": cpu, "implementation": {"version": python}, "distro": {"version": version}, **more}
    told |= {"python": python} if "implementation" in more else {}
    return f"{tool} {json.dumps(told)}"


@pytest.mark.parametrize(
    ("told", "target"),
    [
        (agent(), X86),
        (agent("uv/0.9", implementation={"name": "CPython"}, python="3.11.2"), X86),
        (agent(cpu="armv7l", python="3.13.5", version="13"), ARM),
        (agent(cpu="armv8l", python="3.13.5", version="13"), ARM),
        (agent(cpu="aarch64", python="3.13.5", version="13"), None),
        (agent(version="13"), None),
        (agent(python="3.12.1"), None),
        (agent("Mozilla/5.0"), None),
        ("pip/25.1", None),
        ("pip/25.1 {", None),
        ("pip/25.1 " + "[" * 1000 + "{" * 1000, None),
        ('pip/25.1 {"cpu": 7, "implementation": []}', None),
        ("", None),
    ],
)
def test_a_client_says_what_it_installs_for(told, target):
    assert wanted_by(told, [X86, ARM]) == target


def test_so_many_misses_are_remembered_and_each_once():
    misses = Misses()
    for _ in range(2):
        for number in range(MOST + 10):
            misses.note(f"p{number}", "pip")
    assert len(misses.take()) == MOST
    assert misses.take() == []


class Following(FarmOfOne):
    """A master that follows; everything in it happens as soon as it may."""

    def __init__(self, data, living, database, **settings):
        self._pypi_settings = PypiSettings(
            index_url=living.index_url, timeout_s=5, max_age_s=0.0, **{"every_s": 0.05, **settings}
        )
        super().__init__(data, living, database=database)

    def __setattr__(self, name, value):
        if name == "settings":
            value = dataclasses.replace(value, pypi=self._pypi_settings)
        super().__setattr__(name, value)

    def page(self, name, **headers):
        return httpx.get(f"{self.url}/simple/{name}/", headers=headers)

    def until(self, holds, seconds=60):
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def following(request, tmp_path, living, monkeypatch):
    """Makes a master that follows, with settings, on a database of each kind."""
    monkeypatch.setattr(running, "_LOOK_S", 0.05)
    made = []
    # Now, not in `make`: what is asked for later ends sooner, and would be emptied below a running master.
    database = "" if request.param == "sqlite" else request.getfixturevalue("new_postgres")()

    def make(**settings):
        made.append(Following(tmp_path / "master", living, database, **settings))
        made[0].lease()  # so the master knows a target
        return made[0]

    yield make
    for farm in made:
        farm.close()


def test_a_release_is_heard_built_yanked_quarantined_and_back(following, living):
    living.add("little", "little-1.0.tar.gz")
    farm = following(follow="changelog")
    lease = farm.lease(wait_s=20)
    assert (lease.project, lease.version, lease.sdist.sha256) == (
        "little",
        "1.0",
        living.projects["little"].files["little-1.0.tar.gz"]["hashes"]["sha256"],
    )
    assert farm.hand_in(lease, farm.wheel("little", "1.0")).outcome is Outcome.BUILT
    living.change("little", "little-1.0.tar.gz", yanked="broken")
    farm.until(lambda: "data-yanked" in farm.page("little").text)
    living.set_status("little", "archived")
    farm.until(lambda: 'project-status" content="archived' in farm.page("little").text)
    living.set_status("little", "quarantined")
    farm.until(lambda: farm.page("little").status_code == 404)
    assert farm.reader.status().wheels == 0
    living.set_status("little", "active")
    farm.until(lambda: farm.page("little").status_code == 200)
    living.remove("little")
    farm.until(lambda: farm.page("little").status_code == 404)
    assert farm.reader.status().wheels == 0


def test_a_project_that_pip_misses_is_built_once(following, living):
    for name in ("wanted", "other"):
        living.add(name, f"{name}-1.0.tar.gz")
    farm = following(follow="list", scope="requested")

    def known():
        with farm.master._database.read() as session:
            return len(session.scalars(select(PypiProject.id)).all())

    farm.until(lambda: known() == 2)
    for name in ("wanted", "wanted", "absent"):
        assert farm.page(name, **{"User-Agent": agent()}).status_code == 404
    assert farm.page("other").status_code == 404  # not asked by pip
    lease = farm.lease(wait_s=20)

    assert lease.project == "wanted"
    assert [job.state for job in farm.reader.jobs()] == [JobState.LEASED]


def test_a_master_stops_at_once_though_pypi_hangs(following, living):
    living.add("little", "little-1.0.tar.gz")
    farm = following(follow="watch", watch="little")
    lock = living._lock
    with lock:  # PyPI answers nobody
        farm.until(lambda: True)
        begin = time.monotonic()
        farm.master.stop()
        stopped_s = time.monotonic() - begin
    assert stopped_s < 15


@pytest.fixture
def followed_rows(database):
    """A database that knows some projects, and their rows."""

    def row(name):
        with database.read() as session:
            return session.scalars(select(PypiProject).where(PypiProject.name == name)).one()

    def make(*names):
        rows = [PypiProject(name=name, newest_at=NOW, read_at=NOW) for name in names]
        database.write(lambda session: session.add_all(rows))
        return database, row

    return make


@pytest.fixture
def commands(following, living, tmp_path):
    """A master that watches two projects, and what its operator types."""
    living.add("little", "little-1.0.tar.gz")
    living.add("little", "little-2.0.tar.gz")
    living.add("little", "little-2.0-py3-none-any.whl")
    living.add("other", "other-1.0.tar.gz")
    farm = following(follow="watch", watch="little other")
    key = tmp_path / "key"
    key.write_text(farm.keys["operator"])

    def call(*words, code=0):
        options = ["--master", farm.url, "--key-file", str(key)]
        done = CliRunner().invoke(group, [*words, *options], standalone_mode=False)
        if done.exception is not None and not code:
            raise done.exception
        return done.output

    call.farm = farm
    return call


def test_an_operator_sees_what_is_planned_and_why_not_and_changes_it(commands):
    told = json.loads(commands("sync", "--all", "--json"))
    assert (told["follow"], told["projects"], told["waiting"]) == ("watch", 2, 0)
    commands.farm.until(
        lambda: [one["done"] for one in json.loads(commands("sync", "--json"))["walks"]] == [True]
    )
    told = json.loads(commands("explain", "Little", "--json"))
    assert [(one["version"], one["targets"][0]["verdict"]) for one in told["releases"]] == [
        ("2.0", "covered"),
        ("1.0", "under-way"),
    ]
    assert "PyPI has little-2.0-py3-none-any.whl" in commands("explain", "little==2.0")

    assert "too old" in commands("skip", "little<2", "--reason", "too old")
    farm = commands.farm
    assert "skipped by" in commands("explain", "little==1.0")
    farm.until(lambda: farm.reader.project("little").jobs[0].state is JobState.CANCELLED)
    assert "job" in commands("request", "little==1.0", "--target", str(X86))
    assert "too old" in commands("unskip", "little")
    assert "Nothing is skipped" in commands("skip")
    assert commands.farm.reader.project("little").jobs[0].state is JobState.READY


def test_what_was_built_is_built_once_more_when_an_operator_wants_it(commands):
    farm = commands.farm
    commands("request", "little==1.0", "--target", str(X86))
    lease = farm.lease(wait_s=20)
    farm.hand_in(lease, farm.wheel("little", "1.0"))
    assert "queued again" in commands("rebuild", "little==1.0")
    again = farm.lease(wait_s=20)

    assert (again.job_id, again.taken_names) == (lease.job_id, ["little-1.0-py3-none-any.whl"])
    assert "not ended" in commands("rebuild", "little==1.0")


def test_a_list_of_the_most_wanted_moves_them_forward(commands, tmp_path):
    farm = commands.farm
    commands.farm.until(lambda: json.loads(commands("sync", "--json"))["walks"])
    farm.until(lambda: len(farm.reader.jobs(JobState.READY)) == 2)
    (tmp_path / "top.json").write_text('{"rows": [{"project": "Other"}, {"project": "absent"}]}')
    assert "2 names were read; 1 of these" in commands("popularity", "load", str(tmp_path / "top.json"))
    (other,) = [job for job in farm.reader.jobs() if job.project == "other"]
    farm.until(lambda: "raised" in [event.kind for event in farm.reader.events(other.job_id)])

    assert farm.lease().project == "other"


def test_what_the_index_is_asked_for_moves_forward(commands, monkeypatch):
    farm = commands.farm
    farm.until(lambda: len(farm.reader.jobs(JobState.READY)) == 2)
    (other,) = [job for job in farm.reader.jobs() if job.project == "other"]
    for _ in range(5):
        farm.page("other")
        farm.page("no-such-project")
    monkeypatch.setattr(running, "_ASKS_S", 0.0)
    farm.until(lambda: "raised" in [event.kind for event in farm.reader.events(other.job_id)])

    assert farm.lease().project == "other"


def test_counts_of_what_is_asked_for_are_added_up_and_fade(followed_rows):
    database, row = followed_rows("wanted", "other")
    for days in (0, 30):
        demand.add(database, {"wanted": 8, "absent": 7}, NOW + timedelta(days=days))

    assert row("wanted").asks == pytest.approx(4 + 8)
    assert row("other").asks == 0
    with database.read() as session:
        assert session.scalars(select(PlanNote.name)).all() == ["wanted"]


def test_so_many_projects_are_counted_and_others_later():
    asks = Asks()
    for _ in range(2):
        for number in range(MOST_ASKS + 10):
            asks.note(f"p{number}")
    assert set(asks.take().values()) == {2}
    asks.note("p")
    assert asks.take() == {"p": 1}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a\n\nB # why\na\n", ["a", "B"]),
        ('["a", {"name": "b"}, 7, null]', ["a", "b"]),
        ('{"rows": [{"project": "a", "download_count": 7}]}', ["a"]),
        ("", []),
    ],
)
def test_lists_of_names_are_read_in_several_shapes(text, names):
    assert read_names(text) == names


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[" * 100_000])
def test_other_json_is_no_list_of_names(text):
    with pytest.raises(UsageError):
        read_names(text)
