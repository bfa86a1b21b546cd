# SPDX-License-Identifier: BSD-3-Clause
"""One lease of a simulated builder, from the first heartbeat to the report, and what goes wrong in it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from typing import TYPE_CHECKING

from piwheels_node.core.builders import Mode
from piwheels_node.core.failure import FailureReason
from piwheels_node.core.jobs import Outcome, Step
from piwheels_node.core.messages import (
    BuildEnvironment,
    Heartbeat,
    Lease,
    LogPart,
    Refusal,
    Report,
    ReportAnswer,
    StepTime,
    Upload,
    WheelClaim,
)
from piwheels_node.core.wheels import free_filename
from simulator.ledger import Attempt
from simulator.people import cancel, pause_a_while
from simulator.wire import Answer, Cut, Link, LinkError
from simulator.world import make_wheel, wheel_filename

if TYPE_CHECKING:
    from simulator.builder import SimulatedBuilder

_TRIES = 30
_AGAIN_S = 0.05
_THIS_ONE = 0.7
"""In what share of the cases a person cancels the very job that is being built."""

_ENVIRONMENT = BuildEnvironment(environment_id="fleet", python="3.13.5", release="debian13")


class KilledError(Exception):
    """The machine has lost its power."""


class _LostError(Exception):
    """The master says that the job is somebody else's."""


