"""A line in the worker's log for each batch that a consumer has finished."""

from __future__ import annotations

import logging

from django.dispatch import receiver

from django_eventstore.signals import batch_delivered

logger = logging.getLogger(__name__)


@receiver(batch_delivered)
def log_delivery(*, consumer: str, delivered: int, offset: int, **kwargs: object) -> None:
    """Sent after the offset is committed, so the line never promises what a roll-back takes away."""
    logger.info("delivered consumer=%s events=%d offset=%d", consumer, delivered, offset)
