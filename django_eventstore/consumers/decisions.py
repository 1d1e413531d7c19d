"""What operators decide about failed deliveries. They ask for it here; the holder of the consumer's lease carries it out.

So a decision never meets a delivery of the same event half way: it is looked at between two of them, by the next tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import count

from django.db.models import QuerySet

from ..conf import get_settings
from ..events import decode, encode_mapping, registry
from ..exceptions import EventStoreError
from ..models import DeliveryRequest, EventEntry, FailedDelivery
from ..models.fields import DatabaseNow

__all__ = ["discard", "retry", "skip"]

Request = DeliveryRequest
Rows = QuerySet[FailedDelivery]


def retry(
    failures: Rows,
    *,
    by: str,
    reason: str = "",
    payload: Mapping[str, object] | None = None,
    per_second: int | None = None,
) -> int:
    """Try these failed deliveries again, with all their attempts before them; returns how many.

    ``payload``: deliver the one failure with this payload in place of that in the log, which stays as it is; both are kept in
    the decision. ``per_second``: spread so many over each second. Raises ValueError and EventEncodingError for a payload
    that could not be stored or that its class does not take.
    """
    if payload is not None:
        failure = failures.get()
        edited = failures.filter(pk=failure.pk)
        edited.update(edited_payload=_edited(failure, payload, using=failures.db))
        return _ask(edited, Request.RETRY, by=by, reason=reason)
    if per_second is None:
        return _ask(failures, Request.RETRY, by=by, reason=reason)
    if per_second < 1:
        raise ValueError(f"per_second must be 1 or more, got {per_second}.")
    asked, first = 0, 0
    for second in count():
        ids = list(failures.filter(pk__gt=first).order_by("pk").values_list("pk", flat=True)[:per_second])
        if not ids:
            return asked
        wait = timedelta(seconds=second)
        asked += _ask(failures.filter(pk__in=ids), Request.RETRY, by=by, reason=reason, wait=wait)
        first = ids[-1]
    raise AssertionError  # count() has no end


def skip(failures: Rows, *, by: str, reason: str = "") -> int:
    """Pass over these events: they are never delivered to their consumers, and their streams go on behind them."""
    return _ask(failures, Request.SKIP, by=by, reason=reason)


def discard(failures: Rows, *, by: str, reason: str) -> int:
    """Pass over these events and all that has queued up behind them. Raises EventStoreError without a reason."""
    if not reason.strip():
        raise EventStoreError("Events are discarded with a reason, which is kept: say why.")
    return _ask(failures, Request.DISCARD, by=by, reason=reason)


def _ask(failures: Rows, request: str, *, by: str, reason: str, wait: timedelta = timedelta(0)) -> int:
    return failures.update(
        request=request,
        requested_by=by[:150],
        requested_reason=reason[:500],
        retry_at=DatabaseNow() + wait if wait else None,
    )


def _edited(failure: FailedDelivery, payload: Mapping[str, object], *, using: str) -> str:
    text = encode_mapping(failure.type, payload, max_bytes=get_settings().MAX_PAYLOAD_BYTES)
    definition = registry.by_type(failure.type)
    if definition is not None:
        version = EventEntry.objects.using(using).values_list("version", flat=True).get(event_id=failure.event_id)
        decode(definition, version, text)
    return text
