# SPDX-License-Identifier: BSD-3-Clause
"""How builders are told to find the master: the line that people copy to the other machine."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from piwheels_node.cli.connection import EVERYWHERE
from piwheels_node.core.settings import Settings

_MDNS = Path("/run/avahi-daemon")


def join_command(listens: str, settings: Settings, token: str) -> str:
    """The command for the machine that shall join."""
    return f"sudo piwheels-node builder join {url_for_others(listens, settings)} {token}"


def url_for_others(listens: str, settings: Settings) -> str:
    """The URL of this master as other machines reach it.

    That is the setting `master.url`; else by the name of this machine, where it listens on all its addresses;
    else the address that it listens on.
    """
    if settings.master.url:
        return settings.master.url.rstrip("/")
    parts = urlsplit(listens)
    if parts.hostname not in EVERYWHERE:
        return listens
    return f"{parts.scheme}://{_name()}" + (f":{parts.port}" if parts.port else "")


def _name() -> str:
    """The name of this machine on its network: with .local where it answers to that (mDNS)."""
    name = socket.gethostname()
    return f"{name}.local" if "." not in name and _MDNS.exists() else name
