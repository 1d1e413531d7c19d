"""Blocked streams, tried again: the failed head first, then what has queued up behind it, until the stream is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.db import connections

from ..models import DeliveryDecision, DeliveryRequest, FailedDelivery
from ..store import EventStore
from .definition import Consumer
from .delivering import Delivery, Queue
from .failures import FailureBook, position_of
from .replays import Replays

__all__ = ["Retrial"]

Request = DeliveryRequest
AT_A_TIME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrial:
    """Retries and decisions of one tenure. The consumer's offset is ``saved``, and stays where it is meanwhile.

    So the end of each queue is fixed: its last event and the freeing of its stream commit together, and the next event of
    the stream is one above the offset, which the loop delivers.
    """

    consumer: Consumer
    delivery: Delivery
    book: FailureBook
    using: str
    saved: int
    ahead: Mapping[int, int]
    """Slots that are ahead of the offset: what they passed by on their way is in the queues of their streams."""
    replays: Replays
    must_stop: Callable[[], bool]

    def run(self) -> bool:
        """Look at everything that is due, as long as time allows. Returns whether the consumer can go on."""
        for row in self.book.due(most=AT_A_TIME):
            if self.must_stop():
                return True
            can_go_on = self._settle(row)
            self.book.load()
            if not can_go_on:
                return False
        return True

    def _settle(self, row: FailedDelivery) -> bool:
        queue = self._read(row)
        if not queue.entries or position_of(queue.entries[0]) != row.position:
            # Retention or erasure has removed it, or the consumer's filter does not want it any more.
            return self._pass_over(queue, "gone", reason="The event is not in the log any more, or not wanted.")
        if row.request in (Request.SKIP, Request.DISCARD):
            return self._pass_over(queue, row.request, by=row.requested_by, reason=row.requested_reason)
        if row.request == Request.RETRY:
            self._begin_anew(row)
        return self._deliver(queue)

    def _read(self, row: FailedDelivery) -> Queue:
        """The head and, where it blocks a stream, what is behind it, one more than is delivered at a time."""
        page = EventStore(self.using).get(
            row.position - 1,
            AT_A_TIME + 1 if row.blocking else 1,
            types=self.consumer.events,
            stream=row.stream if row.blocking else None,
            epoch=self.delivery.epoch,
        )
        last = max(self.saved, self.ahead.get(row.slot, 0)) if row.blocking else row.position
        entries = [entry for entry in page.entries if position_of(entry) <= last]
        for entry in entries:
            entry.is_replay = self.replays.cover(position_of(entry), entry.stream)
        if row.edited_payload is not None and entries:
            entries[0].payload = row.edited_payload
        return Queue(row=row, entries=entries)

    def _deliver(self, queue: Queue) -> bool:
        """First the head alone: should it fail again, nothing behind it may have arrived before it."""
        alone = True
        while True:
            entries = queue.entries[:1] if alone else queue.entries[:AT_A_TIME]
            sent = self.delivery.send(entries, save=self._saver(queue), queue=queue)
            if sent.stopped:
                return False
            failed, nothing = sent.accepted < sent.done, not sent.done and not sent.again
            if failed or nothing or self.must_stop():
                return True
            row = FailedDelivery.objects.using(self.using).filter(pk=queue.row.pk).first()
            if row is None:
                self.book.announce_free(queue.row.stream, position=position_of(entries[-1]))
                return True
            alone = alone and sent.again
            queue = self._read(row)

    def _saver(self, queue: Queue) -> Callable[[int], None]:
        def save(position: int) -> None:
            if connections[self.using].in_atomic_block:  # that of the sender, with the effect
                self.delivery.tenure.require()
                self.book.move_on(queue.row, queue.successor(position))
                return
            with self.delivery.tenure.transaction():
                self.book.move_on(queue.row, queue.successor(position))

        return save

    def _begin_anew(self, row: FailedDelivery) -> None:
        """Somebody wants it tried again: it has all its attempts before it."""
        with self.delivery.tenure.transaction():
            self._write_down(
                row,
                "retry" if row.edited_payload is None else "edit",
                by=row.requested_by,
                reason=row.requested_reason,
            )
            self.book.begin_anew(row)

    def _pass_over(self, queue: Queue, decision: str, *, by: str = "", reason: str) -> bool:
        """The head is not delivered; discarded, neither is what has queued up behind it. The rest is delivered now."""
        row = queue.row
        with self.delivery.tenure.transaction():
            self._write_down(row, decision, by=by, reason=reason)
            successor = None if decision == Request.DISCARD else queue.successor(row.position)
            self.book.move_on(row, successor)
        following = FailedDelivery.objects.using(self.using).filter(pk=row.pk).first()
        return following is None or self._deliver(self._read(following))

    def _write_down(self, row: FailedDelivery, decision: str, *, by: str, reason: str) -> None:
        DeliveryDecision.objects.using(self.using).create(
            consumer=row.consumer,
            position=row.position,
            event_id=row.event_id,
            type=row.type,
            stream=row.stream,
            decision=decision,
            by=by,
            reason=reason,
            edited_payload=row.edited_payload if decision == "edit" else None,
        )
