# SPDX-License-Identifier: BSD-3-Clause
"""Hearing what the master orders: a thread that asks, and is answered as soon as there is something new.

One long poll is open all the time, so an order arrives within a second also in the middle of a build. Why
the builder stands still by its own decision goes with each question, and in one of its own when it changes.
A master that is away leaves the last orders in force.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from piwheels_node.builder.farm.patience import Patience
from piwheels_node.client import MasterClient
from piwheels_node.core.errors import (
    KeyRefusedError,
    MasterError,
    MasterUnreachableError,
    StorageError,
    SupersededError,
)
from piwheels_node.core.messages import Orders, OrdersRequest

_log = logging.getLogger(__name__)
_POLL_S = 50.0
_TOO_SOON_S = 1.0
"""An answer without news that comes sooner is one of a master that is being stopped."""


class OrderListener:
    """Asks one master for orders until `stop`; calls `obey` with each answer, and `end` at the last."""

    def __init__(
        self,
        client: MasterClient,
        *,
        obey: Callable[[Orders], None],
        end: Callable[[MasterError], None],
        paused_itself: Callable[[], str | None],
        stop: threading.Event,
    ) -> None:
        self.client = client
        self.obey = obey
        self.end = end
        self.paused_itself = paused_itself
        self.stop = stop
        self._serial = -1
        self._thread = threading.Thread(target=self._listen, name="orders", daemon=True)

    def start(self, orders: Orders) -> None:
        """Begin with the orders that the master gave in its answer to hello."""
        self._serial = orders.serial
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread; it may hang in a question, and is left there."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def tell(self) -> None:
        """Let the master know now, not with the next question, whether we stand still and why."""
        threading.Thread(target=self._tell, name="orders-tell", daemon=True).start()

    def _tell(self) -> None:
        try:
            self._ask(0)
        except (MasterError, StorageError) as error:  # the next question says it again
            _log.info("%s", error)
        except Exception:  # noqa: BLE001 - the boundary of a thread: the listener itself goes on
            if not self.stop.is_set():
                _log.exception("telling the master failed")

    def _ask(self, wait_s: float) -> bool:
        """Ask once and obey; False where nothing has changed."""
        seen = self._serial
        orders = self.client.orders(
            OrdersRequest(seen=seen, wait_s=wait_s, paused_itself=self.paused_itself())
        )
        self._serial = orders.serial
        if not self.stop.is_set():
            self.obey(orders)
        return orders.serial != seen

    def _listen(self) -> None:
        patience = Patience()
        while not self.stop.is_set():
            try:
                asked_at = time.monotonic()
                if not self._ask(_POLL_S) and time.monotonic() - asked_at < _TOO_SOON_S:
                    self.stop.wait(_TOO_SOON_S)
                patience.reset()
            except (SupersededError, KeyRefusedError) as error:
                self.end(error)
            except MasterUnreachableError as error:
                _log.debug("%s", error)
                patience.wait(self.stop)
            except (MasterError, StorageError) as error:
                _log.warning("%s", error)
                patience.wait(self.stop)
            except Exception:  # noqa: BLE001 - the boundary of the thread: without orders a builder is deaf
                if not self.stop.is_set():  # then it is the client, which was closed under our hands
                    _log.exception("asking for orders failed")
                patience.wait(self.stop)
