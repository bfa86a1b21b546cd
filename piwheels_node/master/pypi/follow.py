# SPDX-License-Identifier: BSD-3-Clause
"""Following PyPI in turns, by one of several masters.

    lead     one process follows at a time: a lease in the database, which ends by itself
    listen   what changed is noted (`feeds`, `notes`); the serial moves with it
    read     what was noted is asked about, stored, carried over, and planned (`update`)
    think    projects of which a job has ended, or a rule has changed, are planned again
    walk     a target that is new: all projects are planned for it (`walk`)

Each turn is short, so that a stop is heard soon; nothing of it need be finished, for all of it is in the
database. `turn` blocks; it knows no loop and no thread but those that ask PyPI.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from piwheels_node.core.errors import NodeError, PyPIError, SettingsError
from piwheels_node.core.settings import PypiSettings
from piwheels_node.master.database.engine import Database
from piwheels_node.master.database.models import Flag, PypiNote, PypiProject
from piwheels_node.master.jobs.plan import Scope
from piwheels_node.master.jobs.planning import Farm, plan_project
from piwheels_node.master.pypi import notes, update
from piwheels_node.master.pypi.feeds import Changelog, Feed, Heard, List, Watch
from piwheels_node.master.pypi.index import PyPI
from piwheels_node.master.pypi.walk import Walker, outlooks

LEADER = "pypi.leader"
"""Flag: which process follows, and until when."""

_LEASE_S = 60.0
_EVERY_S = {"changelog": 20.0, "list": 1800.0, "watch": 300.0}
_WITHOUT_CHANGELOG_S = 1800.0
_AT_ONCE = 128
_STORED_AT_ONCE = 32
_READ_S = 5.0
"""So long a turn asks about projects, but for the answers that are under way then."""

_GATHER_S = 0.1
"""So long answers are gathered before they are stored."""

_LONGEST_REST_S = 600.0
_IDLE_S = 1.0
_WENT_BACK = 100_000
"""A list so many serials older than what was read is that of a PyPI that was set back, not of a cache."""

_log = logging.getLogger(__name__)


def make_feed(settings: PypiSettings, pypi: PyPI) -> Feed | None:
    """The feed that the settings want; None for `off`. Raises SettingsError."""
    match settings.follow:
        case "off":
            return None
        case "changelog":
            return Changelog(pypi, settings.changelog_url)
        case "list":
            return List(pypi)
        case "watch":
            watch = _watched(settings)
            if watch.names:
                return watch
            raise SettingsError("nothing is watched", where="pypi.watch", hint='watch = "spidev RPi.GPIO"')
    raise SettingsError(
        f"PyPI cannot be followed by '{settings.follow}'",
        where="pypi.follow",
        hint="watch, list or changelog",
    )


def scope_of(settings: PypiSettings) -> Scope:
    """What is built by itself; raises SettingsError."""
    try:
        return Scope(settings.scope)
    except ValueError as error:
        hint = ", ".join(scope.value for scope in Scope)
        raise SettingsError(
            f"no scope is called '{settings.scope}'", where="pypi.scope", hint=hint
        ) from error


def why_not_planned(settings: PypiSettings, name: str) -> str | None:
    """Why a master with these settings builds nothing of a project by itself; None where it does."""
    if settings.follow == "off":
        return "PyPI is not followed here (pypi.follow is off), so it is built when somebody asks for it"
    if settings.follow == "watch" and name not in _watched(settings).names:
        return "it is not watched (pypi.watch), so it is built when somebody asks for it"
    return None


def _watched(settings: PypiSettings) -> Watch:
    return Watch(settings.watch.replace(",", " ").split())


class Follower:
    """One process that follows, or waits to. Call `turn` again and again, then `close`."""

    def __init__(  # noqa: PLR0917 - what it works with
        self,
        database: Database,
        pypi: PyPI,
        feed: Feed,
        settings: PypiSettings,
        now: Callable[[], datetime],
        stop: threading.Event | None = None,
    ) -> None:
        self._database = database
        self._pypi = pypi
        self._feed = feed
        self._list: Feed = List(pypi) if isinstance(feed, Changelog) else feed
        self._settings = settings
        self._scope = scope_of(settings)
        self._now = now
        self._stop = stop or threading.Event()
        self._me = secrets.token_hex(8)
        self._leads_until = 0.0
        self._ask_at = 0.0
        self._failures = 0
        self._walker = Walker(database, settings, self._scope, now, self._plans)
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix="pypi")

    def close(self) -> None:
        """Let another process follow at once; raises nothing for a database that is away."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._leads_until:
            try:
                self._database.write(self._resign)
            except NodeError as error:
                _log.info("another master follows PyPI in a minute: %s", error.what)

    def turn(self) -> float:
        """One round; gives for how many seconds there is nothing to do. Raises NodeError: try again later."""
        if not self._lead():
            return _LEASE_S / 6
        worked = False
        for step in (self._listen, self._read, self._think, self._walker.step):
            if self._stop.is_set():  # the database may be closed by now
                return 0.0
            worked |= step()
        return 0.0 if worked else _IDLE_S

    # --- one of several -----------------------------------------------------------------------------------

    def _lead(self) -> bool:
        if time.monotonic() < self._leads_until - _LEASE_S / 2:
            return True
        begun = time.monotonic()
        leads = self._database.write(self._take_lead)
        self._leads_until = begun + _LEASE_S if leads else 0.0
        return leads

    def _take_lead(self, session: Session) -> bool:
        now = self._now()
        row = session.get(Flag, LEADER, with_for_update=True)
        mine = {"by": self._me, "until": (now + timedelta(seconds=_LEASE_S)).isoformat()}
        if row is None:
            session.add(Flag(name=LEADER, value=mine, changed_at=now))
            return True
        if row.value["by"] != self._me and datetime.fromisoformat(row.value["until"]) > now:
            return False
        row.value, row.changed_at = mine, now
        return True

    def _resign(self, session: Session) -> None:
        row = session.get(Flag, LEADER)
        if row is not None and row.value["by"] == self._me:
            session.delete(row)

    # --- hearing ------------------------------------------------------------------------------------------

    def _listen(self) -> bool:
        """Ask the feed where it is time; True where there is more at once."""
        if self._pypi.rest_s():
            return False
        with self._database.read() as session:
            position = notes.position(session)
        list_at = position["list_at"]
        is_asked = list_at is None and not self._failures  # `master sync`
        if time.monotonic() < self._ask_at and not is_asked:
            return False
        list_s = self._settings.list_every_s if not self._failures else _WITHOUT_CHANGELOG_S
        is_list_due = (
            self._feed is self._list
            or list_at is None
            or self._now() - datetime.fromisoformat(list_at) > timedelta(seconds=list_s)
        )
        try:
            if is_list_due:
                self._hear_all(self._list, position["serial"])
            is_more = False
            if self._feed is not self._list:
                is_more = self._hear(self._feed)
        except PyPIError as error:
            self._failures += 1
            rest_s = max(self._pypi.rest_s(), min(2.0**self._failures, _LONGEST_REST_S))
            self._ask_at = time.monotonic() + rest_s
            _log.warning("PyPI's changes are not heard, and asked for again in %.0f s: %s", rest_s, error)
            return False
        self._failures = 0
        every_s = self._settings.every_s or _EVERY_S[self._settings.follow]
        self._ask_at = time.monotonic() + (0.0 if is_more else every_s)
        return is_more

    def _hear(self, feed: Feed) -> bool:
        with self._database.read() as session:  # the list may just have moved it
            serial = notes.position(session)["serial"]
        is_more = False
        for heard in feed.listen(serial):
            try:
                self._note(heard, None if heard.serial is None else max(heard.serial, serial or 0))
            except NodeError:
                if isinstance(feed, Changelog):
                    feed.forget()
                raise
            is_more |= heard.is_more
        return is_more

    def _hear_all(self, feed: Feed, serial: int | None) -> None:
        seen: set[int] = set()
        newest: int | None = None
        for heard in feed.listen(serial):
            if self._stop.is_set():
                return
            seen.update(hash(name) for name in heard.changes)
            self._note(heard, None)
            newest = heard.serial if heard.serial is not None else newest
        self._miss(seen)
        if newest is not None and serial is not None:
            if newest < serial - _WENT_BACK:
                _log.warning("PyPI's serial has gone back from %d to %d", serial, newest)
            else:
                newest = max(newest, serial)
        at = self._now()
        moved = {"list_at": at.isoformat()} | ({} if newest is None else {"serial": newest})
        self._database.write(lambda session: notes.move(session, at, **moved))

    def _note(self, heard: Heard, serial: int | None) -> None:
        with self._database.read() as session:
            changes = notes.news(session, heard.changes)

        def store(session: Session) -> None:
            notes.hear(session, changes, self._now())
            if serial is not None:
                notes.move(session, self._now(), serial=serial)

        if changes or serial is not None:
            self._database.write(store)

    def _miss(self, seen: set[int]) -> None:
        """Note what is stored, and was not on the list: it was deleted, or the list is a watch list."""
        after = ""
        while True:
            with self._database.read() as session:
                names = session.scalars(
                    select(PypiProject.name)
                    .where(PypiProject.name > after, PypiProject.listing.is_not(None))
                    .order_by(PypiProject.name)
                    .limit(1000)
                ).all()
            if not names or self._stop.is_set():
                return
            gone = dict.fromkeys((name for name in names if hash(name) not in seen), 0)
            if gone:
                self._database.write(lambda session: notes.hear(session, gone, self._now()))  # noqa: B023 - run at once
            after = names[-1]

    # --- reading ------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Ask about some of the projects that were noted; True where there are more.

        What has been answered is stored together every moment, so one slow answer holds up no other.
        """
        if self._pypi.rest_s():
            return False
        with self._database.read() as session:
            due = notes.due(session, self._now(), _AT_ONCE)
            if not due:
                return False
            farm = Farm.of(session, self._scope, self._now())
            rows = update.known(session, due)
        until = time.monotonic() + _READ_S
        waiting = {self._threads.submit(self._look, note, rows.get(note.name), until) for note in due}
        while waiting and not self._stop.is_set():
            done, waiting = wait(waiting, timeout=_GATHER_S)
            answers = [answer for one in done if (answer := one.result()) is not None]
            for at in range(0, len(answers), _STORED_AT_ONCE):
                self._store(answers[at : at + _STORED_AT_ONCE], farm)
        for one in waiting:
            one.cancel()
        return len(due) == _AT_ONCE

    def _look(self, note: PypiNote, row: PypiProject | None, until: float) -> update.Update | None:
        """What PyPI says; None where there is no time left, and another turn will ask."""
        if self._stop.is_set() or time.monotonic() > until:
            return None
        return update.look(self._pypi, note, row)

    def _store(self, updates: list[update.Update], farm: Farm) -> None:
        for one in updates:
            if one.error is not None:
                _log.info("PyPI could not be asked about %s: %s", one.note.name, one.error)
        found = update.forecast(self._database, updates, farm, self._plans)
        self._database.write(lambda session: update.store(session, updates, farm, found))

    def _plans(self, name: str) -> bool:
        """A project that is watched no longer is still carried over, and nothing new of it is built."""
        return not isinstance(self._feed, Watch) or name in self._feed.names

    # --- planning -----------------------------------------------------------------------------------------

    def _think(self) -> bool:
        """Plan again what was noted."""
        with self._database.read() as session:
            due = notes.to_plan(session, _AT_ONCE)
            if not due:
                return False
            farm = Farm.of(session, self._scope, self._now())
            rows = session.scalars(
                select(PypiProject).where(PypiProject.name.in_([note.name for note in due]))
            ).all()
            found = outlooks(session, rows, farm, self._plans)

        def store(session: Session) -> None:
            for row, project, wanted in found:
                plan_project(session, row, project, farm, wanted)
            for note in due:
                notes.planned(session, note)

        self._database.write(store)
        return len(due) == _AT_ONCE
