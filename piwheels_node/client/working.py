# SPDX-License-Identifier: BSD-3-Clause
"""What a builder says to its master: hello, orders, lease; then what belongs to one leased job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import httpx

from piwheels_node.client.transport import CHECK_TIMEOUT_S, Transport, UploadStoppedError, WrongOffsetError
from piwheels_node.core.errors import MasterError, MasterUnreachableError
from piwheels_node.core.messages import (
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    JoinAnswer,
    JoinRequest,
    Lease,
    LeaseRequest,
    Orders,
    OrdersRequest,
    Refusal,
    Report,
    ReportAnswer,
    Upload,
)

_UPLOAD_RETRY_S = (0.2, 1.0, 3.0)
_CHUNK_BYTES = 256 << 10


class WorkingClient(Transport):
    """Endpoints for builders; see `MasterClient`."""

    def join(self, request: JoinRequest) -> JoinAnswer:
        """Become a builder of this master by a join token; needs no key."""
        return self._read(self._call("POST", "/join", request), JoinAnswer)

    def hello(self, hello: Hello) -> Orders:
        """Say that this builder has just started."""
        return self._read(self._call("POST", "/hello", hello), Orders)

    def leave(self) -> None:
        """Be a builder no more; the key is worth nothing afterwards."""
        self._call("POST", "/leave")

    def orders(self, request: OrdersRequest) -> Orders:
        """What the builder is told to do, as soon as that is not what it has `seen`, or after `wait_s`."""
        answer = self._call("POST", "/orders", request, timeout_s=request.wait_s + self._timeout_s)
        return self._read(answer, Orders)

    def lease(self, request: LeaseRequest) -> Lease | None:
        """Get a job, waiting up to `request.wait_s` for one; None where there is none."""
        answer = self._call("POST", "/lease", request, timeout_s=request.wait_s + self._timeout_s)
        return None if answer.status_code == httpx.codes.NO_CONTENT else self._read(answer, Lease)

    def heartbeat(self, lease: Lease, beat: Heartbeat) -> HeartbeatAnswer:
        """Say that the build goes on."""
        return self._read(self._call("POST", f"/jobs/{lease.job_id}/heartbeat", beat), HeartbeatAnswer)

    def hand_back(self, lease: Lease) -> None:
        """Give the job back unfinished."""
        self._call("POST", f"/jobs/{lease.job_id}/hand-back", headers=_token(lease))

    def refuse(self, lease: Lease, what: str) -> None:
        """Give the job back unbegun: it fits another builder better, and `what` says why."""
        self._call("POST", f"/jobs/{lease.job_id}/refuse", Refusal(token=lease.token, what=what))

    def send_log(self, lease: Lease, offset: int, chunk: bytes) -> int:
        """Send what the log has from `offset` on; gives where the next part must begin.

        That is the end of the chunk, unless the master has less of the log than `offset`.
        """
        answer = self._call(
            "PUT",
            f"/jobs/{lease.job_id}/log",
            headers=_token(lease),
            params={"offset": offset},
            content=chunk,
        )
        return self._read(answer, Upload).offset

    def upload_wheel(self, lease: Lease, path: Path, *, stop: Event | None = None) -> None:
        """Send a wheel; after a cut connection it goes on where it was, a few times.

        Raises UploadStoppedError soon after `stop` is set.
        """
        stop = stop or Event()
        size = path.stat().st_size
        offset = 0
        for delay_s in (*_UPLOAD_RETRY_S, None):
            try:
                while offset < size:
                    offset = self._send_from(lease, path, offset, size, stop)
            except WrongOffsetError as error:
                offset = error.offset
            except MasterUnreachableError:
                if delay_s is None:
                    raise
                if stop.wait(delay_s):
                    raise _stopped(lease) from None
                offset = self._offset_reached(lease, size, offset)
            if offset >= size:
                return
        raise MasterError("the upload of the wheel does not get on", where=f"job {lease.job_id}")

    def report(self, lease: Lease, report: Report) -> ReportAnswer:
        """End the job; the answer says what the master made of the wheel."""
        answer = self._call("POST", f"/jobs/{lease.job_id}/report", report, timeout_s=CHECK_TIMEOUT_S)
        return self._read(answer, ReportAnswer)

    def _send_from(self, lease: Lease, path: Path, offset: int, size: int, stop: Event) -> int:
        answer = self._call(
            "PUT",
            f"/jobs/{lease.job_id}/wheel",
            headers={**_token(lease), "Content-Length": str(size - offset)},
            params={"offset": offset, "size": size},
            content=_chunks(lease, path, offset, stop),
        )
        return self._read(answer, Upload).offset

    def _offset_reached(self, lease: Lease, size: int, otherwise: int) -> int:
        """Ask with an empty part at 0 how much has arrived."""
        try:
            answer = self._call(
                "PUT",
                f"/jobs/{lease.job_id}/wheel",
                headers=_token(lease),
                params={"offset": 0, "size": size},
            )
        except WrongOffsetError as error:
            return error.offset
        except MasterUnreachableError:
            return otherwise
        return self._read(answer, Upload).offset


def _token(lease: Lease) -> dict[str, str]:
    return {"X-Lease-Token": lease.token}


def _chunks(lease: Lease, path: Path, offset: int, stop: Event) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK_BYTES):
            if stop.is_set():
                raise _stopped(lease)
            yield chunk


def _stopped(lease: Lease) -> UploadStoppedError:
    return UploadStoppedError("the upload was told to stop", where=f"job {lease.job_id}")
