"""Blocked and parked streams: what a consumer could not deliver is put aside, and everything else flows.

The head of a blocked stream is a row; the queue behind it is the log itself, from the head to the consumer's offset. Only
the holder of the lease changes them, in transactions that share its token: whoever puts an event aside, delivers it later
and lets its stream go is one and the same worker at a time, so that no event falls between two of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import models
from django.db.models import F

from ..delivery import DeliveryPolicy
from ..exceptions import RetryAfter
from ..models import DeliveryState, EventEntry, FailedDelivery
from ..models.fields import DatabaseNow
from ..signals import delivery_failed, send, stream_blocked, stream_parked, stream_unblocked
from .classification import Fault, fault_of
from .states import due_failures, error_text

__all__ = ["FailureBook", "position_of"]

logger = logging.getLogger(__name__)

State = DeliveryState
Announce = Callable[[], None]
FRESH: dict[str, Any] = {
    "attempts": 0,
    "tries": 0,
    "crashes": 0,
    "error": "",
    "retry_at": None,
    "request": "",
    "requested_by": "",
    "requested_reason": "",
}
"""An event that is tried for the first time, or that somebody wants tried anew."""


@dataclass(slots=True, kw_only=True)
class FailureBook:
    """The open failures of one consumer, or of its partition with these ``slots``, kept by the holder of the lease.

    Which streams are blocked is read once a tenure and known from then on, since nobody else changes it: for an event it
    costs one look into a set. What must not be told before it has committed is collected, and told by ``announce()``.
    """

    consumer: str
    policy: DeliveryPolicy
    slots: range | None
    using: str
    _blocked: set[str] = field(init=False, default_factory=set)
    _suspects: set[int] = field(init=False, default_factory=set)
    _untold: list[Announce] = field(init=False, default_factory=list)

    def load(self) -> None:
        """Read which streams are blocked, and what a worker had in hand when it died."""
        self._blocked, self._suspects = set(), set()
        rows = self._rows().filter(models.Q(blocking=True) | models.Q(state=State.TRYING))
        for position, stream, state in rows.values_list("position", "stream", "state"):
            if state == State.TRYING:
                self._suspects.add(position)
            else:
                self._blocked.add(stream)

    @property
    def has_suspects(self) -> bool:
        """Whether a worker left events behind that it may have died of."""
        return bool(self._suspects)

    @property
    def has_blocked(self) -> bool:
        """Whether any stream waits."""
        return bool(self._blocked)

    def blocks(self, stream: str) -> bool:
        """Whether events of the stream wait behind one that failed."""
        return stream in self._blocked

    def due(self, *, most: int) -> list[FailedDelivery]:
        """Those to be tried now or decided about, the oldest first."""
        rows = FailedDelivery.objects.using(self.using).filter(due_failures(self.consumer, slots=self.slots))
        return list(rows.order_by("position")[:most])

    def open_failures(self) -> int:
        """How many there are, of the whole consumer, counted as far as the policy allows."""
        rows = FailedDelivery.objects.using(self.using).filter(consumer=self.consumer)
        return int(rows.order_by()[: self.policy.max_failures].count())

    def begin_try(self, entry: EventEntry) -> FailedDelivery:
        """Note, before the event is delivered, that a worker has it in hand, so that its death counts."""
        row: FailedDelivery
        row, _ = FailedDelivery.objects.using(self.using).get_or_create(
            consumer=self.consumer,
            position=position_of(entry),
            defaults={**_facts(entry), "state": State.TRYING, "blocking": False},
        )
        self._row(row).update(crashes=F("crashes") + 1)
        row.crashes += 1
        self._suspects.add(row.position)
        return row

    def outlive(self, position: int) -> None:
        """The event was not delivered, and its worker lives: the try that was begun was not deadly."""
        if position in self._suspects:
            self._rows().filter(position=position, crashes__gt=0).update(crashes=F("crashes") - 1)
            self._rows().filter(position=position, crashes=0, state=State.TRYING).delete()

    def end_try(self, position: int) -> None:
        """The event was delivered, in this transaction."""
        if position in self._suspects:
            self._rows().filter(position=position, state=State.TRYING).delete()

    def clear_tries(self, upto: int) -> None:
        """The offset has passed them, so whatever became of them, nobody died of it."""
        if self._suspects:
            self._rows().filter(position__lte=upto, state=State.TRYING).delete()
            self._suspects = {position for position in self._suspects if position > upto}

    def put_aside(self, entry: EventEntry, error: BaseException, *, successor: EventEntry | None = None) -> None:
        """The event failed: block its stream until it is tried again, or park it. In the transaction that passes it by.

        ``successor``: the next event in the queue of its stream, when it was tried from there.
        """
        row = self._rows().filter(position=position_of(entry)).first()
        if row is None:
            row = FailedDelivery(consumer=self.consumer, position=position_of(entry), **_facts(entry))
        fault = fault_of(error)
        row.tries += 1
        if fault is not Fault.CONTENTION:
            row.attempts += 1
        parks = fault is Fault.PERMANENT or row.attempts >= self.policy.max_attempts
        if fault is Fault.UNDECODABLE and self.policy.on_undecodable != "retry":
            parks = True
        delay = error.delay if isinstance(error, RetryAfter) else self.policy.delay(row.tries)
        self._store(row, error_text(error), parks=parks, delay=delay)
        self._untold.append(
            partial(
                send, delivery_failed, sender=FailedDelivery, consumer=self.consumer, position=row.position, error=error
            )
        )
        self._tell_put_aside(row, error, parks=parks, delay=delay)
        self._go_on_without(row, successor)

    def park_suspect(self, row: FailedDelivery, *, successor: EventEntry | None = None) -> None:
        """So many workers have died with this event in hand that it is not begun again. In the transaction that passes it."""
        error = RuntimeError(f"{row.crashes} workers died with this event in hand; it was not begun again.")
        self._store(row, str(error), parks=True, delay=timedelta(0))
        self._tell_put_aside(row, error, parks=True, delay=timedelta(0))
        self._go_on_without(row, successor)

    def move_on(self, row: FailedDelivery, successor: EventEntry | None) -> None:
        """The head is done with, in this transaction: ``successor`` is the new one; without one the stream is free."""
        if successor is None or not row.blocking:
            self._row(row).delete()
            return
        self._row(row).update(
            **_facts(successor), position=position_of(successor), state=State.BLOCKED, edited_payload=None, **FRESH
        )

    def begin_anew(self, row: FailedDelivery) -> None:
        """Somebody wants it tried again, in this transaction: it has all its attempts before it."""
        # Unless somebody wants something else by now, which is looked at next.
        self._row(row).filter(request=row.request).update(state=State.BLOCKED, **FRESH)

    def announce(self) -> None:
        """Tell what has committed."""
        untold, self._untold = self._untold, []
        for tell in untold:
            tell()

    def announce_free(self, stream: str, *, position: int) -> None:
        """Tell that a stream has caught up; ``position`` is that of the event it had waited for last."""
        if stream:
            send(stream_unblocked, sender=FailedDelivery, consumer=self.consumer, stream=stream, position=position)

    def _store(self, row: FailedDelivery, error: str, *, parks: bool, delay: timedelta) -> None:
        # A stream that has gone on without the event is not drawn back to it: what lies between was delivered.
        has_let_go = row.state in (State.BLOCKED, State.PARKED) and not row.blocking
        row.state = State.PARKED if parks else State.BLOCKED
        row.blocking = bool(row.stream) and not has_let_go and (not parks or self.policy.on_parked == "block")
        row.error = error
        if row.blocking:
            self._blocked.add(row.stream)
        if row.pk is None:
            row.save(using=self.using)
        self._row(row).update(
            state=row.state,
            blocking=row.blocking,
            attempts=row.attempts,
            tries=row.tries,
            error=error,
            failed_at=DatabaseNow(),
            retry_at=None if parks else DatabaseNow() + delay,
        )  # and not the request, which somebody may have made meanwhile

    def _go_on_without(self, row: FailedDelivery, successor: EventEntry | None) -> None:
        """A parked event that does not block: what is queued behind it is to be delivered, at once."""
        if row.state == State.PARKED and not row.blocking and successor is not None:
            FailedDelivery.objects.using(self.using).create(
                consumer=self.consumer,
                position=position_of(successor),
                **_facts(successor),
                state=State.BLOCKED,
                blocking=True,
            )

    def _tell_put_aside(self, row: FailedDelivery, error: BaseException, *, parks: bool, delay: timedelta) -> None:
        signal = stream_parked if parks else stream_blocked
        facts: dict[str, Any] = {"consumer": self.consumer, "stream": row.stream, "position": row.position}
        if not parks:
            facts["attempts"] = row.attempts
        self._untold.append(partial(send, signal, sender=FailedDelivery, error=error, **facts))
        what = "parked" if parks else f"next try in {delay.total_seconds():.1f} s"
        logger.error(
            "Consumer %s: event at position %d failed, attempt %d, %s",
            *(self.consumer, row.position, row.attempts, what),
            exc_info=error,
        )

    def _rows(self) -> models.QuerySet[FailedDelivery]:
        rows: models.QuerySet[FailedDelivery] = FailedDelivery.objects.using(self.using).filter(consumer=self.consumer)
        if self.slots is not None:
            rows = rows.filter(slot__gte=self.slots.start, slot__lt=self.slots.stop)
        return rows

    def _row(self, row: FailedDelivery) -> models.QuerySet[FailedDelivery]:
        rows: models.QuerySet[FailedDelivery] = FailedDelivery.objects.using(self.using).filter(pk=row.pk)
        return rows


def position_of(entry: EventEntry) -> int:
    """The position of an entry that was read from the log."""
    assert entry.position is not None  # noqa: S101 - entries that are delivered come from the log
    return entry.position


def _facts(entry: EventEntry) -> dict[str, Any]:
    return {"event_id": entry.event_id, "type": entry.type, "stream": entry.stream, "slot": entry.slot or 0}
