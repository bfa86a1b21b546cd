# SPDX-License-Identifier: BSD-3-Clause
"""Errors as HTTP tells them: a status, and a `Problem` with what, where and what to try.

Every error of `core.errors` has a status here (a test walks the tree); what is not expected at all is a
500 whose traceback is in the master's log.
"""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from piwheels_node.core.errors import (
    LeaseLostError,
    NodeError,
    NotOnPyPIError,
    PyPIError,
    SettingsError,
    StorageError,
    UsageError,
    WheelError,
)
from piwheels_node.core.messages import Problem
from piwheels_node.master.store import WrongOffsetError

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
    """A part of an upload, or the upload itself, is larger than it may be."""


STATUS: dict[type[NodeError], int] = {
    UsageError: 400,
    SettingsError: 400,
    NoKeyError: 401,
    WrongKeyError: 403,
    NotFoundError: 404,
    NotOnPyPIError: 404,
    LeaseLostError: 409,
    WrongOffsetError: 409,
    TooLargeError: 413,
    WheelError: 422,
    PyPIError: 502,
    ClosingError: 503,
    StorageError: 507,
    NodeError: 400,
}
"""The status of an error is that of its nearest base class here."""


def install(api: FastAPI) -> None:
    """Make the API tell all errors as Problems."""
    api.add_exception_handler(NodeError, _node_error)
    api.add_exception_handler(RequestValidationError, _not_valid)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_exception_handler(Exception, _unexpected)


def status_of(error: NodeError) -> int:
    """The HTTP status for an error of ours."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _node_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NodeError)  # noqa: S101 - it is registered for this type
    problem = Problem(what=error.what, where=error.where, hint=error.hint)
    if isinstance(error, LeaseLostError):
        problem = problem.model_copy(update={"code": "lost"})
    elif isinstance(error, WrongOffsetError):
        problem = problem.model_copy(update={"code": "offset", "offset": error.offset})
    elif isinstance(error, NotOnPyPIError):
        problem = problem.model_copy(update={"code": "not-on-pypi"})
    elif isinstance(error, PyPIError):
        problem = problem.model_copy(update={"code": "pypi"})
    elif isinstance(error, StorageError):
        problem = problem.model_copy(update={"code": "storage"})
        _log.error("%s %s: %s", request.method, request.url.path, error)
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, NoKeyError) else None
    return _answer(status_of(error), problem, headers)


def _not_valid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for this type
    first = error.errors()[0]
    where = ".".join(str(part) for part in first.get("loc", ()))
    return _answer(422, Problem(what=f"the request cannot be read: {first.get('msg')}", where=where))


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for this type
    return _answer(error.status_code, Problem(what=str(error.detail), where=request.url.path), error.headers)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The boundary of a request: the next one may well succeed.
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(500, Problem(what="the master failed; its log says why", where=request.url.path))


def _answer(status: int, problem: Problem, headers: object = None) -> JSONResponse:
    known = dict(headers) if isinstance(headers, dict) else None
    return JSONResponse(problem.model_dump(mode="json"), status_code=status, headers=known)
