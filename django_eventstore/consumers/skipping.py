"""Passing over the event that stopped a consumer, by decision of an operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from django.db import transaction

from ..conf import get_settings
from ..exceptions import EventStoreError
from ..models import ConsumerState, EventEntry, Lease
from ..store import EventStore
from .definition import declared_consumer
from .leases import Tenure, acquire
from .offsets import OffsetStore
from .states import clear_failure

__all__ = ["skip"]

PATIENCE = timedelta(seconds=5)
POLL = timedelta(milliseconds=200)


def skip(
    consumer: str,
    *,
    using: str,
    position: int | None = None,
    patience: timedelta = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> EventEntry:
    """Move the consumer's offset past its failing event, which is then never delivered, and forget the failure.

    Returns the entry that was passed over. ``position``: the failing position as the operator knows it, so that another
    event that fails by now is not skipped in its place. Waits ``patience`` for a worker that holds the consumer.

    Raises UnknownConsumer, and EventStoreError, changing nothing, when no event of the consumer fails, when ``position`` is
    not the failing one, when the failing event is not the next one after the offset, and when a worker keeps the lease.
    """
    declared = declared_consumer(consumer)
    _failing_position(consumer, position, using=using)
    tenure = _acquire(consumer, using=using, patience=patience, clock=clock, sleep=sleep)
    try:
        # Again: what the worker before us did counts.
        failing = _failing_position(consumer, position, using=using)
        offsets = OffsetStore(using)
        progress = offsets.load(consumer)
        if progress is None:
            raise EventStoreError(f"Consumer {consumer!r} has no offset: it has never run.")
        page = EventStore(using).get(progress.offset, 1, types=declared.events, epoch=progress.epoch)
        if not page.entries or page.entries[0].position != failing:
            found = f"position {page.entries[0].position}" if page.entries else "none"
            raise EventStoreError(
                f"Consumer {consumer!r} failed at position {failing}, but its next event after offset {progress.offset} "
                f"is {found}: nothing was skipped. Resume it, and look again when it has run."
            )
        with transaction.atomic(using=using):
            offsets.advance(consumer, failing, epoch=page.epoch, token=tenure.token)
            clear_failure(consumer, using=using)
        return page.entries[0]
    finally:
        tenure.release()


def _failing_position(consumer: str, wanted: int | None, *, using: str) -> int:
    state = ConsumerState.objects.using(using).filter(consumer=consumer).first()
    if state is None or not state.attempts:
        raise EventStoreError(f"Consumer {consumer!r} has no failing event to skip.")
    if state.failed_position is None:
        raise EventStoreError(
            f"Consumer {consumer!r} waits for its sender as a whole: no single event fails, so there is none to skip."
        )
    if wanted is not None and wanted != state.failed_position:
        raise EventStoreError(
            f"Consumer {consumer!r} fails at position {state.failed_position}, not at {wanted}: nothing was skipped."
        )
    failing: int = state.failed_position
    return failing


def _acquire(
    consumer: str, *, using: str, patience: timedelta, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Tenure:
    deadline = clock() + patience.total_seconds()
    while True:
        tenure = acquire(consumer, using=using, length=get_settings().LEASE)
        if tenure is not None:
            return tenure
        if clock() >= deadline:
            break
        sleep(POLL.total_seconds())
    owner = Lease.objects.using(using).filter(consumer=consumer).values_list("owner", flat=True).first()
    raise EventStoreError(
        f"Consumer {consumer!r} is held by the worker {owner or 'unknown'}: nothing was skipped. Pause the consumer, wait "
        "until the worker lets go of it or its lease is over, and skip again."
    )
