# SPDX-License-Identifier: BSD-3-Clause
"""What a page is, and what it must provide. The rest (bar, keys, filter, polling, deeds) it has from here.

A page is written like this:

    class Queue(Page[QueueSnapshot]):
        NAME = "queue"                       # also its entry in `screens.PAGES`, and in `Action.pages`
        HEADING = "queue"                    # shown in the bar

        def body(self):                      # widgets between the bar and the line of keys
            self.table = Table(ARRANGEMENT, id="jobs")
            yield Heading(id="title")        # from widgets.lines
            yield self.table                 # the first widget that can be focused is

        def ask(self):                       # on the screen's thread: say what to ask ...
            target = self.about
            return lambda master: queue_snapshot(master, target)    # ... which is run on another thread

        def draw(self, value):               # on the screen's thread again: the one place that draws
            self.table.show(value.jobs)

1. **Asking.** `ask` gives a function from a master (`client.port.Watched`) to the page's own frozen value.
   That function is pure of widgets, lives in a module that does not import Textual, and may raise the
   client's errors; `ask` may hand it the last value (`self.value`), or where a log was read to. It is asked
   when the page is opened, then every interval after the last answer, and at once after a deed or
   `self.dashboard.poll()`.
2. **Drawing.** `draw` hands values to widgets by `show(...)`, which paint only what has changed. Never
   remove and mount widgets there. While the master is away nothing is drawn: the page is painted faint
   (`-stale`). A refused question (no such builder) comes to `draw_refusal`.
3. **Actions.** All keys are in `actions.ACTIONS`. For an action NAME without a deed the page has a method
   `act_NAME` (`act_order`, `act_filter` ... are here, for the table that is focused or else the first).
   Deeds need none: they are done about `subject()`, which tells the builder or job that is selected, or
   that the page shows. Call `self.show_keys()` when that has changed.
4. **Moving.** `self.go(Place("build", "17"))` opens a page about something, Escape goes back. A row that
   was chosen (Enter, or a click) comes to `opened(table, row)`; words that lead somewhere have `Cell(...,
   leads_to=Place(...))` in a `Lines` widget, and need nothing else.
5. **Texts.** Everything drawn is a `Cell`; the widgets clean it. Textual's own widgets read texts as
   markup: give them none that is foreign.

`about` is the part of the place after the page's name: a builder, a job's number, a project, or "".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Input

from piwheels_node.client.port import Watched
from piwheels_node.core.errors import NodeError
from piwheels_node.dashboard.actions import Action, hints, is_offered, on_page
from piwheels_node.dashboard.deeds import Subject
from piwheels_node.dashboard.snapshot import Link, LinkState
from piwheels_node.dashboard.widgets.lines import Bar, Keys, Lines
from piwheels_node.dashboard.widgets.table import Table
from piwheels_node.dashboard.words import Cell, Line, Place, Role

if TYPE_CHECKING:
    from piwheels_node.dashboard.app import Dashboard

S = TypeVar("S")

LEAST_COLUMNS, LEAST_LINES = 40, 10
"""Below this nothing sensible can be shown."""


class Page(Screen[None], Generic[S]):
    """A page that shows values of the kind `S`; see above."""

    NAME: ClassVar[str]
    HEADING: ClassVar[str] = ""
    ASKS_MASTER: ClassVar[bool] = True
    "False for a page whose question never reaches a master: its answer says nothing of the connection."

    def __init__(self, about: str = "") -> None:
        super().__init__()
        self.about = about
        self.value: S | None = None
        self._bar = Bar(id="bar")
        self._banner = Lines(id="banner")
        self._small = Lines(id="small")
        self._keys = Keys()
        self._filter = Input(id="filter", placeholder="words that rows must have")
        self._filter.cursor_blink = False
        self._filtered: Table[Any] | None = None
        self._by_key = {key: action for action in on_page(self.NAME) for key in action.keys}

    # --- what a page provides --------------------------------------------------------------------------

    def body(self) -> ComposeResult:
        """The page's own widgets."""
        raise NotImplementedError

    def ask(self) -> Callable[[Watched], S]:
        """What is to be asked now."""
        raise NotImplementedError

    def draw(self, value: S) -> None:
        """Show what came."""
        raise NotImplementedError

    def draw_refusal(self, error: NodeError) -> None:
        """The master answers, but not this."""
        self.say(error.what, Role.BAD)

    def subject(self) -> Subject:
        """What deeds are about now."""
        return Subject()

    def opened(self, table: Table[Any], row: Any) -> None:
        """A row was chosen."""

    def heading(self) -> Line:
        """What the bar says of this page."""
        words = [Cell(f"  {self.HEADING}", Role.STRONG)] if self.HEADING else []
        return [*words, Cell(f"  {self.about}")] if self.about else words

    # --- what it has -----------------------------------------------------------------------------------

    @property
    def dashboard(self) -> Dashboard:
        """The app."""
        return cast("Dashboard", self.app)

    def go(self, place: Place) -> None:
        """Open a page."""
        self.dashboard.go(place)

    def say(self, words: str, role: Role = Role.GOOD) -> None:
        """Tell something in the last line, for a while."""
        self._keys.say(words, role)

    def compose(self) -> ComposeResult:
        """The bar, what the page is made of, and the line of keys."""
        yield self._bar
        yield self._banner
        yield self._small
        yield from self.body()
        yield self._filter
        yield self._keys

    def on_mount(self) -> None:
        """Nothing is known so far."""
        self._small.show([Cell(f"needs {LEAST_COLUMNS}x{LEAST_LINES}", Role.WARN)])
        self.show_link(self.dashboard.link)

    def take_value(self, value: S) -> None:
        """The app brings what was asked for."""
        self.value = value
        self.draw(value)
        self.show_keys()

    def show_link(self, link: Link) -> None:
        """Say how the connection stands, and what that means for what is shown."""
        stale = link.is_stale and self.ASKS_MASTER
        if self.has_class("-stale") != stale:
            self.set_class(stale, "-stale")
            self.refresh_painted()
        access = [] if self.dashboard.access.may_act else [Cell("read only", Role.FAINT), Cell("  ")]
        word = {
            LinkState.WAITING: Cell("connecting ", Role.FAINT),
            LinkState.LIVE: Cell("live ", Role.GOOD),
            LinkState.SLOW: Cell("slow ", Role.WARN),
            LinkState.GONE: Cell("no answer ", Role.BAD),
        }[link.state]
        name = [Cell(" piwheels-node", Role.TITLE)]
        name += [Cell(f"  {self.dashboard.master_name}")] if self.dashboard.has_farm else []
        self._bar.show([*name, *self.heading()], [*access, word] if self.ASKS_MASTER else [])
        told = self.dashboard.link_words() if self.ASKS_MASTER else ""
        self._banner.set_class(bool(told), "-told")
        self._banner.show([Cell(f" {told}", Role.BAD if link.state is LinkState.GONE else Role.WARN)])

    def refresh_painted(self) -> None:
        """Paint everything again."""
        for widget in self.query("Painted, LogView"):
            widget.refresh()

    def show_keys(self) -> None:
        """Show what can be done now."""
        self._keys.show(hints(self.offered()))

    def offered(self) -> list[Action]:
        """All that can be done now."""
        subject, access = self.subject(), self.dashboard.access
        return [
            one
            for one in on_page(self.NAME)
            if is_offered(one, self.NAME, subject, access) and self.dashboard.can_open(one.name)
        ]

    # --- keys and clicks -------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """A key that no widget wanted."""
        self._keys.forget()
        action = self._by_key.get(event.key)
        typed = isinstance(self.focused, Input) and event.key == "enter"  # which ends what is typed
        if action and not typed:
            event.stop()
            self.take(action)

    def on_keys_pressed(self, event: Keys.Pressed) -> None:
        """A hint was clicked at."""
        self.take(event.action)

    def take(self, action: Action) -> None:
        """Take an action, if it is offered now."""
        if action not in self.offered():
            return
        if action.deed:
            self.dashboard.do(action, self.subject())
            return
        method = f"act_{action.name.replace('-', '_')}"
        (getattr(self, method, None) or getattr(self.dashboard, method))()

    def on_lines_followed(self, event: Lines.Followed) -> None:
        """Words that lead somewhere were chosen."""
        self.go(event.place)

    def on_table_opened(self, event: Table.Opened) -> None:
        """A row was chosen."""
        if event.table.selected is not None:
            self.opened(event.table, event.table.selected)

    def on_table_moved(self) -> None:
        """Something else may be selected."""
        self.show_keys()

    def act_open(self) -> None:
        """Open what is selected in the widget that has the focus."""
        if isinstance(self.focused, Lines | Table):
            self.focused.open_chosen()

    def act_back(self) -> None:
        """Leave the filter, or the page."""
        table = self.table_in_hand
        if self._filter.display:
            self._close_filter(keep=False)
        elif table and (table.arrangement.words or table.arrangement.faults_only):
            self._filter.value = ""
            table.rearrange(table.arrangement.plain())
        else:
            self.dashboard.back()

    # --- tables ----------------------------------------------------------------------------------------

    @property
    def table_in_hand(self) -> Table[Any] | None:
        """The table that is focused, or else the first."""
        if isinstance(self.focused, Table):
            return self.focused
        return next(iter(self.tables), None)

    @property
    def tables(self) -> Iterable[Table[Any]]:
        """The page's tables."""
        return self.query(Table)

    def act_order(self) -> None:
        """Order by the next column."""
        if table := self.table_in_hand:
            table.rearrange(table.arrangement.ordered_next(table.columns_shown))

    def act_reverse(self) -> None:
        """Turn the order round."""
        if table := self.table_in_hand:
            table.rearrange(table.arrangement.turned())

    def act_faults(self) -> None:
        """Only what is wrong, or all again."""
        if table := self.table_in_hand:
            table.rearrange(table.arrangement.with_faults_toggled())

    def act_filter(self) -> None:
        """Ask for words."""
        if table := self.table_in_hand:
            self._filtered = table
            self._filter.value = table.arrangement.words
            self._filter.display = True
            self._filter.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while words are typed."""
        if event.input is self._filter and self._filter.display and self._filtered:
            self._filtered.rearrange(self._filtered.arrangement.filtered(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The filter stays, and the keys are the table's again."""
        if event.input is self._filter:
            self._close_filter(keep=True)

    def _close_filter(self, *, keep: bool) -> None:
        self._filter.display = False
        if self._filtered:
            if not keep:
                self._filtered.rearrange(self._filtered.arrangement.filtered(""))
            self._filtered.focus()

    # --- size ------------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """A terminal may be too small for anything."""
        small = event.size.width < LEAST_COLUMNS or event.size.height < LEAST_LINES
        self.set_class(small, "-small")
        self.set_class(event.size.height < LOW_LINES, "-low")


LOW_LINES = 20
"""Below this, pages leave out what is not needed most."""
