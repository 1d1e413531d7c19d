"""What keeps a consumer from running, in one place: a pause, or its sender being unavailable.

    running ── pause() ──▶ paused ── resume() ──▶ running
    running ── wait() ───▶ waiting ── the time is over, or resume() ──▶ running ── clear_wait() after a success

A single event never keeps its consumer: see ``failures``.
"""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import connections
from django.db.models import Case, Exists, F, Q, Value, When
from django.db.models.functions import Coalesce

from ..delivery import DeliveryPolicy
from ..models import ConsumerState, DeliveryState, FailedDelivery, SlotOffset
from ..models.fields import DatabaseNow
from ..signals import consumer_paused, consumer_resumed, consumer_waiting, delivery_failed, send
from .replays import Replays

__all__ = [
    "Readiness",
    "clear_wait",
    "due_failures",
    "error_text",
    "is_plainly_ready",
    "note_filter",
    "pause",
    "readiness",
    "resume",
    "wait",
]

logger = logging.getLogger(__name__)

LONGEST_ERROR = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What one look at a consumer's row tells."""

    ready: bool = True
    """Neither paused nor waiting."""
    failed: bool = False
    """Its sender was unavailable when it was last asked."""
    partitions: int = 1
    replays: Replays = field(default_factory=Replays)
    events: str = ""
    has_failures: bool = False
    """Some of its events are blocked or parked."""
    has_due: bool = False
    """Some of them are to be tried now, or somebody decided about them."""
    is_apart: bool = False
    """Some of its slots are ahead of their partition."""


def due_failures(consumer: str, *, slots: range | None = None) -> Q:
    """The failed deliveries that are to be looked at now, by the database's clock; of all slots or those of a partition."""
    now = Q(retry_at__isnull=True) | Q(retry_at__lte=DatabaseNow())
    decided = Q(state=DeliveryState.BLOCKED) | ~Q(request="")
    ours = Q() if slots is None else Q(slot__gte=slots.start, slot__lt=slots.stop)
    return Q(consumer=consumer) & ours & now & decided


def readiness(consumer: str, *, slots: range | None = None, using: str) -> Readiness:
    """One query; the database's clock decides when a wait is over. ``slots``: the partition whose failures are asked for."""
    waits = Case(
        When(Q(paused_at__isnull=False) | Q(retry_at__gt=DatabaseNow()), then=Value(True)), default=Value(False)
    )
    failures = FailedDelivery.objects.filter(consumer=consumer)
    found = (
        ConsumerState.objects.using(using)
        .filter(consumer=consumer)
        .values_list(
            waits,
            "attempts",
            "partitions",
            "replay_until",
            "replay_except",
            "events",
            Exists(failures),
            Exists(failures.filter(due_failures(consumer, slots=slots))),
            Exists(SlotOffset.objects.filter(consumer=consumer)),
        )
        .first()
    )
    if found is None:  # no worker has ever held it
        return Readiness()
    waiting, attempts, partitions, until, exceptions, events, has_failures, has_due, is_apart = found
    return Readiness(
        ready=not waiting,
        failed=attempts > 0,
        partitions=partitions,
        replays=Replays.from_text(until, exceptions),
        events=events,
        has_failures=has_failures,
        has_due=has_due,
        is_apart=is_apart,
    )


# Asked before each batch of a follower, where the ORM would take more time than the database.
PLAINLY_READY = (
    "SELECT 1 FROM eventstore_consumer_state "
    "WHERE consumer = %s AND partitions = %s AND paused_at IS NULL AND retry_at IS NULL"
)


def is_plainly_ready(consumer: str, *, partitions: int, using: str) -> bool:
    """Whether it has so many partitions and is neither paused nor waits, nor has waited before."""
    with connections[using].cursor() as cursor:
        cursor.execute(PLAINLY_READY, [consumer, partitions])
        return cursor.fetchone() is not None


def error_text(error: BaseException) -> str:
    """The traceback as it is stored, its end if it is long."""
    # A file's name may hold what no database stores.
    text = "".join(traceback.format_exception(error)).encode(errors="backslashreplace").decode()
    return text[-LONGEST_ERROR:].replace("\0", "\\0")


def wait(consumer: str, *, error: BaseException, policy: DeliveryPolicy, using: str) -> timedelta:
    """Its sender is unavailable: put the error on the consumer's row and let it wait, longer each time.

    No event is blamed and none loses an attempt. Returns how long. Partitions that find it out at the same time count once.
    """
    rows = ConsumerState.objects.using(using).filter(pk=consumer)
    state, _ = ConsumerState.objects.using(using).get_or_create(consumer=consumer)
    attempts = state.attempts + 1
    delay = policy.delay(attempts)
    # Who finds it waiting already came late: the wait that another has just begun counts for both.
    rows.filter(Q(retry_at__isnull=True) | Q(retry_at__lte=DatabaseNow())).update(
        waiting_since=Coalesce(F("waiting_since"), DatabaseNow()),
        attempts=attempts,
        error=error_text(error),
        retry_at=DatabaseNow() + delay,
    )
    logger.error(
        "Consumer %s: sender unavailable, attempt %d, next in %.1f s",
        consumer,
        attempts,
        delay.total_seconds(),
        exc_info=error,
    )
    send(delivery_failed, sender=ConsumerState, consumer=consumer, position=None, error=error)
    send(consumer_waiting, sender=ConsumerState, consumer=consumer, error=error, attempts=attempts, retry_after=delay)
    return delay


def clear_wait(consumer: str, *, using: str) -> None:
    """Its sender has accepted something again."""
    ConsumerState.objects.using(using).filter(pk=consumer, attempts__gt=0).update(
        waiting_since=None, attempts=0, error="", retry_at=None
    )


def pause(consumer: str, *, reason: str, using: str) -> None:
    """Stop delivering for the consumer after the batch in hand, until resume()."""
    ConsumerState.objects.using(using).update_or_create(
        consumer=consumer, defaults={"paused_at": DatabaseNow(), "paused_reason": reason[:500]}
    )
    send(consumer_paused, sender=ConsumerState, consumer=consumer, reason=reason)


def resume(consumer: str, *, using: str) -> None:
    """Deliver again, at once, also when the consumer was waiting for its sender."""
    ConsumerState.objects.using(using).filter(pk=consumer).update(paused_at=None, paused_reason="", retry_at=None)
    send(consumer_resumed, sender=ConsumerState, consumer=consumer)


def note_filter(consumer: str, events: tuple[str, ...], *, known: str, using: str) -> None:
    """Remember the filter that the consumer runs with, for the check that notices a change."""
    text = json.dumps(events)
    if text != known:
        ConsumerState.objects.using(using).filter(pk=consumer).update(events=text)
