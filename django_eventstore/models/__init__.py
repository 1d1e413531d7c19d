"""The tables: one file a noun. Some belong to one database only and stay empty on the others."""

from .consumers import ConsumerOffset, ConsumerState, Heartbeat, Lease
from .entries import EventEntry, EventKey, StreamVersion
from .log import Epoch, Head, Pending, Shown, Tick
from .positions import EventType, LogPosition

__all__ = [
    "ConsumerOffset",
    "ConsumerState",
    "Epoch",
    "EventEntry",
    "EventKey",
    "EventType",
    "Head",
    "Heartbeat",
    "Lease",
    "LogPosition",
    "Pending",
    "Shown",
    "StreamVersion",
    "Tick",
]
