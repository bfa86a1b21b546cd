# SPDX-License-Identifier: BSD-3-Clause
"""The dashboard itself: asks for the page on top, draws what comes, does what it is told, and ends.

The page on top asks, by `Asker` off this thread; its answer comes as one message, `Answered`, and is drawn in
one place, `on_dashboard_answered`. The next question comes a while after the last answer; none while the
terminal has no focus, or something is asked over the page. The terminal is watched: without it, this ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer

from piwheels_node.client.port import Node, Watched
from piwheels_node.core.access import Access
from piwheels_node.core.errors import EXIT_INTERRUPTED, KeyRefusedError, NodeError
from piwheels_node.dashboard import terminal
from piwheels_node.dashboard.actions import Action, shown
from piwheels_node.dashboard.compat import know_home_and_end
from piwheels_node.dashboard.deeds import Subject
from piwheels_node.dashboard.look import CONSOLE, FULL
from piwheels_node.dashboard.polling import INTERVAL_S, Answer, Asker, Pace
from piwheels_node.dashboard.screens import PAGES, make
from piwheels_node.dashboard.screens.asking import Confirm, Help, Palette, Wanted
from piwheels_node.dashboard.screens.base import Page
from piwheels_node.dashboard.snapshot import Farm, Link, LinkState
from piwheels_node.dashboard.theme import ConsoleFilter, theme
from piwheels_node.dashboard.words import Place, Role, elapsed

SLOW_S = 6.0
"""After so long without an answer it is told that the master is slow."""

RESIZED_S = 0.3
"""How long after a change the terminal's size is compared with what is drawn."""

GARBAGE = 10_000, 10, 10
"""How many objects more make a collection: an answer has a thousand or two, which end by themselves."""

_log = logging.getLogger(__name__)


