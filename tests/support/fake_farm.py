# SPDX-License-Identifier: BSD-3-Clause
"""A farm in memory, in place of a master and its client: what screens are tested with.

    farm = FakeFarm()
    farm.add_builder("pi-1")
    job = farm.add_job("numpy", "2.3.1")
    farm.lease(job, "pi-1"); farm.say(job, b"gcc ..."); farm.fail(job, FailureReason.MISSING_HEADER)

It is a `client.port.Watched`, and everything that is asked is computed from builders, jobs and builds, as a
master does it; the same tests run on both (`tests/integration/test_watching.py`). `calls` has what was asked,
`error` is raised in place of an answer, and while `gate` is not set no answer comes. Time stands still but
for `tick`. Whole farms are made by `made_farms`.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections import Counter as Bag
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from packaging.utils import canonicalize_name

from piwheels_node.core.access import Access
from piwheels_node.core.builders import BuilderEventKind, BuilderState, Mode
from piwheels_node.core.errors import (
    KeyRefusedError,
    MasterError,
    MasterUnreachableError,
    NodeError,
    NotOnPyPIError,
)
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.fixes import FixState
from piwheels_node.core.jobs import EventKind, JobState, Outcome, Priority, Step
from piwheels_node.core.messages import (
    BuilderColumns,
    BuilderDays,
    BuilderEventView,
    BuilderOrder,
    BuilderRow,
    BuilderStatistics,
    BuilderView,
    BuildFacts,
    BuildPage,
    BuildRequest,
    BuildRow,
    BuildView,
    DayCount,
    EventView,
    FailedBuild,
    FailureReport,
    FarmView,
    FixAnswer,
    FixView,
    Health,
    HourCount,
    JobInHand,
    JobView,
    LogSlice,
    Machine,
    ProjectMatch,
    ProjectPlan,
    ProjectView,
    QueuedJob,
    QueueLane,
    QueueView,
    ReasonCount,
    ReasonDays,
    RebuildRequest,
    RequestAnswer,
    RetryAnswer,
    SkipRequest,
    SkipView,
    Statistics,
    Status,
    SyncView,
    WheelView,
    WhoAmI,
)
from piwheels_node.core.standing import in_order

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TARGET = "cp311-linux_x86_64-debian12"
UP = timedelta(seconds=300)
LOG_BYTES = 1 << 20
_FINAL = {state for state in JobState if state.is_final}
F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class FakeJob:
    """A job; `log` is the name of its newest lease's."""

    job_id: int
    project: str
    version: str
    target: str
    created_at: datetime
    state: JobState = JobState.READY
    priority: int = 0
    attempts: int = 0
    step: Step | None = None
    builder: str | None = None
    leased_at: datetime | None = None
    not_before_at: datetime | None = None
    blocked_on: int | None = None
    packages: list[str] = field(default_factory=list)
    log: str | None = None


@dataclass
class _Whole:
    """What is true of the whole farm, whoever looks at it."""

    now: datetime
    mode: Mode = Mode.RUN
    why: str | None = None


def asked(method: F) -> F:
    """A method that a client would ask a master for."""

    @functools.wraps(method)
    def call(self: FakeFarm, *args: Any, **words: Any) -> Any:
        self.calls.append((method.__name__, args, words))
        self.gate.wait()
        if self.error is not None:
            raise self.error
        return method(self, *args, **words)

    return call  # type: ignore[return-value]


def acting(method: F) -> F:
    """One that needs an operator's key."""

    @functools.wraps(method)
    def call(self: FakeFarm, *args: Any, **words: Any) -> Any:
        if not self.access.may_act:
            raise MasterError("only an operator may do this", hint="use an operator's key")
        return method(self, *args, **words)

    return asked(call)  # type: ignore[return-value]


