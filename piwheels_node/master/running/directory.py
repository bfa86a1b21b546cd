# SPDX-License-Identifier: BSD-3-Clause
"""The data directory of a master: who serves it, and whose it is.

    lock        locked by everybody who serves the directory: alone where the database is a file in it,
                together where masters share a PostgreSQL
    running     locked by every master that runs, so that the first of them knows that it is
    instance    the number of the database that this directory belongs to

A wheel store without its database, or with another one, would lose wheels or publish other bytes under
their names; so the two know each other by a number that is drawn when the database is made. This module
knows no tables, and imports only `core`.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from piwheels_node.core.errors import NodeError, StorageError
from piwheels_node.core.settings import Settings

DATABASE = "database.sqlite"
LOCK = "lock"
RUNNING = "running"
INSTANCE = "instance"


def sqlite_url(data: Path) -> str:
    """The URL of the database that lies in a data directory."""
    return f"sqlite:///{data.absolute() / DATABASE}"


def database_url(data: Path, settings: Settings) -> str:
    """The URL of the database that a master works with."""
    return settings.master.database or sqlite_url(data)


def is_shared(settings: Settings) -> bool:
    """True where several masters may serve the directory: their database is a server."""
    return bool(settings.master.database) and not settings.master.database.startswith("sqlite")


def hold(data: Path, *, shared: bool) -> IO[str]:
    """Take the directory, alone or `shared` with others who share it, for as long as the file is open.

    Makes it where it is missing. Raises NodeError where others have it.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / LOCK).open("a+")
    except OSError as error:
        raise NodeError(
            f"the data directory cannot be used: {error.strerror}",
            where=str(data),
            hint="name one that you may write to",
        ) from error
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        who = f"process {holder} serves" if holder else "masters that share a database serve"
        raise NodeError(
            f"{who} this directory already",
            where=str(data),
            hint="ask that one, end it, or name another directory",
        ) from error
    file.truncate(0)
    if not shared:
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file


def attend(data: Path) -> tuple[IO[str], bool]:
    """Be one of the masters that run here, for as long as the file is open; and whether there was none."""
    file = (data / RUNNING).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_first = True
    except OSError:
        is_first = False
    fcntl.flock(file, fcntl.LOCK_SH)  # waits for another one that has just found that it is the first
    return file, is_first


def belong(data: Path, instance: str, *, has_wheels: bool) -> None:
    """Note that the directory is that of the database `instance`, or see that it is.

    Raises StorageError where it belongs to another one, or where the database `has_wheels` that cannot lie
    here, because the directory belongs to none.
    """
    path = data / INSTANCE
    try:
        found = path.read_text().strip() if path.exists() else ""
        if not found and not has_wheels:
            beside = path.with_name(f".{INSTANCE}.{os.getpid()}")
            beside.write_text(f"{instance}\n")
            beside.replace(path)
            return
    except OSError as error:
        raise StorageError(f"the data directory cannot be used: {error.strerror}", where=str(path)) from error
    if found == instance:
        return
    raise StorageError(
        "this data directory belongs to another database"
        if found
        else "the database has wheels, and they are not in this data directory",
        where=str(path),
        hint=f"name the directory of the other masters; where this is it, write {instance} to this file",
    )
