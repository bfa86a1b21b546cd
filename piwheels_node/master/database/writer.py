# SPDX-License-Identifier: BSD-3-Clause
"""The one thread of this process that writes: group commit.

Pieces of work wait in line. The writer takes all that wait (up to `BATCH`), begins one transaction, runs
them, writes what they have to say besides (`session.Tally`), commits once, and only then hands out the
results. So many small writes share one fsync, and whoever has a result knows that it is on the disk.

    a piece raises              what its session did is in a savepoint, which is undone; the others stay
    ... after a `fast` change   that has no savepoint: the batch is undone, and its pieces run one by one
    the transaction fails       likewise; on a full disk all of them fail
    another master was first    a deadlock, or a row that both add: the batch runs again, and finds it
    the connection is lost      the batch runs again, once, where it is certain that nothing was committed;
                                where the answer to a COMMIT was lost nothing is: all get UnavailableError

Thus a piece may run twice, and has no effects but through its session. What it returns is its own: it gets
a fresh session wherever an earlier piece has used SQLAlchemy's objects. This module knows SQLAlchemy and
nothing of ours but `core.errors` and its neighbours here.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from piwheels_node.core.errors import NodeError, StorageError, UnavailableError
from piwheels_node.master.database.backend import Backend
from piwheels_node.master.database.pieces import Piece, deliver
from piwheels_node.master.database.session import Shortcut, Tally, WorkSession

BATCH = 128
"""Most pieces in one transaction: bounds how long the first of them waits for the last."""

_ATTEMPTS = 5
_PAUSE_S = 0.02
_log = logging.getLogger(__name__)


class _SpoiledError(Exception):
    """A piece took the whole transaction with it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _AllFailError(Exception):
    """No piece of the batch can succeed now."""

    def __init__(self, error: NodeError) -> None:
        super().__init__(str(error))
        self.error = error


