# SPDX-License-Identifier: BSD-3-Clause
"""From a builder's report to a public wheel, or to a failure with a reason; whatever goes wrong between."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from fix_database import NOW, TARGET, Tables, later
from sdists import make_wheel
from sqlalchemy import select

from piwheels_node.core.errors import LeaseLostError, StorageError, WheelError
from piwheels_node.core.failure import FailureReason, Policy
from piwheels_node.core.jobs import JobState, Outcome, Step
from piwheels_node.core.messages import BuildEnvironment, Limits, Report, StepTime, WheelClaim
from piwheels_node.core.settings import MasterSettings
from piwheels_node.core.targets import Target
from piwheels_node.master.database.models import BlockedWheel, Build, Event, Job, Project, TargetRow, Wheel
from piwheels_node.master.jobs import queue
from piwheels_node.master.wheels import publish
from piwheels_node.master.wheels.store import WheelStore

SETTINGS = MasterSettings(max_attempts=2, retry_delay_s=10.0)
ENVIRONMENT = BuildEnvironment(environment_id="e1", python="3.11", release="debian12", tools={"gcc": "12.2"})


def claim_of(path: Path, **lies) -> WheelClaim:
    content = path.read_bytes()
    facts = {"filename": path.name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return WheelClaim(**{**facts, **lies})


@dataclass
class Bench:
    """Tables with a store, and the hands of a builder."""

    tables: Tables
    store: WheelStore
    made: Path

    def wheel(self, name="thing", version="1.0", **lies) -> Path:
        self.made.mkdir(exist_ok=True)
        return make_wheel(self.made, name, version, **lies)

    def upload(self, job: Job, path: Path) -> None:
        content = path.read_bytes()
        self.store.write_at(self.store.incoming(job.id, job.lease_token), 0, content, len(content))

    def report(self, job: Job, *, now=NOW, limits=None, **fields):
        fields = {"outcome": Outcome.BUILT, "duration_s": 2.5, "environment": ENVIRONMENT, **fields}
        return publish.accept(
            self.tables.database,
            self.store,
            job_id=job.id,
            token=job.lease_token,
            report=Report(token=job.lease_token, **fields),
            limits=limits or Limits(),
            settings=SETTINGS,
            clock=lambda: now,
        )

    def hand_in(self, job: Job, path: Path, *, claim=None, **fields):
        self.upload(job, path)
        return self.report(job, wheel=claim or claim_of(path), **fields)

    def facts(self, path: Path):
        subject = publish.Subject("thing", "1.0", Target.parse(TARGET), frozenset())
        return publish.check(path, claim_of(path), subject, Limits())

    def claim_elsewhere(self, now, **claim) -> Job:
        """The job, leased by one more builder once its delay is over."""
        self.tables.database.write(lambda session: queue.wake(session, now))
        return self.tables.claim(now, builder_id=self.tables.add_builder(), **claim)

    def builds(self) -> list[Build]:
        with self.tables.database.read() as session:
            return list(session.scalars(select(Build).order_by(Build.id)))

    def wheels(self) -> list[Wheel]:
        with self.tables.database.read() as session:
            return list(session.scalars(select(Wheel).order_by(Wheel.id)))

    def serial(self) -> int:
        with self.tables.database.read() as session:
            return session.scalars(select(Project.serial)).one()

    def stored(self) -> list[str]:
        return sorted(
            path.name
            for part in ("wheels", "incoming")
            for path in self.made.parent.glob(f"store/{part}/**/*")
            if path.is_file()
        )


@pytest.fixture
def bench(tables, tmp_path):
    return Bench(tables, WheelStore(tmp_path / "store"), tmp_path / "made")


@pytest.fixture
def job(bench):
    bench.tables.add_job()
    return bench.tables.claim()


def test_a_wheel_that_passes_is_stored_and_public(bench, job):
    path = bench.wheel(requires_python=">=3.9")
    answer = bench.hand_in(job, path, steps=[StepTime(step=Step.BUILD, duration_s=1.0)], cpu_s=2.0)

    assert answer.outcome is Outcome.BUILT
    (wheel,) = bench.wheels()
    assert (wheel.filename, wheel.size_bytes) == (path.name, path.stat().st_size)
    assert wheel.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (wheel.requires_python, wheel.published_at) == (">=3.9", NOW)
    assert bench.store.path("thing", path.name).read_bytes() == path.read_bytes()
    metadata = bench.store.metadata_path("thing", path.name).read_bytes()
    assert hashlib.sha256(metadata).hexdigest() == wheel.metadata_sha256
    assert b"Name: thing" in metadata
    assert bench.stored() == [path.name, f"{path.name}.metadata"]


def test_publication_ends_the_job_counts_the_wheel_and_changes_the_page(bench, job):
    path = bench.wheel()
    before = bench.serial()
    bench.hand_in(job, path)

    ended = bench.tables.job(job.id)
    assert (ended.state, ended.lease_token, ended.builder_id) == (JobState.BUILT, None, None)
    assert bench.serial() == before + 1
    assert bench.tables.counters() == {
        "jobs.built": 1,
        "wheels": 1,
        "wheels.bytes": path.stat().st_size,
        "wheels.abi.none": 1,
        "wheels.platform.any": 1,
        f"builder.{bench.tables.builder_id}.built": 1,
    }
    assert bench.tables.events(job.id) == ["queued", "leased", "built"]
    (build,) = bench.builds()
    assert (build.outcome, build.reason, build.attempt) == (Outcome.BUILT, None, 1)
    assert (build.builder_id, build.started_at, build.duration_s) == (bench.tables.builder_id, NOW, 2.5)
    assert build.environment["tools"] == {"gcc": "12.2"}


def test_a_result_under_an_old_lease_is_refused_and_leaves_no_trace(bench, job):
    path = bench.wheel()
    bench.upload(job, path)
    with pytest.raises(LeaseLostError):
        bench.report(job, wheel=claim_of(path), now=later(3600))

    assert bench.wheels() == bench.builds() == []
    bench.tables.database.write(lambda s: queue.reap(s, later(3600), SETTINGS))
    with pytest.raises(LeaseLostError):
        bench.report(job, wheel=claim_of(path))
    assert not bench.store.path("thing", path.name).exists()


def test_the_same_report_twice_is_one_wheel(bench, job):
    path = bench.wheel()
    bench.hand_in(job, path)
    with pytest.raises(LeaseLostError):
        bench.hand_in(job, path)

    assert len(bench.wheels()) == 1


def test_a_report_that_is_overtaken_by_its_repetition_is_lost(bench, job, monkeypatch):
    """The answer to a report was lost, and it came again while the first was still looked at."""
    path = bench.wheel()
    bench.upload(job, path)
    seal = bench.store.seal

    def seal_slowly(upload):
        sealed = seal(upload)
        monkeypatch.setattr(bench.store, "seal", seal)
        assert bench.report(job, wheel=claim_of(path)).outcome is Outcome.BUILT
        return sealed

    monkeypatch.setattr(bench.store, "seal", seal_slowly)
    with pytest.raises(LeaseLostError):
        bench.report(job, wheel=claim_of(path))

    assert len(bench.wheels()) == len(bench.builds()) == 1


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"sha256": "0" * 64}, FailureReason.BUILDER_FAILED),
        ({"size_bytes": 7}, FailureReason.BUILDER_FAILED),
        ({"filename": "other-1.0-py3-none-any.whl"}, FailureReason.WHEEL_WRONG_NAME),
        ({"filename": "thing-2.0-py3-none-any.whl"}, FailureReason.WHEEL_WRONG_NAME),
        ({"filename": "thing.whl"}, FailureReason.WHEEL_INVALID),
        ({"filename": "../thing-1.0-py3-none-any.whl"}, FailureReason.WHEEL_INVALID),
    ],
)
def test_a_claim_that_lies_is_a_failure(bench, job, claim, reason):
    path = bench.wheel()
    answer = bench.hand_in(job, path, claim=claim_of(path, **claim))

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, reason)
    assert bench.wheels() == []
    assert bench.stored() == []
    assert [build.reason for build in bench.builds()] == [reason]


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"metadata_version": "9.9"}, FailureReason.WHEEL_WRONG_NAME),
        ({"bad_hash": "thing.py"}, FailureReason.WHEEL_INVALID),
        ({"tags": "cp39-cp39-win_amd64"}, FailureReason.WHEEL_WRONG_ARCH),
    ],
)
def test_a_wheel_that_lies_is_a_failure_with_its_reason_and_what_was_seen(bench, job, lie, reason):
    answer = bench.hand_in(job, bench.wheel(**lie))

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, reason)
    assert answer.what
    assert bench.builds()[0].evidence == answer.what
    assert bench.tables.job(job.id).state is JobState.FAILED
    assert bench.stored() == []


def test_a_wheel_that_is_too_big_is_refused(bench, job):
    answer = bench.hand_in(job, bench.wheel(), limits=Limits(wheel_bytes=100))

    assert answer.reason is FailureReason.WHEEL_TOO_BIG


def test_a_report_of_a_wheel_that_never_came_blames_the_builder_and_another_one_tries(bench, job):
    answer = bench.report(job, wheel=claim_of(bench.wheel()))

    assert answer.reason is FailureReason.BUILDER_FAILED
    assert bench.tables.job(job.id).state is JobState.DELAYED


@pytest.mark.parametrize("outcome", [Outcome.BUILT, Outcome.COVERED])
def test_a_report_that_makes_no_sense_blames_the_builder(bench, job, outcome):
    assert bench.report(job, outcome=outcome).reason is FailureReason.BUILDER_FAILED


def test_a_name_that_pypi_has_or_that_was_once_published_is_never_used_again(bench):
    path = bench.wheel()
    bench.tables.add_job(files=[path.name])
    job = bench.tables.claim()
    answer = bench.hand_in(job, path)

    assert answer.reason is FailureReason.WHEEL_INVALID
    assert "used already" in answer.what
    again = bench.wheel(build="1")
    requeue(bench, job.id)
    job = bench.tables.claim()
    assert bench.hand_in(job, again).outcome is Outcome.BUILT

    withdraw_all(bench)
    requeue(bench, job.id)
    job = bench.tables.claim()
    assert bench.hand_in(job, again).reason is FailureReason.WHEEL_INVALID
    with bench.tables.database.read() as session:
        release = session.get_one(Job, job.id).release
        assert publish.taken_names(session, release.id) == sorted([path.name, again.name])


def requeue(bench, job_id):
    bench.tables.database.write(lambda s: queue.requeue(s, s.get_one(Job, job_id), now=NOW, why="test"))


def withdraw_all(bench):
    def work(session):
        for wheel in session.scalars(select(Wheel)):
            wheel.withdrawn_at = NOW

    bench.tables.database.write(work)


def test_the_names_of_sdists_are_not_names_of_wheels(bench, job):
    with bench.tables.database.read() as session:
        assert publish.taken_names(session, session.get_one(Job, job.id).release_id) == []


def test_publishing_the_same_name_within_the_transaction_is_refused_too(bench, job):
    path = bench.wheel()
    facts = bench.facts(path)
    report = Report(token=job.lease_token, outcome=Outcome.BUILT, duration_s=1.0, wheel=claim_of(path))

    def twice(session):
        held = queue.held(session, job.id, job.lease_token, NOW)
        publish.publish_wheel(session, held, report, facts, NOW)
        publish.publish_wheel(session, held, report, facts, NOW)

    with pytest.raises(WheelError, match="used already"):
        bench.tables.database.write(twice)
    assert bench.wheels() == []


def test_two_targets_that_build_the_same_pure_wheel_publish_it_once(bench):
    """The race that would make the database's hash another than the file's."""

    def second_target(session):
        target = TargetRow(name="cp312-linux_x86_64-debian12", created_at=NOW)
        session.add(target)
        one = session.get_one(Job, first_id)
        queue.enqueue(
            session, release=one.release, target=target, sdist=one.sdist, priority=one.priority, now=NOW
        )

    first_id = bench.tables.add_job()
    bench.tables.database.write(second_target)
    jobs = [bench.tables.claim(), bench.tables.claim(targets=["cp312-linux_x86_64-debian12"])]
    (bench.made / "1").mkdir(parents=True)
    (bench.made / "2").mkdir(parents=True)
    paths = [make_wheel(bench.made / str(n), "thing", "1.0", {"thing.py": f"N = {n}"}) for n in (1, 2)]
    start = threading.Barrier(2)

    def hand_in(job, path):
        start.wait()
        return bench.hand_in(job, path).outcome

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(hand_in, jobs, paths))

    assert sorted(outcomes, key=str) == [Outcome.BUILT, Outcome.FAILED]
    (wheel,) = bench.wheels()
    content = bench.store.path("thing", wheel.filename).read_bytes()
    assert hashlib.sha256(content).hexdigest() == wheel.sha256


def test_when_the_transaction_fails_nothing_is_public_and_the_report_may_come_again(bench, job, monkeypatch):
    path = bench.wheel()
    with monkeypatch.context() as patch:

        def full(*_):
            raise StorageError("the disk is full")

        patch.setattr(publish, "publish_wheel", full)
        with pytest.raises(StorageError):
            bench.hand_in(job, path)
    assert bench.wheels() == []
    assert bench.tables.job(job.id).state is JobState.LEASED

    assert bench.report(job, wheel=claim_of(path)).outcome is Outcome.BUILT
    assert bench.stored() == [path.name, f"{path.name}.metadata"]


def test_a_file_left_by_a_failed_transaction_does_not_block_another_build(bench, job):
    old, new = bench.wheel(), None
    bench.upload(job, old)
    bench.store.publish(bench.store.incoming(job.id, job.lease_token), "thing", old.name, b"old metadata")
    bench.store.discard(bench.store.incoming(job.id, job.lease_token))
    new = bench.wheel(files={"thing.py": "NEW = 1"})

    assert bench.hand_in(job, new).outcome is Outcome.BUILT
    assert bench.store.path("thing", new.name).read_bytes() == new.read_bytes()


def test_a_full_disk_leaves_the_job_with_its_builder_who_can_report_again(bench, job, tmp_path):
    full = [True]

    def step(_name):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    bench.store = WheelStore(tmp_path / "store", at_step=step)
    path = bench.wheel()
    with pytest.raises(StorageError, match="disk is full"):
        bench.hand_in(job, path)
    assert bench.wheels() == bench.builds() == []

    full[0] = False
    assert bench.report(job, wheel=claim_of(path)).outcome is Outcome.BUILT


def test_the_libraries_are_those_in_the_wheel_and_a_package_name_is_a_name(bench, job):
    path = bench.wheel()
    libraries = {"libc.so.6": "libc6", "libssl.so.3": "x; rm -rf /", "libnot.so": "liar"}
    claim = claim_of(path, libraries=libraries)
    facts = bench.facts(path)
    outside = frozenset({"libc.so.6", "libssl.so.3", "libz.so.1", "x" * 300, "lib\0.so"})
    facts = dataclasses.replace(facts, linking=dataclasses.replace(facts.linking, outside=outside))
    report = Report(token=job.lease_token, outcome=Outcome.BUILT, duration_s=1.0, wheel=claim)

    def work(session):
        held = queue.held(session, job.id, job.lease_token, NOW)
        wheel = publish.publish_wheel(session, held, report, facts, NOW)
        return {library.soname: library.debian_package for library in wheel.libraries}

    found = bench.tables.database.write(work)
    assert found == {"libc.so.6": "libc6", "libssl.so.3": None, "libz.so.1": None}


def fail(bench, job, reason, **fields):
    return bench.report(job, outcome=Outcome.FAILED, reason=reason, **fields)


def test_a_failure_is_stored_with_its_reason_and_the_debian_package(bench, job):
    answer = fail(
        bench,
        job,
        FailureReason.MISSING_HEADER,
        captured="cups/http.h",
        evidence="fatal error: cups/http.h: No such file or directory",
        evidence_line=17,
    )

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, FailureReason.MISSING_HEADER)
    (build,) = bench.builds()
    assert (build.reason, build.captured) == (FailureReason.MISSING_HEADER, "cups/http.h")
    assert (build.debian_package, build.evidence_line) == ("libcups2-dev", 17)
    assert bench.tables.job(job.id).state is JobState.FAILED
    assert bench.tables.counters() == {"jobs.failed": 1, f"builder.{bench.tables.builder_id}.failed": 1}
    with bench.tables.database.read() as session:
        event = session.scalars(select(Event).where(Event.kind == "failed")).one()
    assert event.detail == {"build": build.id, "reason": "missing-header", "captured": "cups/http.h"}


def test_a_failure_without_a_reason_is_unknown(bench, job):
    assert fail(bench, job, None).reason is FailureReason.UNKNOWN


@pytest.mark.parametrize("reason", list(FailureReason), ids=str)
def test_only_where_the_machine_is_to_blame_another_builder_tries(bench, job, reason):
    fail(bench, job, reason)

    again = reason.policy is Policy.RETRY_ELSEWHERE
    assert bench.tables.job(job.id).state is (JobState.DELAYED if again else JobState.FAILED)


def test_trying_elsewhere_ends_after_max_attempts(bench, job):
    fail(bench, job, FailureReason.FETCH_FAILED)
    delayed = bench.tables.job(job.id)
    assert delayed.not_before_at == later(10)
    assert bench.tables.counters() == {"jobs.delayed": 1}, "it is not a failure of the builder yet"
    second = bench.claim_elsewhere(later(10))
    fail(bench, second, FailureReason.FETCH_FAILED, now=later(10))

    assert bench.tables.job(job.id).state is JobState.FAILED
    assert [build.attempt for build in bench.builds()] == [1, 2]


def test_a_failure_throws_the_upload_away(bench, job):
    bench.upload(job, bench.wheel())
    fail(bench, job, FailureReason.LOAD_FAILED)

    assert bench.stored() == []


def test_a_subject_is_what_the_job_says(bench, job):
    with bench.tables.database.read() as session:
        subject = publish.Subject.of(session, session.get_one(Job, job.id))

    assert subject == publish.Subject("thing", "1.0", Target.parse(TARGET), frozenset())


def test_bytes_that_were_blocked_are_never_published_again(bench, job):
    path = bench.wheel()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    bench.tables.database.write(
        lambda session: session.add(BlockedWheel(sha256=sha256, blocked_at=NOW, why="a test"))
    )
    answer = bench.hand_in(job, path)

    assert (answer.reason, bench.wheels()) == (FailureReason.WHEEL_INVALID, [])
    assert "blocked" in answer.what
    assert bench.stored() == []


@pytest.mark.parametrize("requires", [">=" + "3" * 600, ">=3.9 \x01"])
def test_a_requires_python_that_no_database_could_store_is_no_wheel(bench, job, requires):
    answer = bench.hand_in(job, bench.wheel(requires_python=requires))
    assert answer.reason is FailureReason.WHEEL_INVALID


def test_evidence_with_bytes_that_a_database_refuses_is_stored_all_the_same(bench, job):
    path = bench.wheel(metadata_name="th\0ing")
    answer = bench.hand_in(job, path)
    assert answer.outcome is Outcome.FAILED
    assert "th\ufffding" in bench.builds()[0].evidence
