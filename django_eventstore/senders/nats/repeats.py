"""Which messages NATS is to drop as repeats, and which are repeated on purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from uuid import UUID

from ...delivery import Batch, DeliveredEntry
from ..base import Receipts

__all__ = ["Repeats"]

MOST = 100_000
"""How many events are remembered that a stream has before one that comes earlier in their stream."""


class Repeats:
    """Gives each message the id by which a stream drops what it has had within its window for duplicates.

    It is the same for the same event of the same consumer, log and epoch: what is sent again since an answer was lost is
    dropped. An event has no id when the stream may have it and is to get it once more all the same: in a replay, behind one
    that was refused, and when it was stored ahead of another one that the stream did not take then.
    """

    def __init__(self) -> None:
        self._ahead: dict[UUID, None] = {}

    def names(self, batch: Batch) -> Callable[[DeliveredEntry], str | None]:
        """What names the messages of a batch. None: it has no id."""
        if batch.catches_up:
            return lambda entry: None
        # Other consumers may fill the same stream with the same events, and other logs with events of the same id.
        whose = hashlib.sha256(f"{batch.log}/{batch.epoch}/{batch.consumer}".encode()).hexdigest()[:12]

        def name(entry: DeliveredEntry) -> str | None:
            if entry.is_replay or entry.event_id in self._ahead:
                return None
            return f"{entry.event_id}/{whose}"

        return name

    def note(self, batch: Batch, receipts: Receipts) -> None:
        """Remember what the stream has of the batch beyond what is claimed, and forget what is claimed."""
        done = receipts.done
        for number, entry in enumerate(batch.entries):
            if number < done:
                self._ahead.pop(entry.event_id, None)
            elif receipts.is_answered(number):
                self._ahead[entry.event_id] = None
        for event_id in list(self._ahead)[: max(0, len(self._ahead) - MOST)]:
            self._ahead.pop(event_id, None)
