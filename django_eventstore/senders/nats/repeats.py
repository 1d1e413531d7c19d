"""Which messages NATS is to drop as repeats, and which are repeated on purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ...delivery import Batch, DeliveredEntry

__all__ = ["names"]


def names(batch: Batch) -> Callable[[DeliveredEntry], str | None]:
    """What gives each message of a batch the id by which a stream drops what it has had within its window for duplicates.

    It is the same for the same event of the same consumer, log and epoch: what is sent again since an answer was lost is
    dropped. None: the stream may have the event and is to get it once more all the same, in a replay, or behind one that was
    refused.
    """
    if batch.catches_up:
        return lambda entry: None
    # Other consumers may fill the same stream with the same events, and other logs with events of the same id.
    whose = hashlib.sha256(f"{batch.log}/{batch.epoch}/{batch.consumer}".encode()).hexdigest()[:12]
    return lambda entry: None if entry.is_replay else f"{entry.event_id}/{whose}"