class FakeFarm:
    """See the module; `access` is what the key of who asks may do."""

    def __init__(self, *, access: Access = Access.OPERATOR, now: datetime = NOW) -> None:
        self.url = "https://pi-hub:8080"
        self.access = access
        self.whole = _Whole(now)
        self.builders_by_name: dict[str, BuilderView] = {}
        self.jobs_by_id: dict[int, FakeJob] = {}
        self.facts: dict[int, BuildFacts] = {}
        self.ended_at: dict[int, datetime] = {}
        self.job_events: list[EventView] = []
        self.builder_history: dict[str, list[BuilderEventView]] = {}
        self.logs: dict[str, bytearray] = {}
        self.build_logs: dict[int, str] = {}
        self.newest: dict[int, BuildFacts] = {}
        self.plans: dict[str, ProjectPlan] = {}
        self.rules: list[SkipView] = []
        self.fix_rules: list[FixView] = []
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.error: NodeError | None = None
        self.gate = threading.Event()
        self.gate.set()

    @property
    def now(self) -> datetime:
        """The farm's clock."""
        return self.whole.now

    @now.setter
    def now(self, at: datetime) -> None:
        self.whole.now = at

    @property
    def mode(self) -> Mode:
        """What the whole farm was told to do."""
        return self.whole.mode

    # --- what happens on the farm ------------------------------------------------------------------

    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)

    def go_away(self, what: str = "the master does not answer: Connection refused") -> None:
        """The master answers no more, until `error` is None again."""
        self.error = MasterUnreachableError(what, where=self.url, hint="is it running, and is the URL right?")

    def seen_by(self, access: Access) -> FakeFarm:
        """The same farm, for somebody with another key."""
        other = copy.copy(self)
        other.access = access
        return other

    def add_builder(self, name: str, *, targets: Sequence[str] = (TARGET,), **more: Any) -> BuilderView:
        """A builder that is there and idle; `health` and `machine` may be given."""
        view = BuilderView(
            builder_id=len(self.builders_by_name) + 1,
            name=name,
            created_at=self.now,
            **{
                "state": BuilderState.ACTIVE,
                "mode": Mode.RUN,
                "targets": list(targets),
                "last_seen_at": self.now,
                **more,
            },
        )
        self.builders_by_name[name] = view
        self._builder_event(name, BuilderEventKind.STARTED)
        return view

    def change_builder(self, name: str, **changes: Any) -> None:
        """Something else is true of a builder."""
        self.builders_by_name[name] = self.builders_by_name[name].model_copy(update=changes)

    def add_job(
        self,
        project: str,
        version: str = "1.0",
        target: str = TARGET,
        *,
        priority: int = Priority.REQUESTED,
        **more: Any,
    ) -> int:
        """A job that is ready, or as `more` says; gives its number."""
        job_id = len(self.jobs_by_id) + 1
        job = FakeJob(job_id, project, version, target, self.now, priority=priority, **more)
        self.jobs_by_id[job_id] = job
        self._event(job, EventKind.QUEUED, priority=int(priority))
        return job_id

    def lease(self, job_id: int, builder: str, step: Step = Step.FETCH) -> None:
        """A builder takes a job."""
        job = self.jobs_by_id[job_id]
        job.state, job.builder, job.leased_at, job.step = JobState.LEASED, builder, self.now, step
        job.attempts += 1
        job.log = f"{job_id}-{job.leased_at:%Y%m%dT%H%M%S%f}Z-{len(self.logs)}"
        self.logs[job.log] = bytearray()
        self._event(job, EventKind.LEASED, builder=builder, attempt=job.attempts)

    def say(self, job_id: int, text: bytes) -> None:
        """The log of a job in hand grows."""
        self.logs[self.jobs_by_id[job_id].log or ""] += text

    def go_to(self, job_id: int, step: Step) -> None:
        """A builder begins another step."""
        self.jobs_by_id[job_id].step = step
        self._event(self.jobs_by_id[job_id], EventKind.STEP, step=step.value)

    def publish(self, job_id: int, size_bytes: int = 4096, **facts: Any) -> int:
        """A job in hand becomes a wheel; gives the number of the build."""
        job = self.jobs_by_id[job_id]
        python, platform = job.target.split("-")[:2]
        name = f"{job.project.replace('-', '_')}-{job.version}-{python}-{python}-{platform}.whl"
        wheel = WheelView(
            filename=name,
            version=job.version,
            sha256=f"{job_id:064x}",
            size_bytes=size_bytes,
            published_at=self.now,
            libraries=facts.pop("libraries", {}),
        )
        return self._end(job, JobState.BUILT, Outcome.BUILT, wheel=wheel, **facts)

    def fail(
        self, job_id: int, reason: FailureReason, *, state: JobState = JobState.FAILED, **facts: Any
    ) -> int:
        """The build of a job in hand fails; gives its number."""
        return self._end(self.jobs_by_id[job_id], state, Outcome.FAILED, reason=reason, **facts)

    def _end(self, job: FakeJob, state: JobState, outcome: Outcome, **facts: Any) -> int:
        build_id = len(self.facts) + 1
        begun_at = job.leased_at or self.now
        row = BuildRow(
            build_id=build_id,
            job_id=job.job_id,
            project=job.project,
            version=job.version,
            target=job.target,
            builder=job.builder or "",
            outcome=outcome,
            started_at=begun_at,
            duration_s=facts.pop("duration_s", (self.now - begun_at).total_seconds()),
            **{name: facts.pop(name, None) for name in ("reason", "captured", "debian_package")},
        )
        self.facts[build_id] = BuildFacts(build=row, attempt=job.attempts, job_state=state, **facts)
        self.newest[job.job_id] = self.facts[build_id]
        self.ended_at[build_id] = self.now
        self.build_logs[build_id] = job.log or ""
        view = self.builders_by_name.get(row.builder)
        if view is not None:
            self.change_builder(
                view.name,
                built=view.built + (outcome is Outcome.BUILT),
                failed=view.failed + (outcome is Outcome.FAILED),
            )
        job.state, job.builder, job.leased_at, job.step = state, None, None, None
        self._event(job, EventKind(state.value) if state in _FINAL else EventKind.RETRY)
        return build_id

    def _event(self, job: FakeJob, kind: EventKind, **detail: Any) -> None:
        number = len(self.job_events) + 1
        self.job_events.append(
            EventView(event_id=number, job_id=job.job_id, at=self.now, kind=kind.value, detail=detail)
        )

    def _builder_event(self, name: str, kind: BuilderEventKind, **detail: Any) -> None:
        history = self.builder_history.setdefault(name, [])
        history.append(
            BuilderEventView(event_id=len(history) + 1, at=self.now, kind=kind.value, detail=detail)
        )

    # --- what is asked -----------------------------------------------------------------------------

    def close(self) -> None:
        """There is nothing to close."""

    @asked
    def who_am_i(self) -> WhoAmI:
        return WhoAmI(access=self.access)

    @asked
    def farm(self, *, rows: bool = False, first: int | None = None) -> FarmView:
        everyone = self._rows()
        active = [row for row in everyone if row.state is BuilderState.ACTIVE]
        up = [row for row in active if row.is_up]
        wheels = [one.wheel for one in self.facts.values() if one.wheel]
        failed = [one for one in self.facts.values() if one.build.reason]
        ready = Bag(job.target for job in self.jobs_by_id.values() if job.state is JobState.READY)
        return FarmView(
            at=self.now,
            version="1.0",
            mode=self.mode,
            why=self.whole.why,
            queue=dict(ready),
            jobs=self._states(),
            hours=self._hours(24),
            builders=len(active),
            builders_up=len(up),
            builders_busy=sum(1 for row in active if row.jobs),
            builders_still=sum(1 for row in up if row.paused_itself or {row.mode, self.mode} != {Mode.RUN}),
            disk_free_bytes=29 << 30,
            disk_total_bytes=100 << 30,
            wheels=len(wheels),
            wheels_bytes=sum(wheel.size_bytes for wheel in wheels),
            newest_failure=self._failed(failed[-1]) if failed else None,
            columns=BuilderColumns.of(in_order(everyone)[:first] if rows else ()),
        )

    @asked
    def builder(self, name: str) -> BuilderView:
        if name not in self.builders_by_name:
            raise MasterError("there is no such builder", where=name, refused=True)
        held = [job for job in self._held() if job.builder == name]
        return self.builders_by_name[name].model_copy(update={"jobs": [self._job(job) for job in held]})

    @asked
    def builder_events(self, name: str) -> list[BuilderEventView]:
        return self.builder_history[name]

    @asked
    def builds(self, *, before: int | None = None, limit: int = 50, **wanted: Any) -> BuildPage:
        if wanted.get("project"):
            wanted["project"] = canonicalize_name(wanted["project"])
        found = [
            one.build
            for one in reversed(self.facts.values())
            if all(value is None or getattr(one.build, name) == value for name, value in wanted.items())
            and (before is None or one.build.build_id < before)
        ]
        page = found[:limit]
        return BuildPage(builds=page, before=page[-1].build_id if len(found) > limit else None)

    @asked
    def build(self, build_id: int) -> BuildFacts:
        found = self.facts.get(build_id)
        if found is None:
            raise MasterError("there is no such build", where=f"build {build_id}", refused=True)
        size = len(self.logs.get(self.build_logs[build_id], b""))
        state = self.jobs_by_id[found.build.job_id].state
        return found.model_copy(update={"log_bytes": size, "job_state": state})

    @asked
    def build_log(
        self, build_id: int, offset: int = 0, *, last: int | None = None, line: int | None = None
    ) -> LogSlice:
        return self._slice(self.build_logs[build_id], offset, last, line)

    @asked
    def job_log(
        self, job_id: int, offset: int = 0, *, last: int | None = None, line: int | None = None
    ) -> LogSlice:
        return self._slice(self.jobs_by_id[job_id].log or "", offset, last, line)

    @asked
    def jobs(self, state: JobState | None = None, limit: int = 50) -> list[JobView]:
        found = [job for job in reversed(self.jobs_by_id.values()) if state in {None, job.state}]
        return [self._job(job) for job in found[:limit]]

    @asked
    def job(self, job_id: int) -> JobView:
        return self._job(self._known(job_id))

    @asked
    def events(self, job_id: int) -> list[EventView]:
        return [one for one in self.job_events if one.job_id == job_id]

    @asked
    def queue(self, limit: int = 20) -> QueueView:
        ready = [job for job in self._in_order() if job.state is JobState.READY]
        lanes = Bag((job.target, _band(job.priority)) for job in ready)
        waiting = {
            state: [self._queued(job) for job in self.jobs_by_id.values() if job.state is state]
            for state in (JobState.DELAYED, JobState.BLOCKED, JobState.QUARANTINED)
        }
        waiting[JobState.DELAYED].sort(key=lambda one: (one.not_before_at or NOW, one.job_id))
        targets = sorted({job.target for job in ready})
        return QueueView(
            counts=self._states(),
            lanes=[
                QueueLane(target=target, priority=band, jobs=lanes[target, band])
                for band in sorted(Priority, reverse=True)
                for target in targets
                if lanes[target, band]
            ],
            ready={
                target: [self._queued(job) for job in ready if job.target == target][:limit]
                for target in targets
            },
            delayed=waiting[JobState.DELAYED][:limit],
            blocked=waiting[JobState.BLOCKED][:limit],
            quarantined=waiting[JobState.QUARANTINED][:limit],
        )

    @asked
    def queue_of(self, target: str, priority: Priority | None = None, limit: int = 100) -> list[QueuedJob]:
        found = [
            self._queued(job)
            for job in self._in_order()
            if job.state is JobState.READY
            and job.target == target
            and priority in {None, _band(job.priority)}
        ]
        return found[:limit]

    @asked
    def failures(
        self,
        since: date | None = None,
        until: date | None = None,
        *,
        target: str | None = None,
        project: str | None = None,
    ) -> FailureReport:
        first, days = self._period(since, until, 7)
        last = first + timedelta(days=days - 1)
        now = self._between(first, last, target, project)
        before = self._between(first - timedelta(days=days), first - timedelta(days=1), target, project)
        counts, counts_before = (Bag(one.build.reason for one in some) for some in (now, before))
        failed = len(now) - counts[None]
        newest = {one.build.reason: one for one in now}
        reasons = [
            ReasonCount(
                reason=reason,
                sentence=reason.sentence,
                builds=counts[reason],
                share=counts[reason] / failed if failed else 0.0,
                before=counts_before[reason],
                newest=self._failed(newest[reason]) if reason in newest else None,
            )
            for reason in FailureReason
            if counts[reason] or counts_before[reason]
        ]
        return FailureReport(
            since=first,
            until=last,
            target=target,
            project=project,
            built=counts[None],
            failed=failed,
            built_before=counts_before[None],
            failed_before=len(before) - counts_before[None],
            reasons=sorted(reasons, key=lambda one: (-one.builds, one.reason.value)),
        )

    @asked
    def failed_builds(
        self, reason: FailureReason, *, before: int | None = None, limit: int = 50, **wanted: Any
    ) -> list[FailedBuild]:
        found = [
            self._failed(one)
            for one in reversed(self.facts.values())
            if one.build.reason is reason
            and all(value is None or getattr(one.build, name) == value for name, value in wanted.items())
            and (before is None or one.build.build_id < before)
        ]
        return found[:limit]

    @asked
    def statistics(
        self, since: date | None = None, until: date | None = None, *, target: str | None = None
    ) -> Statistics:
        first, length = self._period(since, until, 30)
        days = [first + timedelta(days=number) for number in range(length)]
        found = self._between(days[0], days[-1], target, None)
        counts = Bag((self._ended_on(one), one.build.reason) for one in found)
        total = Bag(one.build.reason for one in found)
        wheels = [
            one.wheel.filename.removesuffix(".whl").split("-") for one in self.facts.values() if one.wheel
        ]
        return Statistics(
            since=days[0],
            until=days[-1],
            target=target,
            days=[
                DayCount(
                    day=day,
                    built=counts[day, None],
                    failed=sum(by for (on, reason), by in counts.items() if reason and on == day),
                )
                for day in days
            ],
            reasons=[
                ReasonDays(reason=reason, builds=[counts[day, reason] for day in days])
                for reason in sorted((one for one in total if one), key=lambda one: (-total[one], one.value))
            ],
            wheels_by_abi=dict(Bag(parts[-2] for parts in wheels)),
            wheels_by_platform=dict(Bag(parts[-1] for parts in wheels)),
        )

    @asked
    def hours(self, hours: int = 24) -> list[HourCount]:
        return self._hours(hours)

    @asked
    def builder_statistics(
        self,
        since: date | None = None,
        until: date | None = None,
        *,
        builder: str | None = None,
        limit: int = 50,
    ) -> BuilderStatistics:
        first, length = self._period(since, until, 30)
        days = [first + timedelta(days=number) for number in range(length)]
        found = self._between(days[0], days[-1], None, None)
        counts = Bag((one.build.builder, one.build.outcome, self._ended_on(one)) for one in found)
        total = Bag(one.build.builder for one in found if builder in {None, one.build.builder})
        return BuilderStatistics(
            since=days[0],
            until=days[-1],
            builders=[
                BuilderDays(
                    builder=name,
                    built=[counts[name, Outcome.BUILT, day] for day in days],
                    failed=[counts[name, Outcome.FAILED, day] for day in days],
                )
                for name in sorted(total, key=lambda one: (-total[one], one))[:limit]
            ],
        )

    @asked
    def search(self, name: str, limit: int = 50) -> list[ProjectMatch]:
        wanted = canonicalize_name(name)
        names = {job.project for job in self.jobs_by_id.values()} | set(self.plans)
        found = sorted(
            (one for one in names if wanted in one),
            key=lambda one: (one != wanted, not one.startswith(wanted), one),
        )
        known = {job.project for job in self.jobs_by_id.values()}
        return [
            ProjectMatch(name=one, is_on_pypi=one in self.plans, is_known=one in known)
            for one in found[:limit]
        ]

    @asked
    def project(self, name: str) -> ProjectView:
        wanted = canonicalize_name(name)
        jobs = [job for job in reversed(self.jobs_by_id.values()) if job.project == wanted]
        if not jobs:
            raise MasterError("the master has nothing of this project", where=name, refused=True)
        wheels = [
            one.wheel for one in reversed(self.facts.values()) if one.wheel and one.build.project == wanted
        ]
        return ProjectView(name=wanted, jobs=[self._job(job) for job in jobs], wheels=wheels)

    @asked
    def plan(self, name: str, version: str | None = None) -> ProjectPlan:
        found = self.plans.get(canonicalize_name(name))
        if found is None:
            raise NotOnPyPIError("PyPI has no such project", where=name)
        releases = [one for one in found.releases if version in {None, one.version}]
        return found.model_copy(update={"releases": releases})

    @asked
    def sync(self) -> SyncView:
        return SyncView(follow="off")

    @asked
    def skips(self) -> list[SkipView]:
        return self.rules[::-1]

    @asked
    def fixes(
        self, state: FixState | None = None, project: str | None = None, limit: int = 100
    ) -> list[FixView]:
        found = [
            one for one in self.fix_rules if state in {None, one.state} and project in {None, one.project}
        ]
        return found[::-1][:limit]

    # --- what is done ------------------------------------------------------------------------------

    @acting
    def order(self, name: str | None, order: BuilderOrder) -> BuilderView | Status:
        if name is None:
            self.whole.mode, self.whole.why = order.mode, order.why
            return Status(version="1.0", targets=[], jobs=self._states(), mode=order.mode, why=order.why)
        self.change_builder(name, mode=order.mode, why=order.why)
        self._builder_event(name, BuilderEventKind.ORDERED, mode=order.mode.value, why=order.why)
        return self.builders_by_name[name]

    @acting
    def approve(self, name: str) -> BuilderView:
        self.change_builder(name, state=BuilderState.ACTIVE)
        self._builder_event(name, BuilderEventKind.APPROVED)
        return self.builders_by_name[name]

    @acting
    def skip(self, name: str | None) -> list[JobView]:
        held = [job for job in self._held() if name in {None, job.builder}]
        return [self._cancel(job) for job in held]

    @acting
    def cancel(self, job_id: int) -> JobView:
        job = self._known(job_id)
        if job.state in _FINAL:
            raise MasterError(
                f"this job has ended already: {job.state.value}", where=f"job {job_id}", refused=True
            )
        return self._cancel(job)

    @acting
    def retry(self, job_id: int) -> JobView:
        job = self._known(job_id)
        if job.state not in _FINAL:
            raise MasterError(
                f"this job has not ended: {job.state.value}", where=f"job {job_id}", refused=True
            )
        return self._again(job)

    @acting
    def retry_failed(
        self, reason: FailureReason, *, target: str | None = None, project: str | None = None
    ) -> RetryAnswer:
        found = [
            self._again(self.jobs_by_id[build.job_id])
            for build in [one.build for one in self.newest.values()]
            if build.reason is reason
            and self.jobs_by_id[build.job_id].state is JobState.FAILED
            and target in {None, build.target}
            and project in {None, build.project}
        ]
        return RetryAnswer(jobs=len(found))

    @acting
    def request(self, request: BuildRequest) -> RequestAnswer:
        target = request.target or TARGET
        job_id = self.add_job(canonicalize_name(request.project), request.version or "1.0", target)
        job = self._job(self.jobs_by_id[job_id])
        return RequestAnswer(project=job.project, version=job.version, target=target, job=job)

    @acting
    def rebuild(self, wanted: RebuildRequest) -> list[JobView]:
        name = canonicalize_name(wanted.project)
        ended = [job for job in self.jobs_by_id.values() if job.project == name and job.state in _FINAL]
        return [self._again(job) for job in ended if wanted.version in {None, job.version}]

    @acting
    def add_skip(self, wanted: SkipRequest) -> SkipView:
        rule = SkipView(rule_id=len(self.rules) + 1, created_at=self.now, **wanted.model_dump())
        self.rules.append(rule)
        return rule

    @acting
    def remove_skips(self, project: str) -> list[SkipView]:
        gone = [one for one in self.rules if one.project == project]
        self.rules[:] = [one for one in self.rules if one.project != project]
        return gone

    @acting
    def accept_fix(self, rule_id: int, why: str | None = None) -> FixAnswer:
        return self._decide(rule_id, FixState.TRYING, why)

    @acting
    def refuse_fix(self, rule_id: int, why: str | None = None) -> FixAnswer:
        return self._decide(rule_id, FixState.OFF, why)

    # --- how it is computed ------------------------------------------------------------------------

    def _known(self, job_id: int) -> FakeJob:
        found = self.jobs_by_id.get(job_id)
        if found is None:
            raise MasterError("there is no such job", where=f"job {job_id}", refused=True)
        return found

    def _held(self) -> list[FakeJob]:
        return [job for job in self.jobs_by_id.values() if job.state is JobState.LEASED]

    def _states(self) -> dict[str, int]:
        counts = Bag(job.state for job in self.jobs_by_id.values())
        return {state.value: counts[state] for state in JobState}

    def _in_order(self) -> list[FakeJob]:
        return sorted(self.jobs_by_id.values(), key=lambda job: (-job.priority, job.job_id))

    def _rows(self) -> list[BuilderRow]:
        week = self._between(self.now.date() - timedelta(days=6), self.now.date(), None, None)
        counts = Bag((one.build.builder, one.build.outcome) for one in week)
        held = self._held()
        return [
            self._row(
                self.builders_by_name[name],
                [job for job in held if job.builder == name],
                counts[name, Outcome.BUILT],
                counts[name, Outcome.FAILED],
            )
            for name in sorted(self.builders_by_name)
        ]

    def _row(self, view: BuilderView, held: Iterable[FakeJob], built: int, failed: int) -> BuilderRow:
        machine = view.machine or Machine(fingerprint="0" * 64)
        health = view.health or Health()
        return BuilderRow(
            name=view.name,
            state=view.state,
            mode=view.mode,
            why=view.why,
            paused_itself=view.paused_itself,
            is_up=view.last_seen_at is not None and view.last_seen_at > self.now - UP,
            last_seen_at=view.last_seen_at,
            slots=view.slots,
            targets=view.targets,
            jobs=[
                JobInHand(
                    job_id=job.job_id,
                    project=job.project,
                    version=job.version,
                    target=job.target,
                    step=job.step,
                    leased_at=job.leased_at or self.now,
                )
                for job in held
            ],
            built=built,
            failed=failed,
            version=view.version,
            model=machine.model,
            os=machine.os,
            cores=machine.cores,
            memory_bytes=machine.memory_bytes,
            memory_available_bytes=health.memory_available_bytes,
            disk_free_bytes=health.disk_free_bytes,
            load_1m=health.load_1m,
            temperature_c=health.temperature_c,
            throttled=health.throttled,
            undervoltage=health.undervoltage,
        )

    def _job(self, job: FakeJob) -> JobView:
        newest = self.newest.get(job.job_id)
        return JobView(
            job_id=job.job_id,
            project=job.project,
            version=job.version,
            target=job.target,
            state=job.state,
            step=job.step,
            attempts=job.attempts,
            created_at=job.created_at,
            build=_view(newest) if newest else None,
            packages=job.packages,
            blocked_on=job.blocked_on,
            builder=job.builder,
            leased_at=job.leased_at,
        )

    def _queued(self, job: FakeJob) -> QueuedJob:
        on = self.jobs_by_id.get(job.blocked_on or 0)
        newest = self.newest.get(job.job_id)
        return QueuedJob(
            job_id=job.job_id,
            project=job.project,
            version=job.version,
            target=job.target,
            state=job.state,
            priority=job.priority,
            packages=job.packages,
            created_at=job.created_at,
            attempts=job.attempts,
            not_before_at=job.not_before_at if job.state is JobState.DELAYED else None,
            blocked_on=job.blocked_on,
            blocked_on_project=on.project if on else None,
            reason=newest.build.reason if newest else None,
        )

    def _failed(self, one: BuildFacts) -> FailedBuild:
        return FailedBuild(
            evidence=one.evidence,
            evidence_line=one.evidence_line,
            **one.build.model_dump(exclude={"outcome"}),
        )

    def _slice(self, name: str, offset: int, last: int | None, line: int | None) -> LogSlice:
        content = bytes(self.logs.get(name, b""))
        if last is not None:
            offset = max(0, len(content) - last)
        elif line is not None:
            offset = sum(len(one) for one in content.splitlines(keepends=True)[: line - 1])
        return LogSlice(offset, len(content), content[offset : offset + LOG_BYTES], name)

    def _period(self, since: date | None, until: date | None, days: int) -> tuple[date, int]:
        last = until or self.now.date()
        first = since or last - timedelta(days=days - 1)
        return first, (last - first).days + 1

    def _ended_on(self, one: BuildFacts) -> date:
        return self.ended_at[one.build.build_id].date()

    def _between(self, first: date, last: date, target: str | None, project: str | None) -> list[BuildFacts]:
        return [
            one
            for one in self.facts.values()
            if first <= self._ended_on(one) <= last
            and target in {None, one.build.target}
            and project in {None, one.build.project}
        ]

    def _hours(self, hours: int) -> list[HourCount]:
        this = self.now.replace(minute=0, second=0, microsecond=0)
        counts: Bag[tuple[datetime, Outcome]] = Bag()
        for build_id, at in self.ended_at.items():
            hour = at.replace(minute=0, second=0, microsecond=0)
            counts[hour, self.facts[build_id].build.outcome] += 1
        return [
            HourCount(begins_at=at, built=counts[at, Outcome.BUILT], failed=counts[at, Outcome.FAILED])
            for at in (this - timedelta(hours=back) for back in reversed(range(hours)))
        ]

    def _cancel(self, job: FakeJob) -> JobView:
        job.state, job.builder, job.leased_at, job.step = JobState.CANCELLED, None, None, None
        self._event(job, EventKind.CANCELLED)
        return self._job(job)

    def _again(self, job: FakeJob) -> JobView:
        job.state, job.attempts = JobState.READY, 0
        self._event(job, EventKind.REQUEUED)
        return self._job(job)

    def _decide(self, rule_id: int, state: FixState, why: str | None) -> FixAnswer:
        old = next((one for one in self.fix_rules if one.rule_id == rule_id), None)
        if old is None:
            raise MasterError("there is no such rule", where=f"rule {rule_id}", refused=True)
        new = old.model_copy(update={"state": state, "why": why, "decided_by": "person"})
        self.fix_rules[:] = [new if one is old else one for one in self.fix_rules]
        return FixAnswer(rule=new)


def refused_key() -> KeyRefusedError:
    """What a master says to a key that it does not know."""
    return KeyRefusedError("the master does not know this key", hint="it may have been revoked")


def _band(priority: int) -> Priority:
    return max(one for one in Priority if one <= max(priority, 0))


def _view(one: BuildFacts) -> BuildView:
    build = one.build
    return BuildView(
        build_id=build.build_id,
        builder=build.builder,
        outcome=build.outcome,
        reason=build.reason,
        captured=build.captured,
        debian_package=build.debian_package,
        evidence=one.evidence,
        evidence_line=one.evidence_line,
        started_at=build.started_at,
        duration_s=build.duration_s,
        written_bytes=one.written_bytes,
        steps=one.steps,
        wheel=one.wheel.filename if one.wheel else None,
        size_bytes=one.wheel.size_bytes if one.wheel else None,
        packages=one.packages,
    )
