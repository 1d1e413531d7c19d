"""What a contract sends, and what of it arrives."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from uuid import UUID, uuid4

__all__ = ["Arrival", "ContractEntry"]


@dataclass(slots=True, kw_only=True)
class ContractEntry:
    """An entry as a sender sees it."""

    position: int | None
    payload: str
    stream: str = ""
    event_id: UUID = field(default_factory=uuid4)
    type: str = "contract.Happened"
    version: int = 1
    content_type: str = "application/json"
    stream_version: int | None = None
    metadata: str = "{}"
    timestamp: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    correlation_id: str | None = None
    causation_id: str | None = None
    subject: str | None = None
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as the receiver got it."""

    event_id: str
    payload: str
