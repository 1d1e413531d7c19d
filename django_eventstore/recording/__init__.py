"""The ways events arise: recorded in the caller's transaction."""

from .record import arecord, forget_known_consumers, record

__all__ = ["arecord", "forget_known_consumers", "record"]
