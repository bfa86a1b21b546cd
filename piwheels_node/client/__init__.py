# SPDX-License-Identifier: BSD-3-Clause
"""The HTTP client of a master, for builders, commands and screens.

    transport    connections, and what errors mean
    pinning      which certificate is believed; join tokens
    working      what a builder says: hello, lease, heartbeat, log, wheel, report
    asking       what people ask: builds, status, builders, orders, join tokens
    planning     ... about following PyPI: how far, what is to be built, what is skipped
    port         what screens need of all this, so that tests can put something else in its place
    watching     ... and what screens ask every few seconds: the farm, rows, logs, the queue, statistics

One method for each endpoint of `/api/v1`, with the messages of `core.messages`; errors are those of
`core.errors`. It must not import the master or the builder.
"""

from __future__ import annotations

from piwheels_node.client.asking import AskingClient
from piwheels_node.client.planning import PlanningClient
from piwheels_node.client.transport import UploadStoppedError
from piwheels_node.client.watching import WatchingClient
from piwheels_node.client.working import WorkingClient

__all__ = ["MasterClient", "UploadStoppedError"]


class MasterClient(WorkingClient, AskingClient, PlanningClient, WatchingClient):
    """Talks to the master at `url`, with a builder's or an operator's `key`, or none for reading.

    `session` tells this process of a builder from any other with the same key; `certificate` (PEM) is the
    only one that is believed, in place of those that the system trusts. It blocks, and may be used by
    several threads.

    Every method raises MasterUnreachableError where there is no connection or the master cannot work just
    now, LeaseLostError where the lease is gone, SupersededError where the key is used by somebody else,
    KeyRefusedError where the key opens nothing (any more), StorageError where the master's disk is full,
    and MasterError where the master refuses or cannot be understood.
    """
