"""The log: what is appended, in which order it is read."""

from .epoch import LogState, begin_epoch, ensure_log, log_state
from .event_store import EventStore
from .listening import Listener, Pause, is_postgresql, notify
from .pages import Extent, LogReader, Page
from .reading import position_before
from .waiting import NOTIFY_INTERVAL, Waiter, waiter

__all__ = [
    "NOTIFY_INTERVAL",
    "EventStore",
    "Extent",
    "Listener",
    "LogReader",
    "LogState",
    "Page",
    "Pause",
    "Waiter",
    "begin_epoch",
    "ensure_log",
    "is_postgresql",
    "log_state",
    "notify",
    "position_before",
    "waiter",
]
