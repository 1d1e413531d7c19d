"""The ways events arise: recorded in the caller's transaction, or captured from what happens to models."""

from .after_commit import drain_after_commit
from .capture import capture
from .captures import Change, Changes
from .middleware import EventContextMiddleware
from .querysets import CapturingQuerySet
from .record import arecord, forget_known_consumers, record
from .suppression import suppressed

__all__ = [
    "CapturingQuerySet",
    "Change",
    "Changes",
    "EventContextMiddleware",
    "arecord",
    "capture",
    "drain_after_commit",
    "forget_known_consumers",
    "record",
    "suppressed",
]
