# SPDX-License-Identifier: BSD-3-Clause
"""Connections to a master: which certificate is believed, how a request is made, what its errors mean.

Plain HTTP is refused but to this machine itself: a key must not travel in the clear. Where a certificate is
given (PEM), a server is believed exactly if it shows that one (`pinning`).
"""

from __future__ import annotations

import functools
import ipaddress
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from piwheels_node import __version__
from piwheels_node.client.pinning import trusting
from piwheels_node.core.errors import (
    KeyRefusedError,
    LeaseLostError,
    MasterError,
    MasterUnreachableError,
    NodeError,
    NotOnPyPIError,
    PyPIError,
    StorageError,
    SupersededError,
    UsageError,
)
from piwheels_node.core.messages import Message, Problem

TIMEOUT_S = 30.0
CHECK_TIMEOUT_S = 900.0
"""A report is answered after the master has read a wheel of up to 2 GB; a request, after PyPI was asked."""

SESSION_HEADER = "X-Builder-Session"
_REFUSED = frozenset({400, 404, 409, 413, 422, 502})
"""Statuses that are about this one request, not about the key or the master as a whole."""

_MEANINGS: dict[str, type[NodeError]] = {
    "lost": LeaseLostError,
    "superseded": SupersededError,
    "cloned": SupersededError,
    "revoked": KeyRefusedError,
    "unavailable": MasterUnreachableError,
    "too-often": MasterUnreachableError,
    "not-on-pypi": NotOnPyPIError,
    "pypi": PyPIError,
    "storage": StorageError,
}
"""What a code of `Problem` is on this side; a master that cannot work just now is as good as none."""

M = TypeVar("M", bound=Message)


class WrongOffsetError(MasterError):
    """An upload must go on at `offset`."""

    def __init__(self, what: str, offset: int, *, where: str | None = None) -> None:
        super().__init__(what, where=where)
        self.offset = offset


class UploadStoppedError(MasterError):
    """Who uploads was told to stop, and did; the master has a part."""


class Transport:
    """One master, as `MasterClient` describes it: requests with the key, answers as messages."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        session: str | None = None,
        certificate: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.url = url.rstrip("/")
        self.session = session
        on_this_machine = is_loopback(self.url)
        headers = {"User-Agent": f"piwheels-node/{__version__}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if session:
            headers[SESSION_HEADER] = session
        self._timeout_s = timeout_s
        self._looks: dict[str, httpx.Request] = {}
        verify = trusting(certificate) if certificate else ssl.create_default_context()
        limits = httpx.Limits(max_keepalive_connections=4)
        # No proxy knows our loopback.
        self._wire = httpx.HTTPTransport(verify=verify, limits=limits) if on_this_machine else None
        self._client = httpx.Client(
            headers=headers,
            verify=verify,
            timeout=timeout_s,
            trust_env=not on_this_machine,
            limits=limits,
            transport=self._wire,
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
        headers = dict(headers or {})
        if message is not None:
            more["content"] = message.model_dump_json()
            headers["Content-Type"] = "application/json"
        return self._send(
            lambda: self._client.build_request(
                method, self._place(path), headers=headers, timeout=timeout_s or self._timeout_s, **more
            )
        )

    def _look(self, path: str) -> httpx.Response:
        """Ask what is asked every few seconds, at less than half the cost.

        Its request is made once. On this machine, it needs no client that follows redirects, keeps cookies
        and knows proxies.
        """

        def make() -> httpx.Request:
            if path not in self._looks:
                self._looks[path] = self._client.build_request("GET", self._place(path))
            return self._looks[path]

        return self._send(make, past_client=True)

    def _place(self, path: str) -> str:
        return f"{self.url}/api/v1{path}"

    def _send(self, make: Callable[[], httpx.Request], *, past_client: bool = False) -> httpx.Response:
        try:
            request = make()
            if past_client and self._wire:
                answer = self._wire.handle_request(request)
                answer.request = request
                answer.read()
            else:
                answer = self._client.send(request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MasterError(f"the master cannot be asked: {error}", where=self.url) from error
        if not answer.is_success:
            raise self._error(answer)
        return answer

    def _unreachable(self, error: httpx.TransportError) -> MasterUnreachableError:
        if _is_about_certificate(error):
            return MasterUnreachableError(
                f"the master's certificate is not believed: {error}",
                where=self.url,
                hint="nothing was sent; where it has a new certificate, join again with a new token",
            )
        return MasterUnreachableError(
            f"the master does not answer: {str(error) or type(error).__name__}",
            where=self.url,
            hint="is it running, and is the URL right?",
        )

    def _error(self, answer: httpx.Response) -> NodeError:
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValidationError:
            return self._no_problem(answer)
        if problem.code in _MEANINGS:
            return _MEANINGS[problem.code](problem.what, where=problem.where, hint=problem.hint)
        if problem.code == "offset" and problem.offset is not None:
            return WrongOffsetError(problem.what, problem.offset, where=problem.where)
        where = problem.where or self.url
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return KeyRefusedError(problem.what, where=where, hint=problem.hint)
        return MasterError(
            problem.what, where=where, hint=problem.hint, refused=answer.status_code in _REFUSED
        )

    def _no_problem(self, answer: httpx.Response) -> MasterError:
        what = f"the answer is {answer.status_code} and nothing that a master says"
        if answer.status_code in {502, 503, 504}:  # a web server in front says that the master is away
            return MasterUnreachableError(what, where=self.url, hint="try again when the master is back")
        return MasterError(what, where=str(answer.url), hint="is this the URL of a master?")

    def _read(self, answer: httpx.Response, kind: type[M]) -> M:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:
            raise _unreadable(answer) from error

    def _read_list(self, answer: httpx.Response, kind: type[M]) -> list[M]:
        try:
            return _adapter(kind).validate_json(answer.content)
        except ValidationError as error:
            raise _unreadable(answer) from error


@functools.cache
def _adapter(kind: type[M]) -> TypeAdapter[list[M]]:
    """What reads lists of a kind of message; it takes a while to make, and screens ask every few seconds."""
    return TypeAdapter(list[kind])  # type: ignore[valid-type]


def _is_about_certificate(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_loopback(url: str) -> bool:
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


def _unreadable(answer: httpx.Response) -> MasterError:
    return MasterError(
        "what the master answers cannot be read",
        where=str(answer.url),
        hint="is this the URL of a master, and of the same version?",
    )
