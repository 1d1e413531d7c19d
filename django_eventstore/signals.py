"""What the package tells about itself; every signal is sent with ``send_robust``, so a receiver stops nobody."""

from __future__ import annotations

import logging

from django.dispatch import Signal

__all__ = [
    "batch_delivered",
    "consumer_paused",
    "consumer_resumed",
    "consumer_waiting",
    "delivery_failed",
    "endpoint_disabled",
    "event_recorded",
    "events_committed",
    "handler_failed",
    "send",
    "stream_blocked",
    "stream_parked",
    "stream_unblocked",
]

logger = logging.getLogger(__name__)

event_recorded = Signal()
"""Entries were inserted; the transaction is still open. Arguments: ``entries``, ``using``."""

events_committed = Signal()
"""A transaction that recorded events has committed. Argument: ``using``. Sent from ``on_commit``: a crash can lose it."""

batch_delivered = Signal()
"""A consumer's offset advanced. Arguments: ``consumer``, ``delivered`` (number of events), ``offset``."""

delivery_failed = Signal()
"""A delivery failed. Arguments: ``consumer``, ``position`` (None: the sender is unavailable), ``error``."""

stream_blocked = Signal()
"""An event failed and its stream waits for it. Arguments: ``consumer``, ``stream``, ``position``, ``attempts``, ``error``."""

stream_parked = Signal()
"""An event is not tried again before somebody decides. Arguments: ``consumer``, ``stream``, ``position``, ``error``."""

stream_unblocked = Signal()
"""A blocked stream has caught up. Arguments: ``consumer``, ``stream``, ``position`` (of the last event delivered)."""

consumer_waiting = Signal()
"""A consumer's sender is unavailable. Arguments: ``consumer``, ``error``, ``attempts``, ``retry_after`` (a timedelta)."""

consumer_paused = Signal()
"""A consumer was paused. Arguments: ``consumer``, ``reason``."""

consumer_resumed = Signal()
"""A consumer was resumed. Argument: ``consumer``."""

endpoint_disabled = Signal()
"""A webhook endpoint is not sent to any more: it is gone, or has failed for too long. Arguments: ``endpoint``, ``reason``."""

handler_failed = Signal()
"""A handler with ``mode="after_commit"`` raised; it is not called again. Arguments: ``handler``, ``entry``, ``error``."""


def send(signal: Signal, *, sender: type, **arguments: object) -> None:
    """Send robustly; what a receiver raises is logged and goes no further."""
    try:
        answers = signal.send_robust(sender, **arguments)
    except Exception:  # Django itself raises on a failing receiver without a __qualname__, a partial
        logger.exception("A receiver failed")
        return
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            logger.error("Receiver %r failed", receiver, exc_info=answer)
