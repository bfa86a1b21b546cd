# SPDX-License-Identifier: BSD-3-Clause
"""Several masters on one PostgreSQL and one data directory, killed at the worst moments, and at random."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter as Tally
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from fix_command import clean_environ, until
from fix_master import TARGET, OfferedTarget, environment
from sdists import make_wheel
from sqlalchemy import func, select

from piwheels_node.client import MasterClient
from piwheels_node.core.errors import LeaseLostError, MasterUnreachableError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Priority
from piwheels_node.core.messages import LeaseRequest, Report, WheelClaim
from piwheels_node.core.places import CERTIFICATE, OPERATOR_KEY
from piwheels_node.core.settings import Settings
from piwheels_node.master.builders import keys
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import (
    Build,
    Counter,
    Event,
    Job,
    Project,
    PypiFile,
    Release,
    TargetRow,
    Wheel,
)
from piwheels_node.master.jobs import queue
from piwheels_node.master.running.certificate import keep_certificate
from piwheels_node.master.running.keyfiles import make_directory
from piwheels_node.master.running.service import Master

COMMAND = [sys.executable, "-m", "piwheels_node.cli", "master"]
SETTINGS = {
    "master.lease_s": "5",
    "master.retry_delay_s": "0",
    "master.max_attempts": "100",
    "master.requests_per_s": "1000",
}
JOBS = 42
BUILDERS = 5
SEED = 20261122

DOOMED = """
import os, signal, sys
from pathlib import Path
from piwheels_node.core.settings import Settings
from piwheels_node.master.running.service import Master
data, step, *words = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
master = Master(Path(data), Settings.from_sources(overrides=words))
store = master._context.store
if step == "committed":
    store.discard = die
elif step == "committing":
    # The commit has gone out, and nobody is there to hear what became of it.
    from sqlalchemy import event
    from piwheels_node.master.database.models import Wheel
    def commit(connection):
        database = connection.connection.driver_connection.pgconn
        if database.pipeline_status:
            database.send_query_params(b"COMMIT", None)
            database.pipeline_sync()
        else:
            database.send_query(b"COMMIT")
        while database.flush():
            pass
        die()
    engine = master._database._writing
    event.listen(Wheel, "after_insert", lambda *_: event.listen(engine, "commit", commit))
else:
    store._at_step = lambda now: die() if now == step else None
