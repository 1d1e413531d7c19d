"""Senders for consumers of these tests; what they were sent stands in RECEIVED."""

from __future__ import annotations

import json

from django.core.checks import CheckMessage, Warning  # noqa: A004

from django_eventstore import Batch, EventSender, Outcome

RECEIVED: list[tuple[str, int]] = []
MENDED: set[int] = set()


class Recorder(EventSender):
    """Accepts everything, except events whose number is ``fails_at``, or among several, and is not MENDED."""

    def __init__(self, *, fails_at: int | tuple[int, ...] = (), unavailable: bool = False) -> None:
        self.fails_at = {fails_at} if isinstance(fails_at, int) else set(fails_at)
        self.unavailable = unavailable

    def send(self, batch: Batch) -> Outcome:
        if self.unavailable:
            raise ConnectionError("nobody listens")
        for done, entry in enumerate(batch.entries):
            number = json.loads(entry.payload)["n"]
            if number in self.fails_at - MENDED:
                return Outcome(done=done + 1, refused={entry.position: ValueError(f"cannot take {number}")})
            RECEIVED.append((batch.consumer, number))
        return Outcome(done=len(batch.entries))


class Complaining(Recorder):
    def check(self) -> list[CheckMessage]:
        return [Warning("the exchange has no name", id="tests.W001")]
