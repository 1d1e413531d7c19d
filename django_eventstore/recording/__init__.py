"""The ways events arise: recorded in the caller's transaction, or captured from what happens to models."""

from .capture import capture
from .captures import Change, Changes
from .querysets import CapturingQuerySet
from .record import arecord, forget_known_consumers, record
from .suppression import suppressed

__all__ = [
    "CapturingQuerySet",
    "Change",
    "Changes",
    "arecord",
    "capture",
    "forget_known_consumers",
    "record",
    "suppressed",
]