class Dashboard(App[int]):
    """The app; `run` gives the exit code."""

    CSS_PATH = "dashboard.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "leave", show=False),
        Binding("ctrl+q", "leave", show=False, priority=True),
    ]

    class Answered(Message):
        """A question was answered."""

        def __init__(self, answer: Answer) -> None:
            super().__init__()
            self.answer = answer

    class Done(Message):
        """A deed was done, or not: `words` tell it."""

        def __init__(self, words: str, role: Role) -> None:
            super().__init__()
            self.words, self.role = words, role

    def __init__(
        self,
        master: Watched | None,
        *,
        machine: Node | None = None,
        console: bool = False,
        interval_s: float = INTERVAL_S,
        first: Place | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.look = CONSOLE if console else FULL
        super().__init__()
        self.animation_level = "none"
        self.master: Watched = master or cast("Watched", None)  # without one, no page that asks it is opened
        self.machine = machine
        self.has_farm = master is not None
        self._root = Place("home" if self.has_farm else "node")
        self.access = Access.READER
        self.link = Link()
        self.now = now
        self._first = first
        self._pace = Pace(interval_s)
        self._asker = Asker(master, self._tell)
        self._next: asyncio.TimerHandle | None = None
        self._asks_again = False
        self._overdue: asyncio.TimerHandle | None = None
        self._tick: Timer | None = None
        self._has_focus = True
        self._is_settled = False
        if console:
            self._filters.append(ConsoleFilter())
        know_home_and_end()
        self.register_theme(theme(self.look))
        self.theme = self.look.name

    def on_mount(self) -> None:
        """Begin with the first page."""
        if self.look is CONSOLE:
            self.add_class("-console")
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, EXIT_INTERRUPTED)
        if not self.is_headless:
            terminal.end_with_the_terminal()
        self.go(self._root)
        if self._first:
            self.go(self._first)
        if self.has_farm:
            self._ask_access()

    def on_resize(self) -> None:
        """Look once more a moment later: of two signals at once, Textual may tell the older size last."""
        self._after(RESIZED_S, self._compare_size)

    def _compare_size(self) -> None:
        if self.is_headless:
            return
        size = terminal.size()
        if size != self.screen.outer_size:
            self.post_message(events.Resize(size, size))

    def on_unmount(self) -> None:
        """Ask no more."""
        for timer in (self._next, self._overdue):
            if timer:
                timer.cancel()
        self._asker.close()

    # --- pages -----------------------------------------------------------------------------------------

    @property
    def page(self) -> Page[Any] | None:
        """The page on top, also under a question."""
        return next((one for one in reversed(self.screen_stack) if isinstance(one, Page)), None)

    def go(self, place: Place) -> None:
        """Open a page; one that is about nothing special replaces all but the first."""
        if not self.can_open(place.page):
            return
        pages = [one for one in self.screen_stack if isinstance(one, Page)]
        if pages and place.page == pages[-1].NAME and pages[-1].about == place.about:
            return
        if pages and not place.about:
            for _ in pages[1:]:
                self.pop_screen()
        if not pages or place.page != self._root.page:
            self.push_screen(make(place))
        self.call_later(self.poll)

    def can_open(self, page: str) -> bool:
        """False for a page about what is not there: a farm, or this machine. True for all that is no page."""
        if page == "node":
            return self.machine is not None
        return self.has_farm or page not in PAGES

    def back(self) -> None:
        """Leave a page; the first one is not left so."""
        if len([one for one in self.screen_stack if isinstance(one, Page)]) > 1:
            self.pop_screen()
            self.call_later(self.poll)

    def _tell(self, answer: Answer) -> None:
        """Bring an answer to this thread; any thread may call it."""
        self.post_message(self.Answered(answer))

    # --- asking and drawing ----------------------------------------------------------------------------

    def poll(self) -> None:
        """Ask for the page on top, if it is looked at; where an answer is under way, once more after it."""
        if self._next:
            self._next.cancel()
            self._next = None
        page = self.page
        if page is None or page is not self.screen or not self._has_focus:
            return
        self._asks_again = not self._asker.ask(page, page.ask())
        if self._asks_again:
            return
        if self._overdue is None:
            self._overdue = self._after(SLOW_S, self._is_overdue)

    def on_dashboard_answered(self, message: Answered) -> None:
        """Draw what came: the one place that does."""
        answer = message.answer
        self._asker.done(answer.asked)
        if self._overdue:
            self._overdue.cancel()
            self._overdue = self._after(SLOW_S, self._is_overdue) if self._asker.is_waiting else None
        if answer.error is not None and not isinstance(answer.error, NodeError):
            raise answer.error
        if answer.asked is self:
            self._take_access(answer)
            return
        if isinstance(answer.asked, Page) and not answer.asked.ASKS_MASTER:
            self._draw(answer)
        elif answer.is_gone:
            self._pace = self._pace.missed()
            why = answer.error.what if isinstance(answer.error, NodeError) else ""
            self._set_link(Link(LinkState.GONE, self.link.heard_at, why, self._pace.wait_s))
        else:
            self._pace = self._pace.heard()
            self._set_link(Link(LinkState.LIVE, self.now()))
            self._draw(answer)
            self._settle()
        if self._asks_again and not answer.is_gone:  # what came may be older than what was just done
            self.poll()
        elif self._next is None:
            self._next = self._after(self._pace.wait_s, self.poll)

    def _settle(self) -> None:
        """What there is at the first answer stays: collecting garbage need not go through it, 45 ms long.

        Only where the process is the dashboard's own: what is garbage by then is never collected.
        """
        if not (self._is_settled or self.is_headless):
            self._is_settled = True
            gc.freeze()
            gc.set_threshold(*GARBAGE)

    def _after(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call something later; a timer of Textual's is a task each time, which a refresh need not pay."""
        return asyncio.get_running_loop().call_later(seconds, self.call_later, call)

    def _draw(self, answer: Answer) -> None:
        """Draw an answer, if its page is still the one that is looked at."""
        page = self.page
        if page is None or answer.asked is not page or not page.is_mounted:
            return
        if isinstance(answer.error, NodeError):
            page.draw_refusal(answer.error)
        else:
            page.take_value(answer.value)

    def _take_access(self, answer: Answer) -> None:
        """Whether who looks may act; asked again until the master tells."""
        page = self.page
        if answer.is_gone and not isinstance(answer.error, KeyRefusedError):
            self.set_timer(self._pace.wait_s, self._ask_access)
            return
        if isinstance(answer.error, NodeError) and page:
            page.say(f"{answer.error.what}; you can look, but not act", Role.WARN)
        elif answer.error is None:
            self.access = answer.value.access
        if page and page.is_mounted:
            page.show_link(self.link)
            page.show_keys()

    def _ask_access(self) -> None:
        self._asker.ask(self, lambda master: master.who_am_i())

    def _is_overdue(self) -> None:
        self._overdue = None
        if self.link.state is not LinkState.GONE:
            self._set_link(Link(LinkState.SLOW, self.link.heard_at))

    def _set_link(self, link: Link) -> None:
        """Say how the connection stands; while it does not, the age of what is shown goes on."""
        changed = (link.state, link.why, link.again_s) != (self.link.state, self.link.why, self.link.again_s)
        self.link = link
        if link.is_stale and self._tick is None:
            self._tick = self.set_interval(1.0, self._show_link)
        elif not link.is_stale and self._tick is not None:
            self._tick.stop()
            self._tick = None
        if changed:
            self._show_link()

    def _show_link(self) -> None:
        if self.page and self.page.is_mounted:
            self.page.show_link(self.link)

    def link_words(self) -> str:
        """What is to be said of a connection that does not stand; nothing where it does."""
        link = self.link
        if not link.is_stale:
            return ""
        age = elapsed((self.now() - link.heard_at).total_seconds()) if link.heard_at else ""
        shown_is = f"what you see is {age} old" if age else "nothing was heard so far"
        if link.state is LinkState.SLOW:
            return f"the master takes long to answer; {shown_is}"
        return f"{link.why}; {shown_is}, asking again every {link.again_s:.0f}s"

    @property
    def master_name(self) -> str:
        """The master's host and port."""
        return urlsplit(self.master.url).netloc or self.master.url

    def on_app_blur(self) -> None:
        """Nobody looks: ask nothing."""
        self._has_focus = False

    def on_app_focus(self) -> None:
        """Somebody looks again."""
        self._has_focus = True
        self.poll()

    # --- deeds -----------------------------------------------------------------------------------------

    def do(self, action: Action, subject: Subject) -> None:
        """Carry a deed out; ask before, if it is dangerous."""
        deed = action.deed
        if deed is None:
            return
        if deed.question is None:
            self._carry_out(action, subject)
            return

        def answered(meant: bool | None) -> None:
            if meant:
                self._carry_out(action, subject)
            self.poll()

        self.push_screen(Confirm(action, deed.question(subject)), answered)

    def _carry_out(self, action: Action, subject: Subject) -> None:
        deed = action.deed
        if deed is None:
            return
        do = deed.do
        if self.page:
            self.page.say(f"{action.label} ...", Role.BUSY)

        def work() -> None:
            try:
                done = self.Done(do(self.master, subject), Role.GOOD)
            except NodeError as error:
                hint = f" ({error.hint})" if error.hint else ""
                done = self.Done(f"{action.label}: {error.what}{hint}", Role.BAD)
            self.post_message(done)

        threading.Thread(target=work, daemon=True, name=f"dashboard-{action.name}").start()

    def on_dashboard_done(self, message: Done) -> None:
        """Tell the result, and show what has changed by it."""
        if self.page:
            self.page.say(message.words, message.role)
        self.poll()

    # --- actions of every page -------------------------------------------------------------------------

    def act_refresh(self) -> None:
        """Ask now."""
        self.poll()

    def act_quit(self) -> None:
        """Leave."""
        self.exit(0)

    def action_leave(self) -> None:
        """Leave, from anywhere."""
        self.exit(0)

    def act_help(self) -> None:
        """All keys of the page."""
        if self.page:
            self.push_screen(Help(self.page.NAME, operator=self.access.may_act), lambda _: self.poll())

    def act_commands(self) -> None:
        """Find something by name."""
        page = self.page
        if page is None:
            return
        wanted = [Wanted(one.label, one.sentence, shown(one.keys[0]), one) for one in page.offered()]
        if isinstance(page.value, Farm):
            wanted += [
                Wanted(name, "Open this builder.", "", Place("builder", name))
                for name in sorted(one.name for one in page.value.builders)
            ]

        def chosen(value: object) -> None:
            if isinstance(value, Action):
                page.take(value)
            elif isinstance(value, Place):
                self.go(value)
            self.poll()

        self.push_screen(Palette(wanted), chosen)

    def act_home(self) -> None:
        """The farm."""
        self.go(Place("home"))

    def act_queue(self) -> None:
        """The queue."""
        self.go(Place("queue"))

    def act_failures(self) -> None:
        """Failures."""
        self.go(Place("failures"))

    def act_packages(self) -> None:
        """Packages."""
        self.go(Place("packages"))

    def act_statistics(self) -> None:
        """Statistics."""
        self.go(Place("statistics"))

    def act_node(self) -> None:
        """The machine that this runs on."""
        self.go(Place("node"))
