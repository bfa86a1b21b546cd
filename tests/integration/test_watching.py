# SPDX-License-Identifier: BSD-3-Clause
"""What screens see of a farm: the same of a real master, on both databases, and of the farm in memory.

`scene` is a farm with one builder, whose hands are the test's: `queue`, `lease`, `say`, `publish`, `fail`.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from fake_farm import FakeFarm
from fix_master import TARGET, FarmOfOne

from piwheels_node.core.access import Access
from piwheels_node.core.builders import Mode
from piwheels_node.core.errors import MasterError
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import JobState, Outcome, Priority, Step
from piwheels_node.core.messages import (
    BuilderOrder,
    BuildRequest,
    Health,
    Heartbeat,
    RebuildRequest,
    SkipRequest,
)

BUILDER = "pi"


class Scene:
    """What both have."""

    def queue_and_lease(self, project="little", version="1.0"):
        """A job in the builder's hands; all that was queued before it must have been leased."""
        self.queue(project, version)
        return self.lease()


class FakeScene(Scene):
    """The farm in memory."""

    def __init__(self):
        self.operator = FakeFarm()
        self.operator.add_builder(BUILDER)
        self.reader = self.operator.seen_by(Access.READER)

    def queue(self, project="little", version="1.0"):
        return self.operator.add_job(project, version)

    def lease(self):
        farm = self.operator
        job = next(job for job in farm._in_order() if job.state is JobState.READY)
        farm.lease(job.job_id, BUILDER)
        return job.job_id

    def say(self, job_id, text):
        self.operator.say(job_id, text)

    def beat(self, job_id, step, health):
        self.operator.go_to(job_id, step)
        self.operator.change_builder(BUILDER, health=health)

    def publish(self, job_id):
        return self.operator.publish(job_id)

    def fail(self, job_id, reason):
        return self.operator.fail(
            job_id, reason, captured="ffi.h", evidence="fatal error: ffi.h", evidence_line=7, duration_s=2.5
        )


class RealScene(Scene):
    """A master on loopback; see `fix_master`."""

    def __init__(self, farm):
        self.farm = farm
        self.operator, self.reader = farm.operator, farm.reader
        self.leases = {}
        farm.lease()  # its builder is heard of

    def queue(self, project="little", version="1.0"):
        self.farm.add_sdist(project, version)
        return self.farm.ask(project, version).job.job_id

    def lease(self):
        lease = self.farm.lease()
        self.leases[lease.job_id] = lease, 0
        return lease.job_id

    def say(self, job_id, text):
        lease, offset = self.leases[job_id]
        self.leases[job_id] = lease, self.farm.builder.send_log(lease, offset, text)

    def beat(self, job_id, step, health):
        lease, _ = self.leases[job_id]
        self.farm.builder.heartbeat(lease, Heartbeat(token=lease.token, step=step, health=health))

    def publish(self, job_id):
        lease, _ = self.leases[job_id]
        wheel = self.farm.wheel(lease.project, lease.version)
        assert self.farm.hand_in(lease, wheel).outcome is Outcome.BUILT
        return self.operator.job(job_id).build.build_id

    def fail(self, job_id, reason):
        lease, _ = self.leases[job_id]
        self.farm.failed(lease, reason)
        return self.operator.job(job_id).build.build_id


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def scene(request, tmp_path, pypi):
    """A farm with the builder `pi`, in memory or real."""
    if request.param == "memory":
        yield FakeScene()
        return
    database = "" if request.param == "sqlite" else request.getfixturevalue("new_postgres")()
    farm = FarmOfOne(tmp_path / "master", pypi, database=database)
    yield RealScene(farm)
    farm.close()


def test_each_key_is_told_what_it_may_do(scene):
    assert scene.operator.who_am_i().access is Access.OPERATOR
    assert scene.operator.who_am_i().access.may_act
    assert (scene.reader.who_am_i().access, scene.reader.who_am_i().builder) == (Access.READER, None)
    assert not scene.reader.who_am_i().access.may_act


