# SPDX-License-Identifier: BSD-3-Clause
"""All checks of a machine, and those that must be tried out: the sandbox, the index, its certificate.

    checks      what files tell
    sandbox     bubblewrap, run once as an ordinary user
    index       name, connection, certificate, answer: the first that fails is told, with what to try

This module imports the consumer's own, httpx and `core`.
"""

from __future__ import annotations

import email.utils
import os
import platform
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx

from piwheels_node import __version__
from piwheels_node.consumer import checks
from piwheels_node.consumer.checks import Finding, Patient, Severity
from piwheels_node.core.errors import EXIT_FAILED, EXIT_OK

EXIT_WARNED = 1
_TIMEOUT_S = 10.0
_SERVER_ERROR = 500
_EXPIRES_SOON = timedelta(days=21)


def examine(on: Patient) -> Iterator[Finding]:
    """Everything, one after the other: what is slow comes last."""
    yield from versions()
    for check in checks.ALL:
        yield from check(on)
    yield from sandbox(on)
    yield from index(on)


def exit_code(findings: list[Finding]) -> int:
    """3 where there is a problem, 1 where there is a warning, else 0."""
    worst = max((one.severity for one in findings), default=Severity.OK)
    return {Severity.PROBLEM: EXIT_FAILED, Severity.WARNING: EXIT_WARNED}.get(worst, EXIT_OK)


def versions() -> Iterator[Finding]:
    """What runs here."""
    what = f"piwheels-node {__version__}, Python {platform.python_version()}, {platform.machine()}"
    yield Finding("versions", Severity.OK, f"{what}, Linux {platform.release()}")


def sandbox(on: Patient) -> Iterator[Finding]:
    """Whether an empty sandbox starts, as package code's account where we are root."""
    bad = Severity.PROBLEM if on.builds else Severity.NOTE
    program = shutil.which("bwrap")
    if not program:
        what = "bubblewrap is not installed, so nothing can be built here"
        yield Finding("sandbox", bad, what, hint="sudo apt install bubblewrap")
        return
    words = [program, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--", "true"]
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    try:
        ended = subprocess.run(
            [*(as_nobody if os.geteuid() == 0 else []), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("sandbox", bad, f"a sandbox cannot be tried: {error}", program)
        return
    if ended.returncode:
        said = ended.stderr.strip() or f"exit code {ended.returncode}"
        hint = "see the finding about namespaces; a container must allow them itself"
        yield Finding("sandbox", bad, f"a sandbox does not start: {said}", program, hint)
    else:
        version = _output([program, "--version"])
        yield Finding("sandbox", Severity.OK, f"a sandbox starts ({version})")


def index(on: Patient) -> Iterator[Finding]:
    """Whether the index answers."""
    host = urlsplit(on.url).hostname or ""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        hint = "is the network up? For a name in .local: sudo apt install libnss-mdns"
        yield Finding("name", Severity.PROBLEM, f"the name of the index is not found: {error}", host, hint)
        return
    yield Finding("name", Severity.OK, f"the name {host} is found")
    seen: list[datetime] = []
    try:
        answer = _ask(on.url, seen)
    except httpx.HTTPError as error:
        yield _no_answer(on, error)
        return
    yield from _certificate(on, seen)
    if answer.status_code >= _SERVER_ERROR:
        what = f"the index answers with {answer.status_code}: pip loses 8 s with each project, uv stops"
        yield Finding(
            "index", Severity.PROBLEM, what, on.url, "sudo piwheels-node pip disable, until it is well"
        )
    elif answer.status_code not in {httpx.codes.OK, httpx.codes.NOT_FOUND}:
        yield Finding("index", Severity.WARNING, f"the index answers with {answer.status_code}", on.url)
    else:
        yield Finding("index", Severity.OK, f"{on.url} answers")
    if said := answer.headers.get("date"):
        parsed = email.utils.parsedate_to_datetime(said) if email.utils.parsedate(said) else None
        if parsed is not None:
            yield from checks.skew(on, parsed.astimezone(UTC))


def _ask(url: str, expires: list[datetime]) -> httpx.Response:
    """The page of a project that every index knows or says 404 to; notes when the certificate ends."""
    with (
        httpx.Client(timeout=_TIMEOUT_S, verify=ssl.create_default_context()) as client,
        client.stream("GET", f"{url.rstrip('/')}/pip/") as answer,
    ):
        stream = answer.extensions.get("network_stream")
        tls = stream.get_extra_info("ssl_object") if stream else None
        certificate = tls.getpeercert() if tls else None
        if certificate and "notAfter" in certificate:
            expires.append(
                datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
            )
        return answer


def _no_answer(on: Patient, error: httpx.HTTPError) -> Finding:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        what = f"the index does not answer: {error}"
        return Finding("index", Severity.PROBLEM, what, on.url, "is the master running, and the network up?")
    hint = "is the clock right? A master's own certificate: piwheels-node pip enable --certificate FILE"
    return Finding("certificate", Severity.PROBLEM, f"the certificate is not believed: {cause}", on.url, hint)


def _certificate(on: Patient, expires: list[datetime]) -> Iterator[Finding]:
    for until in expires:
        left = until - on.now
        what = f"the certificate of the index ends on {until:%Y-%m-%d}"
        yield Finding("certificate", Severity.WARNING if left < _EXPIRES_SOON else Severity.OK, what, on.url)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return "no version"
    return done.stdout.strip()
