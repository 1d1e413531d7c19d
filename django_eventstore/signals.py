"""What the package tells about itself; every signal is sent with ``send_robust``, so a receiver stops nobody."""

from __future__ import annotations

import logging

from django.dispatch import Signal

__all__ = ["batch_delivered", "delivery_failed", "event_recorded", "events_committed", "handler_failed", "send"]

logger = logging.getLogger(__name__)

event_recorded = Signal()
"""Entries were inserted; the transaction is still open. Arguments: ``entries``, ``using``."""

events_committed = Signal()
"""A transaction that recorded events has committed. Argument: ``using``. Sent from ``on_commit``: a crash can lose it."""

batch_delivered = Signal()
"""A consumer's offset advanced. Arguments: ``consumer``, ``delivered`` (number of events), ``offset``."""

delivery_failed = Signal()
"""A delivery failed and the consumer waits. Arguments: ``consumer``, ``position`` (None: the whole batch), ``error``."""

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