def test_the_farm_at_a_glance_counts_what_waits_is_built_and_fails(scene):
    scene.publish(scene.queue_and_lease("one"))
    failed = scene.fail(scene.queue_and_lease("two"), FailureReason.MISSING_HEADER)
    scene.queue_and_lease("three")
    scene.queue("four")

    farm = scene.reader.farm()

    assert farm.queue == {TARGET: 1}
    assert {state: many for state, many in farm.jobs.items() if many} == {
        "ready": 1,
        "leased": 1,
        "built": 1,
        "failed": 1,
    }
    assert len(farm.hours) == 24
    assert {b.begins_at - a.begins_at for a, b in zip(farm.hours, farm.hours[1:], strict=False)} == {
        timedelta(hours=1)
    }
    assert farm.hours[-1].begins_at <= farm.at < farm.hours[-1].begins_at + timedelta(hours=1)
    last_two = farm.hours[-2:]  # the hour may have just ended
    assert (sum(one.built for one in last_two), sum(one.failed for one in last_two)) == (1, 1)
    assert (farm.builders, farm.builders_up, farm.builders_busy, farm.builders_still) == (1, 1, 1, 0)
    assert 0 < farm.disk_free_bytes <= farm.disk_total_bytes
    assert (farm.wheels, farm.wheels_bytes > 0) == (1, True)
    assert (farm.newest_failure.build_id, farm.newest_failure.captured) == (failed, "ffi.h")
    assert (farm.mode, farm.why, farm.rows) == (Mode.RUN, None, [])


def test_a_farm_that_is_told_to_stand_still_says_so(scene):
    scene.operator.order(None, BuilderOrder(mode=Mode.PAUSE, why="move"))

    farm = scene.operator.farm()

    assert (farm.mode, farm.why, farm.builders_still) == (Mode.PAUSE, "move", 1)
    scene.operator.order(None, BuilderOrder(mode=Mode.RUN))
    scene.operator.order(BUILDER, BuilderOrder(mode=Mode.DRAIN, why="new card"))
    [row] = scene.operator.farm(rows=True).rows
    assert (row.mode, row.why, scene.operator.farm().builders_still) == (Mode.DRAIN, "new card", 1)


def test_a_builder_is_a_row_with_what_it_does_and_how_its_machine_is(scene):
    scene.publish(scene.queue_and_lease("one"))
    scene.fail(scene.queue_and_lease("two"), FailureReason.COMPILER_ERROR)
    job_id = scene.queue_and_lease("three", "1.5")
    health = Health(load_1m=1.5, temperature_c=61.0, memory_available_bytes=7 << 20, throttled=True)
    scene.beat(job_id, Step.BUILD, health)

    [row] = scene.reader.farm(rows=True).rows

    assert (row.name, row.is_up, row.targets) == (BUILDER, True, [TARGET])
    assert (row.built, row.failed) == (1, 1)
    [job] = row.jobs
    assert (job.job_id, job.project, job.version, job.target) == (job_id, "three", "1.5", TARGET)
    assert (job.step, job.leased_at) == (Step.BUILD, scene.reader.job(job_id).leased_at)
    assert (row.load_1m, row.temperature_c, row.memory_available_bytes) == (1.5, 61.0, 7 << 20)
    assert (row.throttled, row.undervoltage) == (True, None)
    assert scene.reader.job(job_id).builder == BUILDER


def test_builds_are_listed_newest_first_page_by_page(scene):
    ids = [scene.publish(scene.queue_and_lease(f"p{number}")) for number in range(3)]

    page = scene.reader.builds(limit=2)
    assert [one.build_id for one in page.builds] == ids[:0:-1]
    rest = scene.reader.builds(limit=2, before=page.before)
    assert [one.build_id for one in rest.builds] == ids[:1]
    assert rest.before is None
    newest = page.builds[0]
    assert (newest.project, newest.version, newest.target) == ("p2", "1.0", TARGET)
    assert (newest.builder, newest.outcome, newest.reason) == (BUILDER, Outcome.BUILT, None)


def test_builds_are_narrowed_by_every_condition_and_by_several(scene):
    built = scene.publish(scene.queue_and_lease("one"))
    job_id = scene.queue_and_lease("two")
    failed = scene.fail(job_id, FailureReason.MISSING_HEADER)
    other = scene.fail(scene.queue_and_lease("two", "2.0"), FailureReason.COMPILER_ERROR)

    def found(**wanted):
        return [one.build_id for one in scene.reader.builds(**wanted).builds]

    assert found(builder=BUILDER) == [other, failed, built]
    assert found(builder="nobody") == found(project="none") == found(target="cp39-linux_x-debian1") == []
    assert found(project="Two") == [other, failed]
    assert found(job_id=job_id) == [failed]
    assert found(outcome=Outcome.FAILED) == [other, failed]
    assert found(outcome=Outcome.BUILT) == [built]
    assert found(reason=FailureReason.MISSING_HEADER) == [failed]
    assert found(target=TARGET, limit=2) == [other, failed]
    assert found(project="two", reason=FailureReason.COMPILER_ERROR, builder=BUILDER) == [other]
    assert found(builder=BUILDER, outcome=Outcome.BUILT, target=TARGET) == [built]
    assert found(builder=BUILDER, outcome=Outcome.BUILT, before=built) == []
    assert scene.reader.builds(project="two", target=TARGET).before is None


