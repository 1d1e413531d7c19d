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


class _BatchFailed(Exception):
    """A batch was rolled back. ``sound``: how many events were handled before the one that failed, if it was one."""

    def __init__(self, *, sound: int | None) -> None:
        super().__init__()
        self.sound = sound


class HandlerSender(EventSender):
    """Runs the handlers of one consumer on the log's database; effects and offset commit together.

    ``transaction="event"``: one transaction per event. ``"batch"``: one for the whole batch; when an event fails it is
    rolled back, what was before the event is repeated without it, and then the event by itself, so that nothing of it
    stays. When it is not known which one failed, at the commit, the batch is repeated event by event. Either way, what of a
    batch takes longer than five seconds is left for the next, so that the bounds of a run and a pause are looked at.

    What fails after the commit, such as a hook of ``transaction.on_commit()``, is logged: the event has been handled, and
    doing it again would do it twice.
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
        self.batch_size = 1_000 if transaction == "batch" else EventSender.batch_size
        self.clock = clock

    def send(self, batch: Batch) -> Outcome:
        if self.transaction == "event" or len(batch.entries) == 1 or not batch.still_held():
            return self._send_one_by_one(batch, batch.entries)
        try:
            return Outcome(done=self._send_together(batch, batch.entries))
        except _BatchFailed as failed:
            logger.info("Consumer %s: a batch failed and is repeated", batch.consumer, exc_info=failed)
            sound = failed.sound
        if sound is None:
            return self._send_one_by_one(batch, batch.entries)
        return self._send_around(batch, batch.entries[:sound], batch.entries[sound])

    def _send_around(self, batch: Batch, sound: Sequence[DeliveredEntry], failed: DeliveredEntry) -> Outcome:
        """What came before the event that failed, and then that one, whose failure now is one of its own."""
        done = 0
        if sound:
            try:
                done = self._send_together(batch, sound)
            except _BatchFailed:
                return self._send_one_by_one(batch, batch.entries)
            if done < len(sound):
                return Outcome(done=done)
        alone = self._send_one_by_one(batch, [failed])
        return Outcome(done=done + alone.done, refused=alone.refused)

    def _send_together(self, batch: Batch, entries: Sequence[DeliveredEntry]) -> int:
        """Returns how many are done. Raises _BatchFailed, and then none is."""
        deadline = self.clock() + LONGEST_BATCH.total_seconds()
        done, in_hand = 0, False
        try:
            with transaction.atomic(using=batch.using):
                batch.begin()
                for entry in entries:
                    in_hand = True
                    self._call(entry)
                    in_hand = False
                    done += 1
                    if self.clock() > deadline or not batch.still_held():
                        break
                self._advance(batch, entries[done - 1])
        except (LeaseLost, Unavailable):
            raise
        except Exception as error:
            # Asked in any case: it also lets go of a connection that broke, in which nothing that follows would commit.
            has_committed = self._has_committed(batch, entries[max(done, 1) - 1], error)
            if in_hand or not has_committed:
                raise _BatchFailed(sound=done if in_hand else None) from error
        return done

    def _send_one_by_one(self, batch: Batch, entries: Sequence[DeliveredEntry]) -> Outcome:
        deadline = self.clock() + LONGEST_BATCH.total_seconds()
        for done, entry in enumerate(entries):
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
                if not self._has_committed(batch, entry, error):
                    return Outcome(done=done + 1, refused={position_of(entry): error})
        return Outcome(done=len(entries))

    def _call(self, entry: DeliveredEntry) -> None:
        for handler in self.handlers:
            if handler.wants(entry.type) and (handler.replay or not entry.is_replay):
                call_handler(handler, entry)

    def _has_committed(self, batch: Batch, entry: DeliveredEntry, error: Exception) -> bool:
        """Whether the transaction that this error came out of stands all the same."""
        has_committed = batch.is_saved(position_of(entry))
        if has_committed:
            logger.error(
                "Consumer %s: an error after the commit of position %d; the event stands, and is not handled again",
                *(batch.consumer, position_of(entry)),
                exc_info=error,
            )
        return has_committed

    def _advance(self, batch: Batch, entry: DeliveredEntry) -> None:
        batch.advance(position_of(entry))
