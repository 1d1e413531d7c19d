"""What the loop and the senders say to each other: plain data, no Django."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

__all__ = ["Batch", "DeliveredEntry", "Outcome"]


class DeliveredEntry(Protocol):
    """What a sender may read of an entry; ``EventEntry`` is one."""

    event_id: UUID
    type: str
    version: int
    content_type: str
    payload: str
    stream: str
    stream_version: int | None
    metadata: str
    timestamp: datetime
    correlation_id: str | None
    causation_id: str | None
    subject: str | None
    position: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries of one consumer in the order of the log, never empty.

    ``advance(position)`` saves the consumer's offset in the transaction that is open on the log's database, so that a
    sender whose effects live there commits effect and offset together. It raises LeaseLost when another worker holds the
    consumer. Senders to the outside leave it alone: the loop saves the offset after what was accepted.
    """

    consumer: str
    entries: Sequence[DeliveredEntry]
    log: UUID
    epoch: int
    using: str
    advance: Callable[[int], None]
    still_held: Callable[[], bool]
    """Whether the lease still has time; a sender of many chunks asks before each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a batch.

    Each of the first ``done`` entries was accepted, unless ``refused`` names its position with the reason; of the entries
    after them nothing is claimed, and they are sent again.
    """

    done: int
    refused: Mapping[int, BaseException] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.done < 0:
            raise ValueError(f"done must not be negative, got {self.done}")
