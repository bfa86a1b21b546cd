# SPDX-License-Identifier: BSD-3-Clause
"""What the rest of the master needs of a kind of database, and which kind a URL means.

`sqlite` and `postgres` are the two modules that have it; nothing else knows what is true of one of them
only. Everything else is SQLAlchemy's, and the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Protocol, cast

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from piwheels_node.core.errors import NodeError, SettingsError
from piwheels_node.master.database.statements import Statement


class Listener(Protocol):
    """Hears what other processes announce, until it is closed."""

    def close(self) -> None:
        """Hear nothing any more."""


class Backend(Protocol):
    """What is different between the kinds of database."""

    def make_engines(self, url: URL) -> tuple[Engine, Engine]:
        """The engine for writing, by one thread, and the one for reading, by many.

        Raises NodeError where that cannot be. A session of the reading engine sees one state.
        """

    def where(self, url: URL) -> str:
        """What a person calls this database; never with the password."""

    def meaning_of(self, error: BaseException, where: str) -> NodeError | None:
        """What an error of the driver means for the operator; None where it is about the statement."""

    def should_run_again(self, error: BaseException) -> bool:
        """True where a transaction failed for another one's sake, and succeeds when it is run again."""

    def begin_migration(self, connection: Connection) -> None:
        """Wait until no other process migrates this database, for the rest of the transaction."""

    def announce(
        self,
        run_many: Callable[[Statement, Sequence[dict[str, Any]]], None],
        origin: str,
        topics: Mapping[str, int],
    ) -> None:
        """Tell other processes, once the transaction is committed. `origin` names this one."""

    def listen(self, url: URL, origin: str, heard: Callable[[str], None]) -> Listener | None:
        """Call `heard` from now on with what others than `origin` announce; None where there are none."""

    def ids_ahead(self, table: str) -> Statement | None:
        """Gives some ids that a table will use, where asking with each row costs; None where it does not."""

    def pipeline(self, driver_connection: Any) -> AbstractContextManager[Any]:
        """A context in which the driver does not wait for answers that nobody reads."""

    def is_aborted(self, driver_connection: Any) -> bool:
        """True where nothing of the transaction can be committed any more, whatever COMMIT says."""

    def set_autocommit(self, driver_connection: Any) -> None:
        """Make a connection of the reading engine begin no transactions."""


def backend_of(url: str) -> tuple[URL, Backend]:
    """The URL in SQLAlchemy's form, and the module for its kind; raises SettingsError for any other kind."""
    hint = "sqlite:////path/to/file, or postgresql://USER@HOST/NAME"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise SettingsError("this is no URL of a database", where="master.database", hint=hint) from error
    kind = parsed.get_backend_name()
    if kind not in {"sqlite", "postgresql", "postgres"}:
        raise SettingsError(f"{kind} databases cannot be used", where="master.database", hint=hint)
    return parsed, cast("Backend", _module("sqlite" if kind == "sqlite" else "postgres"))


def _module(name: str) -> ModuleType:
    """Imported only where it is used: each knows its driver."""
    if name == "sqlite":
        from piwheels_node.master.database import sqlite  # noqa: PLC0415 - see above

        return sqlite
    from piwheels_node.master.database import postgres  # noqa: PLC0415 - see above

    return postgres
