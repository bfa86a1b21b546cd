# SPDX-License-Identifier: BSD-3-Clause
"""Errors as HTTP tells them: a status, and a `Problem` with what, where and what to try.

Every error of `core.errors` has a status here (a test walks the tree); what is not expected at all is a
500 whose traceback is in the master's log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from piwheels_node.core.errors import (
    KeyRefusedError,
    LeaseLostError,
    NodeError,
    NotOnPyPIError,
    PyPIError,
    SettingsError,
    StorageError,
    SupersededError,
    UnavailableError,
    UsageError,
    WheelError,
)
from piwheels_node.core.messages import Problem
from piwheels_node.master.builders.control import UnknownBuilderError
from piwheels_node.master.builders.enrolment import BadTokenError, JoinRefusedError
from piwheels_node.master.wheels.store import WrongOffsetError

_log = logging.getLogger(__name__)


class NoKeyError(NodeError):
    """The request shows no key that the master knows."""


class WrongKeyError(NodeError):
    """The key is good, but not for this."""


class NotFoundError(NodeError):
    """There is no such job or project."""


class ClosingError(NodeError):
    """The master is being stopped, and this would have taken a while."""


class TooLargeError(NodeError):
    """A message, a part of an upload, or the upload itself, is larger than it may be."""


class MalformedError(NodeError):
    """A message cannot be read, or does not arrive."""


class TooOftenError(NodeError):
    """A builder asks more often than it may; the next request may come in `wait_s` seconds."""

    def __init__(self, what: str, *, wait_s: int, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.wait_s = wait_s


class ClonedError(NodeError):
    """Another machine than the one that joined shows this builder's key."""


STATUS: dict[type[NodeError], int] = {
    UsageError: 400,
    SettingsError: 400,
    MalformedError: 400,
    NoKeyError: 401,
    WrongKeyError: 403,
    KeyRefusedError: 403,
    ClonedError: 403,
    BadTokenError: 403,
    NotFoundError: 404,
    NotOnPyPIError: 404,
    UnknownBuilderError: 404,
    LeaseLostError: 409,
    SupersededError: 409,
    JoinRefusedError: 409,
    WrongOffsetError: 409,
    TooLargeError: 413,
    WheelError: 422,
    TooOftenError: 429,
    PyPIError: 502,
    ClosingError: 503,
    UnavailableError: 503,
    StorageError: 507,
    NodeError: 400,
}
"""The status of an error is that of its nearest base class here."""


_CODES: dict[type[NodeError], str] = {
    LeaseLostError: "lost",
    SupersededError: "superseded",
    ClonedError: "cloned",
    KeyRefusedError: "revoked",
    WrongOffsetError: "offset",
    NotOnPyPIError: "not-on-pypi",
    PyPIError: "pypi",
    StorageError: "storage",
    UnavailableError: "unavailable",
    TooOftenError: "too-often",
}
"""What a program tells errors apart by (`Problem.code`)."""

_COUNTED: dict[type[NodeError], str] = {
    LeaseLostError: "lost",
    SupersededError: "superseded",
    ClonedError: "cloned",
    KeyRefusedError: "revoked",
    NoKeyError: "no-key",
    WrongKeyError: "wrong-key",
    TooLargeError: "too-large",
}
"""Refusals that are counted, by what was wrong."""

_AGAIN_IN_S = 5


def install(api: FastAPI) -> None:
    """Make the API tell all errors as Problems."""
    api.add_exception_handler(NodeError, _node_error)
    api.add_exception_handler(RequestValidationError, _not_valid)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(Exception, _unexpected)


def status_of(error: NodeError) -> int:
    """The HTTP status for an error of ours."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def answer_of(error: NodeError) -> JSONResponse:
    """An error of ours as HTTP tells it."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), "error")
    offset = error.offset if isinstance(error, WrongOffsetError) else None
    headers = {}
    if isinstance(error, NoKeyError):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, TooOftenError | UnavailableError):
        headers["Retry-After"] = str(error.wait_s if isinstance(error, TooOftenError) else _AGAIN_IN_S)
    problem = Problem(what=error.what, where=error.where, hint=error.hint, code=code, offset=offset)
    return _answer(status_of(error), problem, headers)


async def _node_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NodeError)  # noqa: S101 - it is registered for this type
    if isinstance(error, StorageError):
        _log.error("%s %s: %s", request.method, request.url.path, error)
    counted = next((_COUNTED[kind] for kind in type(error).__mro__ if kind in _COUNTED), None)
    if counted is not None:
        here, caller = request.app.state.context, getattr(request.state, "caller", None)
        who = "nobody" if caller is None else f"builder {caller.name}" if caller.name else "an operator"
        line = f"{who}, {request.method} {request.url.path!r}: {error.what}"
        here.refusals.note(here.database, counted, line)
    return answer_of(error)


async def _not_valid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for this type
    first = error.errors()[0]
    where = ".".join(str(part) for part in first.get("loc", ()))
    return _answer(422, Problem(what=f"the request cannot be read: {first.get('msg')}", where=where))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this type
    return _answer(error.status_code, Problem(what=str(error.detail), where=request.url.path), error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The boundary of a request: the next one may well succeed.
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(500, Problem(what="the master failed; its log says why", where=request.url.path))


def _answer(status: int, problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(problem.model_dump(mode="json"), status_code=status, headers=headers)