class Assignment:
    """Carries out one lease; what the builder learns of it goes into the ledger."""

    def __init__(self, builder: SimulatedBuilder, lease: Lease) -> None:
        now = time.monotonic()
        self._builder = builder
        self._shared = builder.shared
        self._lease = lease
        self._nature = self._shared.world.nature(lease.project, lease.version)
        self._header = f"X-Lease-Token: {lease.token}\r\n"
        self._lease_is_over_at = now + lease.expires_in_s
        self._gone = asyncio.Event()
        self._ending = False
        self._step = Step.FETCH
        self._began = now
        self._attempt = Attempt(builder.name, lease.job_id, lease.token, lease.project, lease.version)
        self._shared.ledger.attempts.append(self._attempt)
        self._shared.recent.append(self._attempt)

    async def carry_out(self) -> None:
        """Build, and hand in; raises KilledError."""
        companion = asyncio.ensure_future(self._keep_alive())
        try:
            await self._work(companion)
        except _LostError:
            self._attempt.told = "lost"
        except LinkError:
            self._shared.ledger.met["gave up: no master until the lease was over"] += 1
        finally:
            await _end(companion)
        await self._pester()

    async def _work(self, companion: asyncio.Future[None]) -> None:
        builder = self._builder
        if builder.meets("refused"):
            await self._refuse()
            return
        self._have_visitors()
        if builder.meets("killed"):
            await asyncio.sleep(self._nature.length_s * builder.chance.random())
            await _end(companion)
            raise KilledError
        if builder.meets("silent"):
            await _end(companion)
            await asyncio.sleep(self._lease_is_over_at - time.monotonic() + 0.1)
        await self._build()
        if builder.meets("handed_back"):
            self._ending = True
            await self._say("hand-back", headers=self._header)
            self._attempt.told = "handed-back"
            return
        await self._hand_in()

    def _have_visitors(self) -> None:
        """A person may interfere, at some moment of the build or just after it."""
        builder, shared = self._builder, self._shared
        after_s = self._nature.length_s * builder.chance.uniform(0.0, 1.2)
        if builder.meets("paused"):
            shared.visit(pause_a_while(builder, after_s))
        if builder.meets("cancelled"):
            this_one = builder.chance.random() < _THIS_ONE
            job_id = self._lease.job_id if this_one else shared.world.any_job(builder.chance)
            shared.visit(cancel(builder, job_id, after_s))

    async def _build(self) -> None:
        self._step = Step.BUILD
        left_s = self._nature.length_s
        await self._send_log(f"building {self._lease.project} on {self._builder.name}\n".encode())
        while left_s > 0:
            nap_s = min(left_s, 0.5)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), nap_s)
                raise _LostError
            if self._builder.mode is not Mode.PAUSE:
                left_s -= nap_s
        self._step = Step.UPLOAD

    async def _hand_in(self) -> None:
        nature, lease = self._nature, self._lease
        if nature.reason is not None:
            await self._report(nature.reason, None)
            return
        maker = f"{self._builder.name} {lease.job_id} {lease.token}"
        wheel = make_wheel(lease.project, lease.version, maker, nature.padding_bytes)
        self._attempt.sha256 = hashlib.sha256(wheel).hexdigest()
        self._attempt.filename = free_filename(
            wheel_filename(lease.project, lease.version), frozenset(lease.taken_names)
        )
        await self._upload(wheel)
        claim = WheelClaim(
            filename=self._attempt.filename, size_bytes=len(wheel), sha256=self._attempt.sha256
        )
        await self._report(None, claim)

    async def _refuse(self) -> None:
        refusal = Refusal(token=self._lease.token, what="the simulator draws lots")
        self._ending = True
        answer = await self._say("refuse", refusal.model_dump_json())
        self._attempt.told = "refused" if answer.ok else ""

    async def _send_log(self, text: bytes) -> None:
        path = f"log?offset={len(self._attempt.log)}"
        answer = await self._say(path, text, method="PUT", headers=self._header)
        self._attempt.log += text
        if answer.ok and Upload.model_validate_json(answer.body).offset != len(self._attempt.log):
            self._shared.ledger.is_wrong("log offset", str(answer.body))

    async def _upload(self, wheel: bytes) -> None:
        """Send the wheel; where the connection ends, ask how much came, and go on there."""
        builder, offset = self._builder, 0
        cut = Cut.BODY if builder.meets("upload_cut") else None
        cut = Cut.ANSWER if builder.meets("upload_unanswered") else cut
        pace_s = self._lease.expires_in_s * 1.3 if builder.meets("slow") else 0.0
        for _ in range(_TRIES):
            path = f"/api/v1/jobs/{self._lease.job_id}/wheel?offset={offset}&size={len(wheel)}"
            try:
                answer = await builder.work.call(
                    "wheel", "PUT", path, wheel[offset:], headers=self._header, cut=cut, pace_s=pace_s
                )
                offset = self._offset(answer, offset)
            except LinkError:
                await asyncio.sleep(_AGAIN_S)
                probe = f"wheel?offset=0&size={len(wheel)}"
                answer = await self._say(probe, method="PUT", headers=self._header)
                offset = self._offset(answer, offset)
            if offset >= len(wheel):
                return
            cut, pace_s = None, 0.0
            await asyncio.sleep(_AGAIN_S)
        self._shared.ledger.is_wrong("an upload that does not get on", f"job {self._lease.job_id}")

    def _offset(self, answer: Answer, otherwise: int) -> int:
        self._look(answer, "wheel")
        told = answer.json()
        return int(told["offset"]) if isinstance(told, dict) and told.get("offset") is not None else otherwise

    async def _report(self, reason: FailureReason | None, claim: WheelClaim | None) -> None:
        builder, attempt = self._builder, self._attempt
        last = f"the end of {self._lease.job_id}\n".encode()
        report = Report(
            token=self._lease.token,
            outcome=Outcome.BUILT if claim else Outcome.FAILED,
            reason=reason,
            captured="ffi.h" if reason is FailureReason.MISSING_HEADER else None,
            evidence="fatal error: ffi.h: No such file or directory" if reason else None,
            duration_s=time.monotonic() - self._began,
            steps=[StepTime(step=Step.BUILD, duration_s=self._nature.length_s)],
            cpu_s=self._nature.length_s,
            peak_memory_bytes=100 << 20,
            environment=_ENVIRONMENT,
            wheel=claim,
            log=LogPart.of(len(attempt.log), last),
        ).model_dump_json()
        attempt.log += last
        cut = Cut.BODY if builder.meets("report_cut") else None
        cut = Cut.ANSWER if builder.meets("report_unanswered") else cut
        self._ending = True
        attempt.unsure = True
        answer = await self._say("report", report, cut=cut)
        attempt.unsure = False
        if answer.ok:
            attempt.told = ReportAnswer.model_validate_json(answer.body).outcome.value
        if builder.meets("report_twice"):
            self._must_be_lost(await self._once("report", report), "a second report")

    async def _keep_alive(self) -> None:
        """Heartbeats, on a connection of their own, until the lease is lost or the job is over."""
        try:
            while True:
                await self._beat()
                await asyncio.sleep(self._lease.expires_in_s / 3)
        except _LostError:
            self._gone.set()
        except LinkError:
            self._gone.set()

    async def _beat(self) -> None:
        beat = Heartbeat(token=self._lease.token, step=self._step, health=self._builder.health())
        cut = Cut.ANSWER if self._builder.meets("heartbeat_unanswered") else None
        sent_at = time.monotonic()
        answer = await self._say("heartbeat", beat.model_dump_json(), link=self._builder.pulse, cut=cut)
        if self._builder.meets("heartbeat_twice"):
            answer = await self._say("heartbeat", beat.model_dump_json(), link=self._builder.pulse)
        if answer.ok:
            self._attempt.alive_until = sent_at + self._lease.expires_in_s
            self._lease_is_over_at = time.monotonic() + self._lease.expires_in_s

    async def _say(
        self,
        what: str,
        body: str | bytes = b"",
        *,
        method: str = "POST",
        headers: str = "",
        link: Link | None = None,
        cut: Cut | None = None,
    ) -> Answer:
        """Say something of this job until it is heard; raises _LostError, LinkError."""
        answer = await self._builder.ask(
            link or self._builder.work,
            what.partition("?")[0],
            f"/jobs/{self._lease.job_id}/{what}",
            body,
            method=method,
            headers=headers,
            cut=cut,
            until=self._lease_is_over_at + self._lease.expires_in_s,
        )
        self._look(answer, what)
        return answer

    def _look(self, answer: Answer, what: str) -> None:
        """Is this what a master may say? Raises _LostError where it says that the lease is gone."""
        if answer.ok or answer.code == "offset":
            return
        if answer.code != "lost":
            where = f"{what.partition('?')[0]} {answer.status} {answer.code}"
            self._shared.ledger.is_wrong(where, answer.body.decode(errors="replace")[:200])
            return
        job_id = self._lease.job_id
        known = self._ending or job_id in self._builder.skip or job_id in self._shared.ledger.unwanted
        if not known and time.monotonic() < self._attempt.alive_until:
            self._shared.ledger.is_wrong("a lease was lost that was kept alive", f"job {job_id}")
        raise _LostError

    async def _pester(self) -> None:
        """Try what must be refused: the token of a job that is over; another builder's job."""
        builder = self._builder
        # Where masters come and go, a lease that has just ended may begin anew: nobody could be heard
        is_over = self._attempt.told not in {"", "lost" if len(self._shared.addresses) > 1 else ""}
        if is_over and builder.meets("stale"):
            await self._use(self._attempt, "a stale token")
        others = [one for one in self._shared.recent if one.builder != builder.name]
        if others and builder.meets("foreign"):
            other = builder.chance.choice(others)
            await self._use(other, "another builder's token")
            made_up = Attempt(builder.name, other.job_id, secrets.token_hex(16), other.project, other.version)
            await self._use(made_up, "a token made up")

    async def _use(self, attempt: Attempt, whose: str) -> None:
        beat = Heartbeat(token=attempt.token, step=Step.BUILD).model_dump_json()
        report = Report(token=attempt.token, outcome=Outcome.FAILED, reason=None, duration_s=1)
        header = f"X-Lease-Token: {attempt.token}\r\n"
        for path, method, body, headers in (
            ("heartbeat", "POST", beat, ""),
            ("log?offset=0", "PUT", "nonsense", header),
            ("wheel?offset=0&size=8", "PUT", "nonsense", header),
            ("hand-back", "POST", "", header),
            ("report", "POST", report.model_dump_json(), ""),
        ):
            answer = await self._once(path, body, method=method, headers=headers, job_id=attempt.job_id)
            self._must_be_lost(answer, f"{whose} at {path.partition('?')[0]}")

    async def _once(
        self, path: str, body: str, *, method: str = "POST", headers: str = "", job_id: int | None = None
    ) -> Answer | None:
        with contextlib.suppress(LinkError):
            return await self._builder.work.call(
                f"refused {path.partition('?')[0]}",
                method,
                f"/api/v1/jobs/{job_id or self._lease.job_id}/{path}",
                body.encode(),
                headers=headers,
            )
        return None

    def _must_be_lost(self, answer: Answer | None, what: str) -> None:
        if answer is not None and answer.code not in {"lost", "too-often", "unavailable"}:
            self._shared.ledger.is_wrong(f"{what} is answered {answer.status} {answer.code}")


async def _end(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
