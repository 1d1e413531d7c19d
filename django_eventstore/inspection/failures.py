"""What could not be delivered, as operators look for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from ..consumers import OffsetStore, Partition, declared_consumers
from ..events import validate_pattern
from ..models import ConsumerState, DeliveryDecision, EventEntry, FailedDelivery, SlotOffset
from ..store.reading import type_ids

__all__ = [
    "DecisionStatus",
    "FailureStatus",
    "Queued",
    "decision_status",
    "delivered_entry",
    "delivery_decisions",
    "failed_deliveries",
    "failure_status",
    "queued_behind",
]

COUNT_LIMIT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureStatus:
    """One failed delivery. ``request`` is what an operator asked for and no worker has carried out yet."""

    consumer: str
    position: int
    event_id: UUID
    type: str
    stream: str
    state: str
    blocking: bool
    """Whether its stream waits for it."""
    attempts: int
    tries: int
    crashes: int
    error: str
    first_failed_at: datetime
    failed_at: datetime
    retry_at: datetime | None
    is_edited: bool
    request: str
    requested_by: str
    requested_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionStatus:
    """What was decided about a failed delivery, and carried out ``at`` that time."""

    consumer: str
    position: int
    event_id: UUID
    type: str
    stream: str
    decision: str
    by: str
    reason: str
    edited_payload: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """How many events of the stream wait behind one that failed; at least so many when ``is_capped``."""

    events: int
    is_capped: bool

    def __str__(self) -> str:
        return f"{self.events}+" if self.is_capped else str(self.events)


def failed_deliveries(
    *,
    consumer: str | None = None,
    stream: str | None = None,
    types: Sequence[str] = (),
    state: str | None = None,
    using: str,
) -> QuerySet[FailedDelivery]:
    """Those that match, by consumer and position. ``types``: names and prefixes such as ``orders.*``, or ValueError."""
    matching = _given(consumer=consumer, stream=stream, state=state) & _of_types(types)
    rows: QuerySet[FailedDelivery] = (
        FailedDelivery.objects.using(using).order_by("consumer", "position").filter(matching)
    )
    return rows


def delivery_decisions(
    *, consumer: str | None = None, stream: str | None = None, types: Sequence[str] = (), using: str
) -> QuerySet[DeliveryDecision]:
    """Those that match, the newest first. ``types`` as in failed_deliveries()."""
    matching = _given(consumer=consumer, stream=stream) & _of_types(types)
    rows: QuerySet[DeliveryDecision] = DeliveryDecision.objects.using(using).order_by("-id").filter(matching)
    return rows


def failure_status(failure: FailedDelivery) -> FailureStatus:
    """The row as it is told."""
    return FailureStatus(
        consumer=failure.consumer,
        position=failure.position,
        event_id=failure.event_id,
        type=failure.type,
        stream=failure.stream,
        state=failure.state,
        blocking=failure.blocking,
        attempts=failure.attempts,
        tries=failure.tries,
        crashes=failure.crashes,
        error=failure.error,
        first_failed_at=failure.first_failed_at,
        failed_at=failure.failed_at,
        retry_at=failure.retry_at,
        is_edited=failure.edited_payload is not None,
        request=failure.request,
        requested_by=failure.requested_by,
        requested_reason=failure.requested_reason,
    )


def decision_status(decision: DeliveryDecision) -> DecisionStatus:
    """The row as it is told."""
    return DecisionStatus(
        consumer=decision.consumer,
        position=decision.position,
        event_id=decision.event_id,
        type=decision.type,
        stream=decision.stream,
        decision=decision.decision,
        by=decision.by,
        reason=decision.reason,
        edited_payload=decision.edited_payload,
        at=decision.at,
    )


def delivered_entry(failure: FailedDelivery | DeliveryDecision) -> EventEntry | None:
    """The event as it is in the log; None when it is gone, or another history has another event in its place."""
    entries = EventEntry.objects.using(failure._state.db).filter(log_position__position=failure.position)
    entry: EventEntry | None = entries.filter(event_id=failure.event_id).first()
    return entry


def queued_behind(failure: FailedDelivery) -> Queued:
    """What waits for this event: later ones of its stream, up to the offset of its consumer, that the consumer wants."""
    consumer = declared_consumers().get(failure.consumer)
    if not failure.blocking or consumer is None:
        return Queued(events=0, is_capped=False)
    using = str(failure._state.db)
    waiting = EventEntry.objects.using(using).filter(
        stream=failure.stream,
        log_position__position__gt=failure.position,
        log_position__position__lte=_offset_of(failure, using=using),
    )
    types = type_ids(consumer.events, using=using)
    if types is not None:
        waiting = waiting.filter(log_position__type_id__in=types)
    found = waiting.order_by()[: COUNT_LIMIT + 1].count()
    return Queued(events=min(found, COUNT_LIMIT), is_capped=found > COUNT_LIMIT)


def _given(**values: str | None) -> Q:
    return Q(**{name: value for name, value in values.items() if value is not None})


def _of_types(patterns: Sequence[str]) -> Q:
    wanted = Q()
    for pattern in patterns:
        validate_pattern(pattern)
        if pattern == "*":
            return Q()
        # A range and not LIKE, which on SQLite does not tell A from a. What follows the dot in ASCII is the slash.
        prefix = pattern[:-2]
        wanted |= Q(type__gt=f"{prefix}.", type__lt=f"{prefix}/") if pattern.endswith(".*") else Q(type=pattern)
    return wanted


def _offset_of(failure: FailedDelivery, *, using: str) -> int:
    """Where the slot of the failure stands."""
    rows = ConsumerState.objects.using(using).filter(pk=failure.consumer)
    count = rows.values_list("partitions", flat=True).first() or 1
    partitions = [Partition(consumer=failure.consumer, number=number, count=count) for number in range(count)]
    number = next(p.number for p in partitions if p.slots is None or failure.slot in p.slots)
    progress = OffsetStore(using).load(failure.consumer, partition=number)
    ahead = SlotOffset.objects.using(using).filter(consumer=failure.consumer, slot=failure.slot)
    offsets: list[int] = [*ahead.values_list("offset", flat=True), progress.offset if progress else 0]
    return max(offsets)