def test_a_build_is_told_whole(scene):
    job_id = scene.queue_and_lease()
    scene.say(job_id, b"a log\n")
    built = scene.reader.build(scene.publish(job_id))
    failed = scene.reader.build(scene.fail(scene.queue_and_lease("two"), FailureReason.MISSING_HEADER))

    assert (built.attempt, built.job_state, built.log_bytes) == (1, JobState.BUILT, 6)
    assert built.wheel.filename.startswith("little-1.0-")
    assert built.wheel.size_bytes > 0
    assert (failed.evidence_line, failed.job_state, failed.wheel) == (7, JobState.FAILED, None)
    assert failed.evidence.startswith("fatal error: ffi.h")
    assert (failed.build.captured, failed.build.duration_s) == ("ffi.h", 2.5)
    scene.operator.retry(failed.build.job_id)
    assert scene.reader.build(failed.build.build_id).job_state is JobState.READY
    with pytest.raises(MasterError) as error:
        scene.reader.build(99)
    assert error.value.refused


def test_a_log_is_read_by_offset_from_its_end_and_by_line_also_while_it_grows(scene):
    job_id = scene.queue_and_lease()
    scene.say(job_id, b"one\ntwo\n")
    first = scene.reader.job_log(job_id)
    scene.say(job_id, b"three\n\xff end")
    more = scene.reader.job_log(job_id, first.end)

    assert (first.offset, first.data, first.size_bytes) == (0, b"one\ntwo\n", 8)
    assert (more.offset, more.data, more.size_bytes) == (8, b"three\n\xff end", 19)
    assert more.name == first.name != ""
    build_id = scene.publish(job_id)
    for read, number in ((scene.reader.job_log, job_id), (scene.reader.build_log, build_id)):
        assert read(number, more.end).data == b""
        last = read(number, last=5)
        assert (last.offset, last.data) == (14, b"\xff end")
        assert read(number, last=99).offset == 0
        line = read(number, line=3)
        assert (line.offset, line.data) == (8, b"three\n\xff end")
        assert read(number, line=1).offset == 0
        assert (read(number, line=50).data, read(number, line=50).size_bytes) == (b"", 19)
    assert scene.reader.build_log(build_id).name == first.name


def test_a_job_that_is_leased_again_has_another_log_at_once(scene):
    job_id = scene.queue_and_lease()
    scene.say(job_id, b"first")
    first = scene.fail(job_id, FailureReason.COMPILER_ERROR)
    before = scene.reader.job_log(job_id)
    scene.operator.retry(job_id)
    scene.lease()

    now = scene.reader.job_log(job_id)
    assert (now.data, now.size_bytes) == (b"", 0)
    assert now.name != before.name
    scene.say(job_id, b"second")
    assert scene.reader.job_log(job_id).data == b"second"
    assert scene.reader.build_log(first).data == b"first"


def test_the_queue_is_told_by_lane_and_in_order(scene):
    scene.queue_and_lease("held")
    asked = scene.queue("asked")
    scene.queue("other")

    queue = scene.reader.queue(limit=1)

    assert [(lane.target, lane.priority, lane.jobs) for lane in queue.lanes] == [
        (TARGET, Priority.REQUESTED, 2)
    ]
    assert queue.lanes[0].is_whole
    [first] = queue.ready[TARGET]
    assert (first.job_id, first.project, first.state) == (asked, "asked", JobState.READY)
    assert (first.not_before_at, first.blocked_on, first.reason) == (None, None, None)
    assert (queue.counts["ready"], queue.counts["leased"]) == (2, 1)
    assert queue.delayed == queue.blocked == queue.quarantined == []
    assert [job.project for job in scene.reader.queue_of(TARGET)] == ["asked", "other"]
    assert [job.project for job in scene.reader.queue_of(TARGET, Priority.REQUESTED, 1)] == ["asked"]
    assert scene.reader.queue_of(TARGET, Priority.BACKLOG) == []
    assert scene.reader.queue_of("cp39-linux_armv7l-debian11") == []


