# SPDX-License-Identifier: BSD-3-Clause
"""Asking off the screen's thread: one question at a time for a page, the next one after the last has ended.

    Pace      how long to wait: the interval, or 2 to 30 s and longer each time while the master is gone
    Asker     runs questions on threads of its own, and hands the answers to a callback; who has taken one in
              says so (`done`), and may ask again

The threads are daemons: nobody who quits waits for a master that does not answer. This module must not import
Textual.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from piwheels_node.core.errors import MasterError, NodeError

INTERVAL_S = 2.0
INTERVAL_OF_ONE_CORE_S = 5.0
_FIRST_S, _LAST_S = 2.0, 30.0
_QUESTIONS_AT_ONCE = 4

Ask = Callable[[Any], Any]
"""What a page wants to know: a function from a reader to the page's own frozen value."""


def interval_for(cores: int | None) -> float:
    """How often to ask: one core has to build as well."""
    return INTERVAL_OF_ONE_CORE_S if cores == 1 else INTERVAL_S


@dataclass(frozen=True)
class Pace:
    """How long to wait before the next question."""

    interval_s: float = INTERVAL_S
    failed: int = 0

    def heard(self) -> Pace:
        """The master answered."""
        return replace(self, failed=0)

    def missed(self) -> Pace:
        """It did not."""
        return replace(self, failed=self.failed + 1)

    @property
    def wait_s(self) -> float:
        """Seconds until the next question."""
        if not self.failed:
            return self.interval_s
        return max(self.interval_s, min(_LAST_S, _FIRST_S * 2.0 ** min(self.failed - 1, 8)))


@dataclass(frozen=True)
class Answer:
    """What came of a question: a value, or why there is none. `asked` is who asked."""

    asked: object
    value: Any = None
    error: BaseException | None = None

    @property
    def is_gone(self) -> bool:
        """True where the master itself is away; a refusal is about one question, and an answer."""
        return isinstance(self.error, NodeError) and not (
            isinstance(self.error, MasterError) and self.error.refused
        )


class Asker:
    """Questions on threads; `answered` is called on those threads, all else on the screen's."""

    def __init__(self, reader: Any, answered: Callable[[Answer], None]) -> None:
        self._reader = reader
        self._answered = answered
        self._at_work: set[object] = set()
        self._questions: SimpleQueue[tuple[object, Ask] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, asked: object, question: Ask) -> bool:
        """Put a question; False where one of the same asker, or too many of others, are not done yet."""
        if asked in self._at_work or len(self._at_work) >= _QUESTIONS_AT_ONCE:
            return False
        if self._at_work:
            _begin(lambda: self._answer(asked, question))
        else:
            self._questions.put((asked, question))
            self._thread = self._thread or _begin(self._run)
        self._at_work.add(asked)
        return True

    @property
    def is_waiting(self) -> bool:
        """True where an answer has not come yet."""
        return bool(self._at_work)

    def close(self) -> None:
        """Ask no more; what is under way is not waited for."""
        self._questions.put(None)

    def _run(self) -> None:
        """One question after the other, as long as they come singly: a thread for each would cost more."""
        while (task := self._questions.get()) is not None:
            self._answer(*task)

    def _answer(self, asked: object, question: Ask) -> None:
        try:
            answer = Answer(asked, value=question(self._reader))
        except Exception as error:  # noqa: BLE001 - the border of a thread: the screen decides what it means
            answer = Answer(asked, error=error)
        self._answered(answer)

    def done(self, asked: object) -> None:
        """The answer was taken in: the next question may know it."""
        self._at_work.discard(asked)


def _begin(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True, name="dashboard-asks")
    thread.start()
    return thread
