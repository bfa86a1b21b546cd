# SPDX-License-Identifier: BSD-3-Clause
"""Where things are in a data directory, as paths below it.

    certificate.pem     the master's own certificate, for everybody to read
    keys/               keys, for the owner only
    endpoint.json       where the master listens, while it runs
    membership/         which master this machine's builder has joined, and its key there
    builder/            what the builder works with
    builder/builder.json    how the builder stands, for other programs, where systemd gives no place in /run
    contents/           which Debian package has which file, by release and architecture

This module imports only the standard library.
"""

from __future__ import annotations

from pathlib import Path

CERTIFICATE = Path("certificate.pem")
CERTIFICATE_KEY = Path("keys", "certificate.key")
OPERATOR_KEY = Path("keys", "operator.key")
BUILDER_KEY = Path("keys", "builder.key")
"""The key of the builder of `standalone`."""

ENDPOINT = Path("endpoint.json")
MEMBERSHIP = Path("membership")
BUILDER = Path("builder")
CONTENTS = Path("contents")
WINDOW = BUILDER / "builder.json"
WINDOW_IN_RUN = Path("/run/piwheels-builder/builder.json")
"""The same, in the directory that systemd gives the service (`RuntimeDirectory=`)."""