class Writer:
    """Runs work on the only writing connection of `engine`, in a thread of its own.

    `announced` is called from that thread with the topics of each commit, and how often each was announced.
    """

    def __init__(
        self,
        engine: Engine,
        backend: Backend,
        where: str,
        origin: str,
        announced: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._engine = engine
        self._backend = backend
        self._where = where
        self._origin = origin
        self._announced = announced
        self._connection: Connection | None = None
        self._waiting: deque[Piece] = deque()
        self._running: list[Piece] = []
        self._changed = threading.Condition()
        self._ids: dict[str, list[int]] = {}
        self._is_idle = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    def put(self, piece: Piece) -> None:
        """Put work in line. After `close`, or where the thread has died, it gets a StorageError."""
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError("work for the database must not wait for other work: pass the session on")
        with self._changed:
            if not self._closing:
                self._waiting.append(piece)
                if self._is_idle:
                    self._is_idle = False
                    self._changed.notify()
                return
        if piece.begin():
            piece.error = StorageError("the database is closed")
            piece.deliver()

    def close(self) -> None:
        """Finish what waits in line, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take():
                self._serve(self._running)
        finally:
            self._disconnect(in_order=True)
            # Reached with work in hand only where the thread dies; whoever waits must not wait for ever.
            self._fail_the_rest()

    def _take(self) -> bool:
        with self._changed:
            self._running = []
            while not self._waiting and not self._closing:
                self._is_idle = True
                self._changed.wait()
            while self._waiting and len(self._running) < BATCH:
                piece = self._waiting.popleft()
                if piece.begin():
                    self._running.append(piece)
            return bool(self._running or self._waiting or not self._closing)

    def _serve(self, pieces: list[Piece]) -> None:
        """Run pieces in one transaction, or in one each, and hand out what came of them."""
        if not pieces:
            return
        topics: Mapping[str, int] = {}
        try:
            topics = self._commit(pieces)
        except _AllFailError as failure:
            for piece in pieces:
                piece.error = failure.error
        except Exception as error:  # noqa: BLE001 - thread boundary: the caller gets it
            if len(pieces) > 1:
                for piece in pieces:
                    self._serve([piece])
                return
            pieces[0].error = error
        if topics:
            self._tell(topics)
        for piece in pieces:
            if piece.error is not None:
                piece.error = self._translated(piece.error)
        deliver(pieces)

    def _commit(self, pieces: list[Piece]) -> Mapping[str, int]:
        """Run pieces in one transaction, again where that helps; gives the topics to announce."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(pieces)
            except (DBAPIError, _SpoiledError) as error:
                cause = error.error if isinstance(error, _SpoiledError) else error
            if _is_gone(cause):
                self._disconnect()
                again = attempt == 1
            else:
                again = attempt < _ATTEMPTS and self._backend.should_run_again(cause)
            if not again:
                meaning = self._backend.meaning_of(cause, self._where)
                raise cause if meaning is None else _AllFailError(meaning) from cause
            if not _is_gone(cause):
                time.sleep(random.uniform(0.5, 1.0) * attempt * _PAUSE_S)  # noqa: S311 - two masters shall part

    def _attempt(self, pieces: list[Piece]) -> Mapping[str, int]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._engine.connect()
        tally = Tally()
        transaction = connection.begin()
        shortcut = Shortcut(connection, self._backend, self._ids)
        try:
            session: WorkSession | None = None
            for piece in pieces:
                if session is None:
                    session = WorkSession(connection, shortcut)
                session = self._run_piece(session, piece, tally)
            tally.write(shortcut)
            if tally.topics:
                self._backend.announce(shortcut.run_many, self._origin, tally.topics)
            shortcut.settle()  # so that only the connection can fail from here on
            if shortcut.is_aborted:  # and nobody was told: COMMIT would undo all, and not say so
                what, hint = "the database has given up a transaction", "its log may say why"
                raise _SpoiledError(StorageError(what, where=self._where, hint=hint))
        except BaseException:
            shortcut.close()
            with contextlib.suppress(SQLAlchemyError):  # the connection may be gone
                transaction.rollback()
            raise
        try:
            transaction.commit()
        except DBAPIError as error:
            self._disconnect()  # else SQLite's transaction would stay open
            if not _is_gone(error):
                raise
            raise _AllFailError(
                UnavailableError(
                    "the database went away while it saved this: it may have happened, or not",
                    where=self._where,
                    hint="look before you try again",
                )
            ) from error
        finally:
            shortcut.close()
        return tally.topics

    def _run_piece(self, session: WorkSession, piece: Piece, tally: Tally) -> WorkSession | None:
        """Run a piece, and add what it has to say; gives its session back where the next may have it."""
        piece.error = None
        try:
            piece.result = piece.work(session)
            if session.failure is not None:
                raise session.failure
            is_fresh = not session.in_transaction()
            if not is_fresh:
                session.commit()
        except Exception as error:
            piece.error = error = session.failure or error
            if session.has_traces or _is_gone(error) or self._backend.should_run_again(error):
                raise _SpoiledError(error) from error
            is_fresh = not session.in_transaction()
            try:
                session.rollback()
            except DBAPIError:
                # SQLite ends the whole transaction on a full disk and on I/O errors: the savepoint is gone.
                raise _SpoiledError(error) from error
        else:
            tally.add(session.tally)
        if is_fresh:
            session.renew()
            return session
        session.close()
        return None

    def _disconnect(self, *, in_order: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                if not (in_order or connection.invalidated):
                    connection.invalidate()
                connection.close()

    def _translated(self, error: Exception) -> Exception:
        meaning = self._backend.meaning_of(error, self._where)
        if meaning is None:
            return error
        meaning.__cause__ = error
        return meaning

    def _tell(self, topics: Mapping[str, int]) -> None:
        try:
            self._announced(topics)
        except Exception:  # noqa: BLE001 - thread boundary: what was committed stays so, whoever hears of it
            _log.exception("nobody could be told of %s", dict(topics))

    def _fail_the_rest(self) -> None:
        with self._changed:
            self._closing = True
            rest = [piece for piece in self._running if not piece.is_delivered]
            rest += [piece for piece in self._waiting if piece.begin()]
            self._waiting.clear()
        if rest:
            _log.critical("the database writer died with %d pieces of work in hand", len(rest), exc_info=True)
        for piece in rest:
            piece.error = StorageError("the database writer died", hint="see the log")
        deliver(rest)


def _is_gone(error: Exception) -> bool:
    """True where the connection is lost, and with it the transaction."""
    return isinstance(error, DBAPIError) and error.connection_invalidated
