"""The tables: one file a noun. Some belong to one database only and stay empty on the others."""

from .consumers import ConsumerOffset, ConsumerState, Heartbeat, InboxKey, Lease, SlotOffset
from .endpoints import Endpoint, EndpointAttempt
from .entries import EventEntry, EventKey, StreamVersion
from .failures import DeliveryDecision, DeliveryRequest, DeliveryState, FailedDelivery
from .log import Epoch, Head, Pending, Shown, Tick
from .positions import EventType, LogPosition

__all__ = [
    "ConsumerOffset",
    "ConsumerState",
    "DeliveryDecision",
    "DeliveryRequest",
    "DeliveryState",
    "Endpoint",
    "EndpointAttempt",
    "Epoch",
    "EventEntry",
    "EventKey",
    "EventType",
    "FailedDelivery",
    "Head",
    "Heartbeat",
    "InboxKey",
    "Lease",
    "LogPosition",
    "Pending",
    "Shown",
    "SlotOffset",
    "StreamVersion",
    "Tick",
]
