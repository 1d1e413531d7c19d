"""Which events of a batch may leave, where a receiver may take a later one and not an earlier one."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..delivery import DeliveredEntry

__all__ = ["Lanes"]

AHEAD = 100
"""How far behind an entry that waits its turn others may still leave. What has left ahead of one that is then not taken comes
again."""


@dataclass(slots=True)
class _Lane:
    """One stream: how many of its entries are on their way, and what waits behind them."""

    on_their_way: int = 0
    waiting: deque[int] = field(default_factory=deque)
    is_closed: bool = False


class Lanes:
    """Gives the entries of a batch by their numbers in it, each once, and of each stream ``width`` at a time.

    Guarantee, with a width of one: an entry is not given before the one ahead of it in its stream was passed to ``settle``.
    So first deliveries of a stream arrive in order, also when a queue that was full has room again just then. Those of other
    streams do not wait for it, and entries without a stream wait for nobody. Behind an entry that was passed to ``close``
    nothing of its stream is given, and soon nothing at all.
    """

    def __init__(self, entries: Sequence[DeliveredEntry], *, width: int = 1) -> None:
        self._entries = entries
        self._width = width
        self._seen = 0
        self._free: deque[int] = deque()
        self._lanes: dict[str, _Lane] = {}
        self._waiting: list[int] = []

    def take(self) -> int | None:
        """The number of the next entry; None while there is none, which is for ever when none is on its way."""
        if self._free:
            return self._free.popleft()
        while self._seen < len(self._entries) and not self._is_far_ahead():
            number, stream = self._seen, self._entries[self._seen].stream
            self._seen += 1
            if not stream:
                return number
            lane = self._lanes.setdefault(stream, _Lane())
            if not lane.is_closed and not lane.waiting and lane.on_their_way < self._width:
                lane.on_their_way += 1
                return number
            lane.waiting.append(number)
            self._waiting.append(number)
        return None

    def settle(self, number: int) -> None:
        """The receiver has this entry for good: the next one of its stream may leave."""
        stream = self._entries[number].stream
        lane = self._lanes.get(stream)
        if lane is None or lane.is_closed:
            return
        if lane.waiting:
            following = lane.waiting.popleft()
            del self._waiting[bisect_left(self._waiting, following)]
            self._free.append(following)
        elif lane.on_their_way > 1:
            lane.on_their_way -= 1
        else:
            del self._lanes[stream]

    def close(self, number: int) -> None:
        """The receiver will not have this entry: what is behind it in its stream must not arrive first."""
        stream = self._entries[number].stream
        if stream:
            self._lanes.setdefault(stream, _Lane()).is_closed = True

    def _is_far_ahead(self) -> bool:
        return bool(self._waiting) and self._seen - self._waiting[0] >= AHEAD
