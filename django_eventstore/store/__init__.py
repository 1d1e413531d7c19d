"""The log: what is appended, in which order it is read."""

from .epoch import LogState, begin_epoch, ensure_log, log_state
from .event_store import EventStore, Page
from .reading import position_before

__all__ = ["EventStore", "LogState", "Page", "begin_epoch", "ensure_log", "log_state", "position_before"]