def test_statistics_have_every_day_hour_and_builder(scene):
    scene.publish(scene.queue_and_lease("one"))
    scene.fail(scene.queue_and_lease("two"), FailureReason.MISSING_HEADER)
    scene.fail(scene.queue_and_lease("three"), FailureReason.MISSING_HEADER)
    scene.fail(scene.queue_and_lease("four"), FailureReason.COMPILER_ERROR)

    found = scene.reader.statistics()

    assert len(found.days) == 30
    assert (found.days[0].day, found.days[-1].day) == (found.since, found.until)
    assert [(sum(one.built for one in found.days), sum(one.failed for one in found.days))] == [(1, 3)]
    assert [(one.reason, sum(one.builds), len(one.builds)) for one in found.reasons] == [
        (FailureReason.MISSING_HEADER, 2, 30),
        (FailureReason.COMPILER_ERROR, 1, 30),
    ]
    assert sum(found.wheels_by_abi.values()) == sum(found.wheels_by_platform.values()) == 1
    assert scene.reader.statistics(target="cp39-linux_armv7l-debian11").reasons == []
    assert len(scene.reader.statistics(since=found.until).days) <= 2
    hours = scene.reader.hours(48)
    assert (len(hours), sum(one.built for one in hours)) == (48, 1)
    [mine] = scene.reader.builder_statistics(limit=3).builders
    assert (mine.builder, sum(mine.built), sum(mine.failed)) == (BUILDER, 1, 3)
    assert len(mine.built) == len(mine.failed) == 30
    assert scene.reader.builder_statistics(builder="nobody").builders == []
    assert scene.reader.builder_statistics(builder=BUILDER).builders == [mine]


def test_projects_are_found_by_name_beginning_and_part(scene):
    for name in ("numpy", "numpy-stl", "my-numpy", "scipy"):
        scene.queue(name)

    assert [one.name for one in scene.reader.search("NumPy")] == ["numpy", "numpy-stl", "my-numpy"]
    assert [one.name for one in scene.reader.search("numpy", limit=1)] == ["numpy"]
    assert [one.name for one in scene.reader.search("numpy_")] == ["numpy-stl"]
    assert scene.reader.search("nothing") == []
    assert all(one.is_known for one in scene.reader.search("numpy"))


def test_a_job_that_has_ended_is_tried_again_and_no_other(scene):
    job_id = scene.queue_and_lease()
    with pytest.raises(MasterError, match="not ended"):
        scene.operator.retry(job_id)
    scene.fail(job_id, FailureReason.COMPILER_ERROR)

    assert scene.operator.retry(job_id).state is JobState.READY
    assert scene.lease() == job_id
    with pytest.raises(MasterError, match="no such job"):
        scene.operator.retry(99)


def test_all_jobs_that_failed_for_a_reason_are_tried_again_of_a_project_or_all(scene):
    one = scene.queue_and_lease("one")
    two = scene.queue_and_lease("two")
    other = scene.queue_and_lease("other")
    again = scene.queue_and_lease("again")
    for job_id in (one, two, again):
        scene.fail(job_id, FailureReason.MISSING_HEADER)
    scene.fail(other, FailureReason.COMPILER_ERROR)
    scene.operator.retry(again)
    scene.lease()
    scene.publish(again)

    answer = scene.operator.retry_failed(FailureReason.MISSING_HEADER, project="two", target=TARGET)
    assert (answer.jobs, answer.is_whole) == (1, True)
    assert scene.reader.job(two).state is JobState.READY
    assert scene.operator.retry_failed(FailureReason.MISSING_HEADER).jobs == 1
    assert scene.operator.retry_failed(FailureReason.MISSING_HEADER).jobs == 0
    states = [scene.reader.job(job_id).state for job_id in (one, two, other, again)]
    assert states == [JobState.READY, JobState.READY, JobState.FAILED, JobState.BUILT]


