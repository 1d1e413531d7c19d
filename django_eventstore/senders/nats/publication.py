"""One batch on its way: published without waiting, acknowledged by the stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import timedelta

from ...delivery import Batch, DeliveredEntry
from ...exceptions import PermanentError, Unavailable
from ..base import Receipts
from .flight import Flight
from .link import Link, Ready

__all__ = ["Publication"]

CHUNK = 100
"""How many are published between two looks at the lease."""
LOOK = 1.0
"""Most seconds between two looks at the lease while waiting."""


@dataclass(slots=True, kw_only=True)
class Publication:
    """Publishes a batch on a link and keeps its receipts.

    ``make`` makes the message of an entry, by its number in the batch, or raises PermanentError, which refuses the entry and
    none else. ``careful``: the first entry is published and awaited alone, since the stream was in trouble.
    """

    link: Link
    batch: Batch
    receipts: Receipts
    stream: str
    make: Callable[[int, DeliveredEntry], Ready]
    max_in_flight: int
    silence: timedelta
    careful: bool
    _stopped: set[str] = field(default_factory=set, init=False)
    """Streams with an entry that is refused: what is behind it must not arrive first."""
    _is_over: bool = field(default=False, init=False)

    def run(self) -> Flight:
        """Publish all and wait for the answers, as long as the lease is held and nothing fails. Raises when NATS is gone.

        It ends before an entry whose stream has a refused one before it: the consumer knows what becomes of that stream.
        """
        flight = Flight(self.stream, self.receipts)
        self.link.begin(flight)
        first, entries = 0, self.batch.entries
        while first < len(entries) and not (self._is_over or flight.has_failed) and self.batch.still_held():
            alone = self.careful and not flight.written
            count = 1 if alone else min(CHUNK, self.max_in_flight)
            messages = self._make(range(first, min(first + count, len(entries))))
            self._await(flight, self.link.publish(messages, most=self.max_in_flight - len(messages)))
            if alone:
                self._await(flight, self.link.settle())
            first += count
        self._await(flight, self.link.settle())
        return flight

    def _make(self, numbers: range) -> list[Ready]:
        messages = []
        for number in numbers:
            entry = self.batch.entries[number]
            if entry.stream in self._stopped:
                self._is_over = True
                break
            try:
                messages.append(self.make(number, entry))
            except PermanentError as error:
                self.receipts.refuse(number, error)
                self._stopped |= {entry.stream} - {""}
        return messages

    def _await(self, flight: Flight, future: Future[None]) -> None:
        seen, heard = (0, 0), time.monotonic()
        while not wait([future], min(LOOK, self.silence.total_seconds() / 4)).done:
            now = time.monotonic()
            if seen != (flight.written, flight.in_flight):
                seen, heard = (flight.written, flight.in_flight), now
                flight.stopped = flight.stopped or not self.batch.still_held()
            elif now - heard > self.silence.total_seconds():
                future.cancel()
                raise Unavailable(
                    f"NATS: nothing was answered for {self.silence.total_seconds():g} s, "
                    f"and {flight.in_flight} messages are open."
                )
            # Answers to what was published are worth a look, also when the lease has just ended.
            elif not self.batch.still_held():
                future.cancel()
                raise Unavailable("NATS: the lease ended while answers were awaited.")
        future.result()
