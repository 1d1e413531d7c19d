"""What the loop and the senders say to each other: plain data, no Django."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from uuid import UUID

from .events.entry import DeliveredEntry

__all__ = ["Batch", "DeliveredEntry", "DeliveryPolicy", "OnParked", "OnUndecodable", "Outcome"]

OnParked = Literal["block", "continue"]
OnUndecodable = Literal["retry", "park", "pause"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries of one consumer in the order of the log, never empty.

    ``advance(position)`` saves the consumer's offset in the transaction that is open on the log's database, so that a
    sender whose effects live there commits effect and offset together. It raises LeaseLost when another worker holds the
    consumer. Senders to the outside leave it alone: the loop saves the offset after what was accepted.

    ``is_saved(position)`` is asked, outside of the transaction, when one has failed: whether ``advance()`` in it has
    committed all the same, since the answer of the server was lost, or what failed is a hook that ran after the commit.

    ``begin()`` is called first in each such transaction: should this worker be stopped in the middle, its time-outs let the
    database end the transaction when the lease is over.
    """

    consumer: str
    entries: Sequence[DeliveredEntry]
    log: UUID
    epoch: int
    using: str
    advance: Callable[[int], None]
    is_saved: Callable[[int], bool]
    begin: Callable[[], None]
    still_held: Callable[[], bool]
    """Whether the lease still has time and nobody has asked the worker to stop; a sender of many chunks asks before each."""
    partition: int = 0
    """Which of the consumer's partitions they are of; one worker at a time has each."""
    catches_up: bool = False
    """Whether these are of a stream that was blocked, from the event on that was refused: what lies behind that may have been
    accepted before, and is to arrive once more. A sender whose receiver drops repeats must not let it drop these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a batch.

    Each of the first ``done`` entries was accepted, unless ``refused`` names its position with the reason; of the entries
    after them nothing is claimed, and they are sent again. A refused entry stops its stream: those of the stream behind it,
    also accepted ones, are delivered again after it, so that the last to arrive is the newest.
    """

    done: int
    refused: Mapping[int, BaseException] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.done < 0:
            raise ValueError(f"done must not be negative, got {self.done}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """What becomes of an event that its consumer could not deliver.

    Delays grow exponentially with full jitter (Brooker, "Exponential Backoff and Jitter", AWS, 2015): each is drawn evenly
    between nothing and ``base`` doubled with each attempt, at most ``cap``.
    """

    max_attempts: int = 12
    """Failures after which an event is parked, and waits for somebody's decision."""
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)
    on_parked: OnParked = "block"
    """Whether a parked event goes on blocking its stream, or the stream goes on without it."""
    on_undecodable: OnUndecodable = "retry"
    """An event whose type is unknown or whose payload does not fit: a failure like any other, parked at once, or a reason to
    pause the consumer."""
    max_failures: int = 1_000
    """Open failures at which the consumer is paused: then it is not the events that are bad."""
    max_crashes: int = 3
    """Workers that may die of an event before it is parked."""
    draw: Callable[[float, float], float] = random.uniform

    def delay(self, tries: int) -> timedelta:
        """How long to wait after so many failed tries, 1 or more."""
        doublings = min(tries - 1, 62)  # beyond that any base has passed any cap
        longest = min(self.cap.total_seconds(), self.base.total_seconds() * 2**doublings)
        return timedelta(seconds=self.draw(0, longest))