def test_what_changes_something_is_refused_to_readers(scene):
    job_id = scene.queue()
    reader = scene.reader
    for act in (
        lambda: reader.order(None, BuilderOrder(mode=Mode.PAUSE)),
        lambda: reader.skip(None),
        lambda: reader.cancel(job_id),
        lambda: reader.retry(job_id),
        lambda: reader.retry_failed(FailureReason.TIMEOUT),
        lambda: reader.request(BuildRequest(project="x")),
        lambda: reader.rebuild(RebuildRequest(project="x")),
        lambda: reader.add_skip(SkipRequest(project="x", reason="y")),
        lambda: reader.remove_skips("x"),
        lambda: reader.accept_fix(1),
        lambda: reader.refuse_fix(1),
    ):
        with pytest.raises(MasterError):
            act()
    assert scene.reader.job(job_id).state is JobState.READY
    assert scene.reader.farm().mode is Mode.RUN


def test_what_is_in_hand_is_skipped_and_what_waits_cancelled(scene):
    held = scene.queue_and_lease("held")
    waits = scene.queue("waits")

    assert [job.job_id for job in scene.operator.skip(BUILDER)] == [held]
    assert scene.operator.cancel(waits).state is JobState.CANCELLED
    with pytest.raises(MasterError, match="ended already"):
        scene.operator.cancel(waits)
    assert scene.reader.farm(rows=True).rows[0].jobs == []
    assert scene.reader.queue().lanes == []
    assert [event.kind for event in scene.reader.events(waits)] == ["queued", "cancelled"]


def test_failures_are_told_by_reason_with_the_newest_and_the_builds_behind(scene):
    scene.publish(scene.queue_and_lease("fine"))
    first = scene.fail(scene.queue_and_lease("one"), FailureReason.MISSING_HEADER)
    newest = scene.fail(scene.queue_and_lease("two"), FailureReason.MISSING_HEADER)
    scene.fail(scene.queue_and_lease("three"), FailureReason.COMPILER_ERROR)

    report = scene.reader.failures()

    assert (report.built, report.failed, report.built_before, report.failed_before) == (1, 3, 0, 0)
    assert [(one.reason, one.builds, one.before) for one in report.reasons] == [
        (FailureReason.MISSING_HEADER, 2, 0),
        (FailureReason.COMPILER_ERROR, 1, 0),
    ]
    assert report.reasons[0].share == pytest.approx(2 / 3)
    assert report.reasons[0].newest.build_id == newest
    found = scene.reader.failed_builds(FailureReason.MISSING_HEADER)
    assert [(one.build_id, one.project, one.captured) for one in found] == [
        (newest, "two", "ffi.h"),
        (first, "one", "ffi.h"),
    ]
    older = scene.reader.failed_builds(FailureReason.MISSING_HEADER, before=newest, limit=1)
    assert [one.build_id for one in older] == [first]
    of_one = scene.reader.failed_builds(FailureReason.MISSING_HEADER, project="one", target=TARGET)
    assert [one.build_id for one in of_one] == [first]


def test_a_job_a_project_and_a_builder_are_told_with_what_became_of_them(scene):
    job_id = scene.queue_and_lease("little")
    held = scene.reader.job(job_id)
    [mine] = scene.reader.builder(BUILDER).jobs
    assert (mine.job_id, held.state, held.builder) == (job_id, JobState.LEASED, BUILDER)
    build_id = scene.publish(job_id)

    ended = scene.reader.job(job_id)
    assert (ended.state, ended.builder, ended.leased_at) == (JobState.BUILT, None, None)
    assert (ended.build.build_id, ended.build.outcome) == (build_id, Outcome.BUILT)
    project = scene.reader.project("Little")
    assert [one.job_id for one in project.jobs] == [job_id]
    assert [one.filename for one in project.wheels] == [ended.build.wheel]
    builder = scene.reader.builder(BUILDER)
    assert (builder.jobs, builder.built, builder.failed) == ([], 1, 0)
    assert [one.job_id for one in scene.reader.jobs(JobState.BUILT)] == [job_id]
    assert [one.kind for one in scene.reader.events(job_id)][:2] == ["queued", "leased"]
    for ask in (lambda: scene.reader.job(99), lambda: scene.reader.builder("nobody")):
        with pytest.raises(MasterError) as error:
            ask()
        assert error.value.refused


def test_a_project_that_is_skipped_is_listed_until_it_is_not(scene):
    rule = scene.operator.add_skip(SkipRequest(project="little", versions="<2", reason="too large"))

    assert [(one.rule_id, one.project, one.versions) for one in scene.reader.skips()] == [
        (rule.rule_id, "little", "<2")
    ]
    assert [one.rule_id for one in scene.operator.remove_skips("little")] == [rule.rule_id]
    assert scene.reader.skips() == []
