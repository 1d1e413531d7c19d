"""What the broker has answered to what was published: acks, nacks and returns, in whatever order and number they come."""

from __future__ import annotations

from ...delivery import DeliveredEntry
from ...exceptions import EventStoreError
from ..base import Receipts
from ..lanes import Lanes

__all__ = ["Confirms"]


class Confirms:
    """The bookkeeping of one batch. A delivery tag is the number of a publish on its channel: 1, 2, 3, …

    An ack or nack with ``multiple`` answers every open tag up to its own, and all of them with tag 0. What answers a tag that
    is not open (of an earlier batch, or answered before) changes nothing. A returned message is acked as well, afterwards:
    it had no queue to go to, and is a refusal all the same.
    """

    def __init__(self, receipts: Receipts, lanes: Lanes) -> None:
        self._receipts = receipts
        self._lanes = lanes
        self._open: dict[int, int] = {}
        self._oldest = 0
        self._numbers: dict[str, int] = {}
        self.nacked: list[int] = []
        """Numbers of the entries that the broker could not take."""

    def published(self, tag: int, number: int, entry: DeliveredEntry) -> None:
        """The entry with this number in the batch was published with this tag."""
        self._open[tag] = number
        self._oldest = self._oldest or tag
        self._numbers[str(entry.event_id)] = number

    @property
    def in_flight(self) -> int:
        """How many are not answered yet."""
        return len(self._open)

    @property
    def only_open(self) -> int | None:
        """The number of the entry that is not answered, when it is a single one."""
        return next(iter(self._open.values())) if len(self._open) == 1 else None

    def ack(self, tag: int, multiple: bool) -> None:
        """The broker has it: on disk for a durable queue, on a majority of the replicas for a quorum queue."""
        for number in self._answered(tag, multiple):
            self._receipts.accept(number)
            self._lanes.settle(number)

    def nack(self, tag: int, multiple: bool) -> None:
        """The broker could not take it: a queue is full and rejects, or it has a trouble of its own."""
        for number in self._answered(tag, multiple):
            self.nacked.append(number)
            self._lanes.close(number)

    def returned(self, event_id: str, reason: str) -> None:
        """No queue was bound for it."""
        number = self._numbers.get(event_id)
        if number is not None:
            self._receipts.refuse(number, EventStoreError(reason))
            self._lanes.close(number)

    def _answered(self, tag: int, multiple: bool) -> list[int]:
        if not multiple:
            number = self._open.pop(tag, None)
            return [] if number is None else [number]
        last = tag or max(self._open, default=0)
        if not self._oldest or last < self._oldest:
            return []
        # By tag and not by the order in the dict: taking from its front again and again would walk over the gaps.
        found = [self._open.pop(each) for each in range(self._oldest, last + 1) if each in self._open]
        self._oldest = last + 1
        return found
