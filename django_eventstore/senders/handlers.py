"""The project's own durable handlers, as a sender like any other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from django.db import transaction

from ..delivery import Batch, DeliveredEntry, Outcome
from ..exceptions import LeaseLost, Unavailable
from ..handlers import Handler, TransactionScope, call_handler
from .base import Capabilities, EventSender, position_of

__all__ = ["HandlerSender"]

logger = logging.getLogger(__name__)

LONGEST_BATCH = timedelta(seconds=5)


class HandlerSender(EventSender):
    """Runs the handlers of one consumer on the log's database; effects and offset commit together.

    ``transaction="event"``: one transaction per event. ``"batch"``: one for the whole batch; when an event fails it is
    rolled back and repeated event by event, so that the failing one is found and nothing of it stays. Either way, what of
    a batch takes longer than five seconds is left for the next, so that the bounds of a run and a pause are looked at.
    """

    capabilities = Capabilities(transactional=True)

    def __init__(
        self,
        *,
        handlers: Sequence[Handler],
        transaction: TransactionScope = "event",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handlers = tuple(handlers)
        self.transaction = transaction
        self.clock = clock

    def send(self, batch: Batch) -> Outcome:
        if self.transaction == "batch" and len(batch.entries) > 1 and batch.still_held():
            try:
                return self._send_together(batch)
            except (LeaseLost, Unavailable):
                raise
            except Exception:
                logger.info("Consumer %s: a batch failed and is repeated event by event", batch.consumer, exc_info=True)
        return self._send_one_by_one(batch)

    def _send_together(self, batch: Batch) -> Outcome:
        deadline = self.clock() + LONGEST_BATCH.total_seconds()
        done = 0
        with transaction.atomic(using=batch.using):
            batch.begin()
            for entry in batch.entries:
                self._call(entry)
                done += 1
                if self.clock() > deadline:
                    break
            self._advance(batch, batch.entries[done - 1])
        return Outcome(done=done)

    def _send_one_by_one(self, batch: Batch) -> Outcome:
        deadline = self.clock() + LONGEST_BATCH.total_seconds()
        for done, entry in enumerate(batch.entries):
            if not batch.still_held() or (done and self.clock() > deadline):
                return Outcome(done=done)
            try:
                with transaction.atomic(using=batch.using):
                    batch.begin()
                    self._call(entry)
                    self._advance(batch, entry)
            except (LeaseLost, Unavailable):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is the event's failure
                return Outcome(done=done + 1, refused={position_of(entry): error})
        return Outcome(done=len(batch.entries))

    def _call(self, entry: DeliveredEntry) -> None:
        for handler in self.handlers:
            if handler.wants(entry.type) and (handler.replay or not entry.is_replay):
                call_handler(handler, entry)

    def _advance(self, batch: Batch, entry: DeliveredEntry) -> None:
        batch.advance(position_of(entry))
