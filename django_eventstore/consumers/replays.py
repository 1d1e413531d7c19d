"""Which events a consumer that was moved back has had before: up to a position, but for those that it could not deliver."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..models import FailedDelivery

__all__ = ["Replays"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """``until``: the last position that had been delivered. Of the ``streams`` nothing was from the named position on, since
    they were blocked there, nor were the single ``positions``."""

    until: int = 0
    streams: Mapping[str, int] = field(default_factory=dict)
    positions: frozenset[int] = frozenset()

    def cover(self, position: int, stream: str) -> bool:
        """Whether the event at this position was delivered before."""
        if position > self.until or position in self.positions:
            return False
        return position < self.streams.get(stream, position + 1)

    def after_move(self, offset: int, failures: Iterable[FailedDelivery]) -> Replays:
        """What holds when the consumer is moved back from ``offset``, where it had these open failures above the new one.

        Exceptions of an earlier move count as long as the consumer has not come to them again.
        """
        streams = {stream: position for stream, position in self.streams.items() if position > offset}
        positions = {position for position in self.positions if position > offset}
        for failure in failures:
            if failure.blocking:
                streams[failure.stream] = min(failure.position, streams.get(failure.stream, failure.position))
            else:
                positions.add(failure.position)
        return Replays(until=max(self.until, offset), streams=streams, positions=frozenset(positions))

    def to_text(self) -> str:
        """The exceptions as they are stored, empty if there are none."""
        if not self.streams and not self.positions:
            return ""
        return json.dumps({"streams": dict(self.streams), "positions": sorted(self.positions)})

    @classmethod
    def from_text(cls, until: int, text: str) -> Replays:
        """What ``to_text`` has written, with its ``until``."""
        stored = json.loads(text) if text else {"streams": {}, "positions": []}
        return cls(until=until, streams=stored["streams"], positions=frozenset(stored["positions"]))