print(master.start(), flush=True)
signal.pause()
"""


def sets(url, port=0):
    words = {**SETTINGS, "master.database": url, "master.port": str(port)}
    return [f"{key}={value}" for key, value in words.items()]


class MasterProcess:
    """`piwheels-node master run`, which may be killed and started again on its port."""

    def __init__(self, farm):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.log = farm.data.parent / f"master-{self.port}.log"
        self._words = [*COMMAND, "run", "--data", str(farm.data)]
        for word in sets(farm.database_url, self.port):
            self._words += ["--set", word]
        self._process = None

    def start(self):
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log, env=clean_environ())

    def listens(self):
        assert self._process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self):
        self._process.kill()
        self._process.wait()

    def stop(self):
        self._process.terminate()
        return self._process.wait(20)


class Farm:
    """A data directory, a database, and short ways to fill and to judge them."""

    def __init__(self, place, url):
        self.data = place / "master"
        self.made = place / "made"
        self.made.mkdir()
        self.database_url = url
        self.database = Database.open(url)
        self.key = self._create_key(keys.KeyKind.BUILDER, "pi")
        make_directory(self.data)  # what `master init` does
        keep_certificate(self.data, ["127.0.0.1"], datetime.now(UTC))
        (self.data / OPERATOR_KEY).write_text(self._create_key(keys.KeyKind.OPERATOR, None))

    def _create_key(self, kind, builder):
        now = datetime.now(UTC)
        return self.database.write(lambda session: keys.create_key(session, kind, builder, now))

    def client(self, url, key=None):
        trusted = (self.data / CERTIFICATE).read_text() if url.startswith("https") else None
        return MasterClient(url, key or self.key, certificate=trusted, timeout_s=10)

    def add_jobs(self, *names, targets=(TARGET,)):
        now = datetime.now(UTC)

        def work(session):
            for target in targets:
                if session.scalar(select(TargetRow).where(TargetRow.name == target)) is None:
                    session.add(TargetRow(name=target, created_at=now))
            session.flush()
            for name in names:
                release = Release(project=Project(name=name), version="1.0")
                sdist = PypiFile(release=release, filename=f"{name}-1.0.tar.gz", url="x", sha256="0" * 64)
                session.add_all([release, sdist])
                session.flush()
                for target in targets:
                    row = session.scalars(select(TargetRow).where(TargetRow.name == target)).one()
                    queue.enqueue(
                        session, release=release, target=row, sdist=sdist, priority=Priority.BACKLOG, now=now
                    )

        self.database.write(work)

    def wheel(self, name, place="", **lies):
        (self.made / place).mkdir(exist_ok=True)
        return make_wheel(self.made / place, name, "1.0", **lies)

    def complaints(self):
        """What does not agree with what, in the end."""
        with self.database.read() as session:
            return list(self._complaints(session))

    def _complaints(self, session):
        jobs = session.scalars(select(Job)).all()
        ends = Tally(session.scalars(select(Event.job_id).where(Event.kind.in_(["built", "failed"]))))
        builds = Tally(session.scalars(select(Build.job_id).where(Build.reason.is_distinct_from(LOST))))
        for job in jobs:
            if not job.state.is_final or job.lease_token or job.lease_until_at:
                yield f"job {job.id} is {job.state}"
            if (ends[job.id], builds[job.id]) != (1, 1):
                yield f"job {job.id} ended {ends[job.id]} times with {builds[job.id]} builds"
        wheels = session.execute(select(Wheel, Project.name).join(Wheel.release).join(Release.project)).all()
        if len(wheels) != sum(job.state is JobState.BUILT for job in jobs):
            yield f"{len(wheels)} wheels of {len(jobs)} jobs"
        for wheel, name in wheels:
            path = self.data / "wheels" / name / wheel.filename
            for file, digest in ((path, wheel.sha256), (f"{path}.metadata", wheel.metadata_sha256)):
                if hashlib.sha256(Path(file).read_bytes()).hexdigest() != digest:
                    yield f"{file} has other bytes"
        yield from self._wrong_counters(session, jobs, [wheel for wheel, _ in wheels])

    @staticmethod
    def _wrong_counters(session, jobs, wheels):
        kept = {row.name: row.value for row in session.scalars(select(Counter))}
        counted = {f"jobs.{state.value}": 0 for state in JobState} | {
            "wheels": len(wheels),
            "wheels.bytes": sum(wheel.size_bytes for wheel in wheels),
            "builder.1.built": session.scalar(
                select(func.count()).select_from(Build).where(Build.outcome == Outcome.BUILT)
            ),
        }
        for job in jobs:
            counted[f"jobs.{job.state.value}"] += 1
        for name, value in counted.items():
            if kept.get(name, 0) != value:
                yield f"counter {name} is {kept.get(name)}, not {value}"


@pytest.fixture
def farm(tmp_path, new_postgres):
    made = Farm(tmp_path, new_postgres())
    yield made
    made.database.close()


@contextlib.contextmanager
def doomed(farm, step):
    """A master that kills itself at a step of a publication; gives its URL."""
    words = [*sets(farm.database_url), "master.proxied=true"]
    with subprocess.Popen(
        [sys.executable, "-c", DOOMED, str(farm.data), step, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environ(),
    ) as process:
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


@contextlib.contextmanager
def healthy(farm):
    """A master in this process; gives its URL."""
    settings = Settings.from_sources(overrides=[*sets(farm.database_url), "master.proxied=true"])
    with Master(farm.data, settings) as master:
        yield master.start()


def claim_of(path):
    content = path.read_bytes()
    return WheelClaim(filename=path.name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def report_of(lease, path):
    return Report(
        token=lease.token,
        outcome=Outcome.BUILT,
        duration_s=0.1,
        environment=environment(),
        wheel=claim_of(path),
    )


LOST = FailureReason.BUILDER_LOST
OFFER = OfferedTarget(name=TARGET, environment_id="env-1")
WANTED = LeaseRequest(targets=[OFFER], wait_s=1)


@pytest.mark.parametrize("step", ["metadata", "linked", "committed"])
def test_what_a_master_leaves_half_done_the_next_one_completes(farm, step):
    farm.add_jobs("thing")
    path = farm.wheel("thing")
    with doomed(farm, step) as (url, process):
        with farm.client(url) as client:
            lease = client.lease(WANTED)
            client.upload_wheel(lease, path)
            with pytest.raises(MasterUnreachableError):
                client.report(lease, report_of(lease, path))
        assert process.wait(10) == -signal.SIGKILL
    with healthy(farm) as url, farm.client(url) as client:
        if step == "committed":
            with pytest.raises(LeaseLostError):
                client.report(lease, report_of(lease, path))
        else:
            assert client.report(lease, report_of(lease, path)).outcome is Outcome.BUILT

    assert farm.complaints() == []


def test_what_a_killed_master_left_gives_way_to_the_wheel_of_the_next_build(farm):
    """The lease was over before anybody could complete it; the other build has other bytes."""
    farm.add_jobs("thing")
    first = farm.wheel("thing")
    with doomed(farm, "end") as (url, _), farm.client(url) as client:
        lease = client.lease(WANTED)
        client.upload_wheel(lease, first)
        with pytest.raises(MasterUnreachableError):
            client.report(lease, report_of(lease, first))
    left = farm.data / "wheels" / "thing" / first.name
    assert left.read_bytes() == first.read_bytes()
    second = farm.wheel("thing", place="second", files={"thing/other.py": b"# other bytes"})
    with healthy(farm) as url, farm.client(url) as client:
        lease = until(lambda: client.lease(WANTED), "the job again")
        client.upload_wheel(lease, second)
        assert client.report(lease, report_of(lease, second)).outcome is Outcome.BUILT

    assert left.read_bytes() == second.read_bytes()
    assert farm.complaints() == []


class Builders:
    """Builders who speak to whichever master comes to hand, and insist until they are heard."""

    def __init__(self, farm, urls, wheels):
        self.farm = farm
        self.urls = urls
        self.wheels = wheels
        self.told = []
        self.errors = []
        self.done = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(BUILDERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number):
        dice = random.Random(SEED + number)
        clients = [self.farm.client(url) for url in self.urls]
        try:
            while not self.done.is_set():
                lease = self._somewhere(dice, clients, lambda client: client.lease(WANTED))
                if lease is not None:
                    with contextlib.suppress(LeaseLostError):
                        self._build(dice, clients, lease)
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            for client in clients:
                client.close()

    def _somewhere(self, dice, clients, call):
        while not self.done.is_set():
            try:
                return call(dice.choice(clients))
            except MasterUnreachableError:
                time.sleep(0.02)
        return None

    def _build(self, dice, clients, lease):
        path = self.wheels[lease.project]
        log = f"builds {lease.project}\n".encode() * 50
        sent = 0
        while sent < len(log) and not self.done.is_set():
            chunk = log[sent : sent + 400]
            at = sent
            sent = self._somewhere(dice, clients, lambda client: client.send_log(lease, at, chunk)) or 0  # noqa: B023 - called at once
        self._somewhere(dice, clients, lambda client: client.upload_wheel(lease, path))
        report = report_of(lease, path)
        answer = self._somewhere(dice, clients, lambda client: client.report(lease, report))
        if answer is not None:
            self.told.append((lease.job_id, answer.outcome))


def wait_for_the_end(farm, builders):
    deadline = time.monotonic() + 90  # 10 s on a machine that has nothing else to do
    while (left := farm.complaints()) and not builders.errors:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_three_masters_of_which_one_is_killed_again_and_again_lose_and_double_nothing(farm):
    names = [f"thing{number}" for number in range(JOBS)]
    wheels = {name: farm.wheel(name, files={f"{name}/data": os.urandom(200_000)}) for name in names}
    masters = [MasterProcess(farm) for _ in range(3)]
    dice = random.Random(SEED)
    kills = 0
    try:
        for master in masters:
            master.start()
        for master in masters:
            until(master.listens, "a master")
        with Builders(farm, [master.url for master in masters], wheels) as builders:
            for begin in range(0, JOBS, 7):  # jobs come while masters go
                farm.add_jobs(*names[begin : begin + 7])
                victim = dice.choice(masters)
                time.sleep(dice.uniform(0.2, 1.2))
                victim.kill()
                kills += 1
                victim.start()
            wait_for_the_end(farm, builders)
        codes = [master.stop() for master in masters]
    finally:
        for master in masters:
            with contextlib.suppress(ProcessLookupError):
                master.kill()

    assert builders.errors == []
    assert farm.complaints() == []
    assert {outcome for _, outcome in builders.told} == {Outcome.BUILT}
    assert max(Tally(job for job, _ in builders.told).values()) == 1
    assert kills == 6
    assert codes == [0, 0, 0]


def offer(target):
    return LeaseRequest(targets=[OfferedTarget(name=target, environment_id="env-1")])


TARGETS = [f"cp31{minor}-linux_x86_64-debian12" for minor in range(1, 5)]


@pytest.fixture
def same_name(farm):
    """Wheels of the same file name with other bytes, for several targets of one release."""
    return [farm.wheel("thing", place=target, files={"thing/target": target}) for target in TARGETS]


def test_of_builds_that_want_the_same_file_name_at_the_same_moment_one_is_published(farm, same_name):
    farm.add_jobs("thing", targets=TARGETS)
    answers = []
    with healthy(farm) as one, healthy(farm) as other:
        ready = threading.Barrier(len(TARGETS))

        def build(url, target, path):
            with farm.client(url) as client:
                lease = client.lease(offer(target))
                client.upload_wheel(lease, path)
                ready.wait()
                answers.append(client.report(lease, report_of(lease, path)))

        urls = [one, other, one, other]
        threads = [
            threading.Thread(target=build, args=words) for words in zip(urls, TARGETS, same_name, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert Tally(answer.outcome for answer in answers) == {Outcome.BUILT: 1, Outcome.FAILED: 3}
    assert {answer.reason for answer in answers} == {None, FailureReason.WHEEL_INVALID}
    assert farm.complaints() == []


SLOW_COMMITS = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON wheel DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait();
"""


def test_a_commit_that_outlives_its_master_keeps_its_bytes(farm, same_name):
    """Another master comes with other bytes for the name meanwhile, and must not put them there."""
    with psycopg.connect(farm.database_url, autocommit=True) as connection:
        connection.execute(SLOW_COMMITS)
    farm.add_jobs("thing", targets=TARGETS[:2])
    with doomed(farm, "committing") as (one, process), healthy(farm) as other:
        with farm.client(one) as client, farm.client(other) as second:
            lease, rival = client.lease(offer(TARGETS[0])), second.lease(offer(TARGETS[1]))
            client.upload_wheel(lease, same_name[0])
            second.upload_wheel(rival, same_name[1])
            with pytest.raises(MasterUnreachableError):
                client.report(lease, report_of(lease, same_name[0]))
            answer = second.report(rival, report_of(rival, same_name[1]))
        assert process.wait(10) == -signal.SIGKILL

    assert (answer.outcome, answer.reason) == (Outcome.FAILED, FailureReason.WHEEL_INVALID)
    left = farm.data / "wheels" / "thing" / same_name[0].name
    assert left.read_bytes() == same_name[0].read_bytes()
    assert farm.complaints() == []
