# SPDX-License-Identifier: BSD-3-Clause
"""The web server of the master: its socket, HTTP, and HTTPS.

uvloop and httptools are named here on purpose: without them uvicorn is 5 to 8 times slower (measured).
Nothing that a proxy says of a client (`X-Forwarded-For` and the like) is believed, because nothing in the
master depends on it. This module knows nothing of the application.
"""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import uvicorn

from piwheels_node.core.errors import NodeError

GRACE_S = 3
"""What is being answered or uploaded when the master is stopped gets so long to end."""

_KEEP_ALIVE_S = 75
"""Longer than a builder is silent, so that it need not connect for each heartbeat."""

_LAST_PORT = 65535


def configure(app: Any, tls: tuple[Path, Path] | None) -> uvicorn.Config:
    """The web server for an ASGI application; `tls` are the files of certificate and key.

    Raises NodeError where these two cannot be used.
    """
    config = uvicorn.Config(
        app,
        loop="none",  # we make the loop ourselves, without touching the policy of the process
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )
    where = " and ".join(map(str, tls or ()))
    try:
        config.load()
    except ssl.SSLError as error:
        raise NodeError(
            f"the certificate and its key cannot be used: {error.reason}",
            where=where,
            hint="both must be PEM, of each other, and the key without a password",
        ) from error
    except OSError as error:
        raise NodeError(
            f"the certificate cannot be read: {error.strerror}",
            where=str(error.filename or where),
            hint="check master.certificate and master.certificate_key, and who may read the files",
        ) from error
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """The URL of what listens there."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address; raises NodeError where that cannot be."""
    where = f"{host}:{port}"
    hint = (
        "set master.port to another port, or to 0 for any free one; master.host to an address of this machine"
    )
    if port > _LAST_PORT:  # the C library would wrap it round
        raise NodeError(f"a port is a number up to {_LAST_PORT}", where=where, hint=hint)
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        in_use = error.errno == errno.EADDRINUSE
        what = "another program listens there" if in_use else f"cannot listen: {error.strerror}"
        raise NodeError(what, where=where, hint=hint) from error
    return listener
