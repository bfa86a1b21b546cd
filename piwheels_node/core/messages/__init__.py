# SPDX-License-Identifier: BSD-3-Clause
"""What builders, people and the master say to each other over HTTP, as validated models.

    base      what all share, and how an error is told
    joining   how machines become builders
    building  builder and master
    people    people and master

Unknown fields are ignored, so that an older peer understands a newer one; times are UTC and aware.
This package imports only the standard library, pydantic and `core`.
"""

from piwheels_node.core.messages.base import (
    LOG_PART_BYTES,
    Amount,
    BuilderName,
    LeaseToken,
    Message,
    Name,
    Problem,
    Sha256,
)
from piwheels_node.core.messages.building import (
    BuildEnvironment,
    Health,
    Heartbeat,
    HeartbeatAnswer,
    Hello,
    Lease,
    LeaseRequest,
    Limits,
    LogPart,
    Offer,
    OfferedTarget,
    Orders,
    OrdersRequest,
    Refusal,
    Report,
    ReportAnswer,
    SdistFile,
    StepTime,
    Upload,
    WheelClaim,
)
from piwheels_node.core.messages.joining import JoinAnswer, JoinRequest, Machine, TokenRequest, TokenView
from piwheels_node.core.messages.people import (
    BuilderEventView,
    BuilderOrder,
    BuilderView,
    BuildRequest,
    BuildView,
    EventView,
    JobView,
    ProjectView,
    Purge,
    PurgeAnswer,
    RequestAnswer,
    Status,
    WheelView,
)

__all__ = [
    "LOG_PART_BYTES",
    "Amount",
    "BuildEnvironment",
    "BuildRequest",
    "BuildView",
    "BuilderEventView",
    "BuilderName",
    "BuilderOrder",
    "BuilderView",
    "EventView",
    "Health",
    "Heartbeat",
    "HeartbeatAnswer",
    "Hello",
    "JobView",
    "JoinAnswer",
    "JoinRequest",
    "Lease",
    "LeaseRequest",
    "LeaseToken",
    "Limits",
    "LogPart",
    "Machine",
    "Message",
    "Name",
    "Offer",
    "OfferedTarget",
    "Orders",
    "OrdersRequest",
    "Problem",
    "ProjectView",
    "Purge",
    "PurgeAnswer",
    "Refusal",
    "Report",
    "ReportAnswer",
    "RequestAnswer",
    "SdistFile",
    "Sha256",
    "Status",
    "StepTime",
    "TokenRequest",
    "TokenView",
    "Upload",
    "WheelClaim",
    "WheelView",
]
