"""Senders for consumers of these tests; what they were sent stands in RECEIVED."""

from __future__ import annotations

import json

from django.core.checks import CheckMessage, Warning  # noqa: A004

from django_eventstore import Batch, EventSender, Outcome

RECEIVED: list[tuple[str, int]] = []


class Recorder(EventSender):
    """Accepts everything, except events whose number is ``fails_at``."""

    def __init__(self, *, fails_at: int | None = None, unavailable: bool = False) -> None:
        self.fails_at = fails_at
        self.unavailable = unavailable

    def send(self, batch: Batch) -> Outcome:
        if self.unavailable:
            raise ConnectionError("nobody listens")
        for done, entry in enumerate(batch.entries):
            number = json.loads(entry.payload)["n"]
            if number == self.fails_at:
                return Outcome(done=done + 1, refused={entry.position: ValueError(f"cannot take {number}")})
            RECEIVED.append((batch.consumer, number))
        return Outcome(done=len(batch.entries))


class Complaining(Recorder):
    def check(self) -> list[CheckMessage]:
        return [Warning("the exchange has no name", id="tests.W001")]
