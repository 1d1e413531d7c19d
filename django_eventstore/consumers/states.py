"""What keeps a consumer from running: a pause, or a failure it waits for. Written in one place."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass

from django.db.models import Case, Q, Value, When

from ..conf import get_settings
from ..models import ConsumerState
from ..models.fields import DatabaseNow
from ..signals import delivery_failed, send
from .retry import RetryPolicy

__all__ = ["Readiness", "clear_failure", "pause", "readiness", "record_failure", "resume"]

logger = logging.getLogger(__name__)

LONGEST_ERROR = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether a consumer may run now, and whether a failure is on record."""

    ready: bool
    failed: bool


def readiness(consumer: str, *, using: str) -> Readiness:
    """Paused and waiting consumers are not ready; the database's clock decides when the wait is over."""
    waits = Case(
        When(Q(paused_at__isnull=False) | Q(retry_at__gt=DatabaseNow()), then=Value(True)), default=Value(False)
    )
    rows = ConsumerState.objects.using(using).filter(consumer=consumer)
    state = rows.values_list(waits, "attempts").first()
    if state is None:
        return Readiness(ready=True, failed=False)
    return Readiness(ready=not state[0], failed=state[1] > 0)


def record_failure(consumer: str, *, position: int | None, error: BaseException, using: str) -> None:
    """Put the error on the consumer's row and let it wait; the delay grows while the same event keeps failing."""
    settings = get_settings()
    state, _ = ConsumerState.objects.using(using).get_or_create(consumer=consumer)
    attempts = state.attempts + 1 if state.failed_position == position and state.attempts else 1
    delay = RetryPolicy(base=settings.RETRY_BASE, cap=settings.RETRY_CAP).delay(attempts)
    # A file's name may hold what no database stores.
    text = "".join(traceback.format_exception(error)).encode(errors="backslashreplace").decode()
    ConsumerState.objects.using(using).filter(pk=consumer).update(
        failed_at=DatabaseNow(),
        failed_position=position,
        attempts=attempts,
        error=text[-LONGEST_ERROR:].replace("\0", "\\0"),
        retry_at=DatabaseNow() + delay,
    )
    where = f"event at position {position}" if position is not None else "sender unavailable"
    logger.error(
        "Consumer %s: %s, attempt %d, next in %.1f s", consumer, where, attempts, delay.total_seconds(), exc_info=error
    )
    send(delivery_failed, sender=ConsumerState, consumer=consumer, position=position, error=error)


def clear_failure(consumer: str, *, using: str) -> None:
    """Forget the failure: what failed was delivered, or was skipped."""
    ConsumerState.objects.using(using).filter(pk=consumer).update(
        failed_at=None, failed_position=None, attempts=0, error="", retry_at=None
    )


def pause(consumer: str, *, reason: str, using: str) -> None:
    """Stop delivering for the consumer after the batch in hand, until resume()."""
    ConsumerState.objects.using(using).update_or_create(
        consumer=consumer, defaults={"paused_at": DatabaseNow(), "paused_reason": reason[:500]}
    )


def resume(consumer: str, *, using: str) -> None:
    """Deliver again, at once, also when the consumer was waiting for a retry."""
    ConsumerState.objects.using(using).filter(pk=consumer).update(paused_at=None, paused_reason="", retry_at=None)
