"""The ways events arise: recorded in the caller's transaction."""

from .after_commit import drain_after_commit
from .middleware import EventContextMiddleware
from .record import arecord, forget_known_consumers, record

__all__ = ["EventContextMiddleware", "arecord", "drain_after_commit", "forget_known_consumers", "record"]
