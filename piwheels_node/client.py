# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP client of a master, for builders, commands and screens.

One method for each endpoint of `/api/v1`, with the messages of `core.messages`; errors are those of
`core.errors`. Plain HTTP is refused but to this machine itself: a key must not travel in the clear.
It blocks, and may be used by several threads. It must not import the master or the builder.
"""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from piwheels_node import __version__
from piwheels_node.core.errors import (
    LeaseLostError,
    MasterError,
    MasterUnreachableError,
    NodeError,
    NotOnPyPIError,
    PyPIError,
    StorageError,
    UsageError,
)
from piwheels_node.core.jobs import JobState
from piwheels_node.core.messages import (
    BuildRequest,
    EventView,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    JobView,
    Lease,
    LeaseRequest,
    Message,
    Problem,
    ProjectView,
    Report,
    ReportAnswer,
    RequestAnswer,
    Status,
    Upload,
)

_TIMEOUT_S = 30.0
_CHECK_TIMEOUT_S = 900.0
"""A report is answered after the master has read a wheel of up to 2 GB; a request, after PyPI was asked."""

_UPLOAD_RETRY_S = (0.2, 1.0, 3.0)
_CHUNK_BYTES = 256 << 10
_REFUSED = frozenset({400, 404, 409, 413, 422, 502})
"""Statuses that are about this one request, not about the key or the master as a whole."""

_ON_BOTH_SIDES: dict[str, type[NodeError]] = {
    "not-on-pypi": NotOnPyPIError,
    "pypi": PyPIError,
    "storage": StorageError,
}
"""Errors that are what they are on both sides of the wire."""

M = TypeVar("M", bound=Message)


class _WrongOffsetError(MasterError):
    """An upload must go on at `offset`."""

    def __init__(self, what: str, offset: int, *, where: str | None = None) -> None:
        super().__init__(what, where=where)
        self.offset = offset


class MasterClient:
    """Talks to the master at `url`, with a builder's or an operator's `key`, or none for reading.

    Every method raises MasterUnreachableError where there is no connection, LeaseLostError where the
    lease is gone, StorageError where the master's disk is full, and MasterError where the master refuses
    or cannot be understood.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        on_this_machine = _is_loopback(self.url)
        headers = {"User-Agent": f"piwheels-node/{__version__}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._timeout_s = timeout_s
        self._client = httpx.Client(
            headers=headers,
            verify=ssl.create_default_context(),
            timeout=timeout_s,
            trust_env=not on_this_machine,  # no proxy knows our loopback
            limits=httpx.Limits(max_keepalive_connections=4),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hello(self, hello: Hello) -> None:
        """Say that this builder has just started."""
        self._call("POST", "/hello", hello)

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

    def upload_wheel(self, lease: Lease, path: Path) -> None:
        """Send a wheel; after a cut connection it goes on where it was, a few times."""
        size = path.stat().st_size
        offset = 0
        for delay_s in (*_UPLOAD_RETRY_S, None):
            try:
                while offset < size:
                    offset = self._send_from(lease, path, offset, size)
            except _WrongOffsetError as error:
                offset = error.offset
            except MasterUnreachableError:
                if delay_s is None:
                    raise
                time.sleep(delay_s)
                offset = self._offset_reached(lease, size, offset)
            if offset >= size:
                return
        raise MasterError("the upload of the wheel does not get on", where=f"job {lease.job_id}")

    def report(self, lease: Lease, report: Report) -> ReportAnswer:
        """End the job; the answer says what the master made of the wheel."""
        answer = self._call("POST", f"/jobs/{lease.job_id}/report", report, timeout_s=_CHECK_TIMEOUT_S)
        return self._read(answer, ReportAnswer)

    def request(self, request: BuildRequest) -> RequestAnswer:
        """Ask for a wheel."""
        return self._read(self._call("POST", "/requests", request, timeout_s=_CHECK_TIMEOUT_S), RequestAnswer)

    def status(self) -> Status:
        """The master in a few numbers."""
        return self._read(self._call("GET", "/status"), Status)

    def jobs(self, state: JobState | None = None, limit: int = 50) -> list[JobView]:
        """The newest jobs."""
        params: dict[str, Any] = {"limit": limit} | ({"state": state.value} if state else {})
        return self._read_list(self._call("GET", "/jobs", params=params), JobView)

    def job(self, job_id: int) -> JobView:
        """One job, with its newest build."""
        return self._read(self._call("GET", f"/jobs/{job_id}"), JobView)

    def events(self, job_id: int) -> list[EventView]:
        """What happened to a job."""
        return self._read_list(self._call("GET", f"/jobs/{job_id}/events"), EventView)

    def log(self, job_id: int, offset: int = 0) -> bytes:
        """The log of the newest build from `offset` on, 1 MiB at most; empty where there is no more now."""
        return self._call("GET", f"/jobs/{job_id}/log", params={"offset": offset}).content

    def project(self, name: str) -> ProjectView:
        """What the master has of a project."""
        return self._read(self._call("GET", f"/projects/{name}"), ProjectView)

    def _send_from(self, lease: Lease, path: Path, offset: int, size: int) -> int:
        answer = self._call(
            "PUT",
            f"/jobs/{lease.job_id}/wheel",
            headers={**_token(lease), "Content-Length": str(size - offset)},
            params={"offset": offset, "size": size},
            content=_chunks(path, offset),
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
        except _WrongOffsetError as error:
            return error.offset
        except MasterUnreachableError:
            return otherwise
        return self._read(answer, Upload).offset

    def _call(
        self,
        method: str,
        path: str,
        message: Message | None = None,
        *,
        timeout_s: float | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        url = f"{self.url}/api/v1{path}"
        headers = dict(headers or {})
        if message is not None:
            more["content"] = message.model_dump_json()
            headers["Content-Type"] = "application/json"
        try:
            answer = self._client.request(
                method, url, headers=headers, timeout=timeout_s or self._timeout_s, **more
            )
        except httpx.TransportError as error:
            raise MasterUnreachableError(
                f"the master does not answer: {str(error) or type(error).__name__}",
                where=self.url,
                hint="is it running, and is the URL right?",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MasterError(f"the master cannot be asked: {error}", where=url) from error
        if not answer.is_success:
            raise self._error(answer)
        return answer

    def _error(self, answer: httpx.Response) -> NodeError:
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValidationError:
            return MasterError(
                f"the answer is {answer.status_code} and nothing that a master says",
                where=str(answer.url),
                hint="is this the URL of a master?",
            )
        if problem.code == "lost":
            return LeaseLostError(problem.what, where=problem.where, hint=problem.hint)
        if problem.code in _ON_BOTH_SIDES:
            return _ON_BOTH_SIDES[problem.code](problem.what, where=problem.where, hint=problem.hint)
        if problem.code == "offset" and problem.offset is not None:
            return _WrongOffsetError(problem.what, problem.offset, where=problem.where)
        return MasterError(
            problem.what,
            where=problem.where or self.url,
            hint=problem.hint,
            refused=answer.status_code in _REFUSED,
        )

    def _read(self, answer: httpx.Response, kind: type[M]) -> M:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise _unreadable(answer) from error

    def _read_list(self, answer: httpx.Response, kind: type[M]) -> list[M]:
        adapter: TypeAdapter[list[M]] = TypeAdapter(list[kind])  # type: ignore[valid-type]
        try:
            return adapter.validate_json(answer.content)
        except ValidationError as error:
            raise _unreadable(answer) from error


def _unreadable(answer: httpx.Response) -> MasterError:
    return MasterError(
        "what the master answers cannot be read",
        where=str(answer.url),
        hint="is this the URL of a master, and of the same version?",
    )


def _token(lease: Lease) -> dict[str, str]:
    return {"X-Lease-Token": lease.token}


def _chunks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _is_loopback(url: str) -> bool:
    """True for this machine itself; raises UsageError for a URL that a key must not be sent to."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or not host:
        raise UsageError(f"'{url}' is not the URL of a master", hint="write https://HOST[:PORT]")
    try:
        on_this_machine = ipaddress.ip_address(host).is_loopback
    except ValueError:
        on_this_machine = host == "localhost"
    if parts.scheme == "http" and not on_this_machine:
        raise UsageError(
            "a master on another machine is asked by https only", where=url, hint=f"https://{parts.netloc}"
        )
    return on_this_machine
