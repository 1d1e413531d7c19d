"""What operators decide about failed deliveries. They ask for it here; the holder of the consumer's lease carries it out.

So a decision never meets a delivery of the same event half way: it is looked at between two of them, by the next tick.
A row stands for another event once its own was delivered, and the stream's next one took its place: what is asked for
names the events by their positions, and leaves alone what came after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

from ..conf import get_settings
from ..events import EventDefinition, decode, encode_mapping, registry
from ..exceptions import EventDecodingError, EventStoreError
from ..models import DeliveryRequest, DeliveryState, EventEntry, FailedDelivery
from ..models.fields import DatabaseNow

__all__ = ["discard", "retry", "skip"]

Request = DeliveryRequest
Failures = Iterable[FailedDelivery]
"""Rows that were loaded, or a queryset of them, which is read once."""

PIECE = 500


def retry(
    failures: Failures,
    *,
    by: str,
    reason: str = "",
    payload: Mapping[str, object] | None = None,
    per_second: int | None = None,
) -> int:
    """Try these failed deliveries again, with all their attempts before them; returns for how many it was asked.

    ``payload``: deliver the one failure with this payload in place of that in the log, which stays as it is; both are kept in
    the decision. ``per_second``: spread so many over each second. Raises EventEncodingError and EventDecodingError for a
    payload that could not be stored or that its class does not take, EventStoreError when the event is gone from the log,
    and ValueError for what makes no sense.
    """
    chosen = _chosen(failures)
    if payload is not None:
        if len(chosen) != 1:
            raise ValueError(f"A payload is edited for one failed delivery, not for {len(chosen)}.")
        return _ask(chosen, Request.RETRY, by=by, reason=reason, edited_payload=_edited(chosen[0], payload))
    if per_second is not None and per_second < 1:
        raise ValueError(f"per_second must be 1 or more, got {per_second}.")
    size = per_second or max(1, len(chosen))
    return sum(
        _ask(chosen[first : first + size], Request.RETRY, by=by, reason=reason, wait=timedelta(seconds=first // size))
        for first in range(0, len(chosen), size)
    )


def skip(failures: Failures, *, by: str, reason: str = "") -> int:
    """Pass over these events: they are never delivered to their consumers, and their streams go on behind them."""
    return _ask(_chosen(failures), Request.SKIP, by=by, reason=reason)


def discard(failures: Failures, *, by: str, reason: str) -> int:
    """Pass over these events and all that has queued up behind them. Raises EventStoreError without a reason."""
    if not reason.strip():
        raise EventStoreError("Events are discarded with a reason, which is kept: say why.")
    return _ask(_chosen(failures), Request.DISCARD, by=by, reason=reason)


def _chosen(failures: Failures) -> list[FailedDelivery]:
    return sorted(failures, key=lambda failure: (failure.position, failure.consumer))


def _ask(
    chosen: Sequence[FailedDelivery],
    request: str,
    *,
    by: str,
    reason: str,
    wait: timedelta = timedelta(0),
    **changes: object,
) -> int:
    def home(failure: FailedDelivery) -> tuple[str, str]:
        return str(failure._state.db), failure.consumer

    values: dict[str, Any] = {
        "request": request,
        "requested_by": _text(by, most=150),
        "requested_reason": _text(reason, most=500),
        "retry_at": DatabaseNow() + wait if wait else None,
        **changes,
    }
    asked = 0
    for (using, consumer), rows in groupby(sorted(chosen, key=home), key=home):
        positions = [row.position for row in rows]
        for first in range(0, len(positions), PIECE):
            meant = FailedDelivery.objects.using(using).filter(
                consumer=consumer, position__in=positions[first : first + PIECE]
            )
            # What a worker has in hand for the first time has not failed: it is delivered, or becomes a failure.
            asked += meant.exclude(state=DeliveryState.TRYING).update(**values)
    return asked


def _text(given: str, *, most: int) -> str:
    return given.replace("\0", "").strip()[:most]


def _edited(failure: FailedDelivery, payload: Mapping[str, object]) -> str:
    text = encode_mapping(failure.type, payload, max_bytes=get_settings().MAX_PAYLOAD_BYTES)
    # By its position: the event id has no index in the log.
    entries = EventEntry.objects.using(failure._state.db).filter(log_position__position=failure.position)
    version = entries.filter(event_id=failure.event_id).values_list("version", flat=True).first()
    if version is None:
        raise EventStoreError(f"The event at position {failure.position} is not in the log any more.")
    definition = registry.by_type(failure.type)
    if definition is not None:
        _require_fit(definition, version, text)
    return text


def _require_fit(definition: EventDefinition, version: int, text: str) -> None:
    try:
        decode(definition, version, text)
    except EventStoreError:
        raise
    except Exception as error:  # the project's own class, which may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise EventDecodingError(type=definition.type, version=version, reason=reason) from error
