"""What the tests from record() to a broker record, and what they compare with."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from django_eventstore import EventEntry, EventStore, record
from django_eventstore.consumers import OffsetStore

__all__ = ["log", "offset", "record_orders"]


def record_orders(count: int, *, first: int = 1, type: str = "orders.OrderPlaced", **more: object) -> None:
    """Record so many orders of seven streams in turn, in one transaction; ``more`` is for the payload."""
    with transaction.atomic():
        for number in range(first, first + count):
            record(type, {"n": number, **more}, stream=f"order-{number % 7}")


def log() -> Sequence[EventEntry]:
    return EventStore().get(limit=10_000).entries


def offset(consumer: str = "warehouse") -> int:
    progress = OffsetStore().load(consumer)
    return progress.offset if progress else 0
